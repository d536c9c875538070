//! Models from a hub, by their id: fetched once into the cache that other tools share
//! (`models--owner--name/{blobs,refs,snapshots}`), read from there ever after.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IsTerminal};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, thread};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo};
use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use indicatif::ProgressBar;
use serde::Deserialize;

use crate::error::{Error, Result};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
const OPTIONAL: [&str; 4] =
    ["generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"];
/// How often a download is taken up again after its connection broke.
const RETRIES: u32 = 4;

/// Where models come from and where they are kept.
#[derive(Clone, Debug)]
pub struct Hub {
    /// The hub's address, without a slash at its end.
    pub endpoint: String,
    /// The cache directory.
    pub cache: PathBuf,
    /// The access token, for private and gated models.
    pub token: Option<String>,
    /// Whether only the cache may be used.
    pub offline: bool,
}

/// The directory of the model `id` (`owner/name` or `owner/name@revision`), fetched where it is not
/// cached, as the environment says (see [`Hub::from_env`]).
pub fn fetch(id: &str, progress: bool) -> Result<PathBuf> {
    Hub::from_env().fetch(id, progress)
}

/// Whether `s` is the id of a model on a hub, rather than a path: `owner/name`, perhaps with a
/// revision after `@`, and nothing of that name here.
pub fn looks_like_id(s: &str) -> bool {
    parse(s).is_some() && !Path::new(s).exists()
}

impl Hub {
    /// The settings in `HF_ENDPOINT`, `HF_HUB_CACHE`, `HF_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and
    /// `HF_HUB_OFFLINE`; without `HF_TOKEN`, the token is the one that a login left in `HF_HOME`.
    pub fn from_env() -> Self {
        Self::from_vars(|name| env::var(name).ok())
    }

    fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name: &str| var(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let home = var("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let user = || env::home_dir().unwrap_or_default().join(".cache");
            var("XDG_CACHE_HOME").map_or_else(user, PathBuf::from).join("huggingface")
        });
        let token_path = var("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let saved = || Some(fs::read_to_string(token_path).ok()?.trim().to_owned()).filter(|t| !t.is_empty());
        let offline = var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
        Hub {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            cache: var("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: var("HF_TOKEN").or_else(saved),
            offline: ["1", "true", "yes", "on"].contains(&offline.as_str()),
        }
    }

    /// The directory of the model `id` with its configuration, tokenizer and weights. A model that
    /// the cache has whole is taken from there without a question to the hub.
    pub fn fetch(&self, id: &str, progress: bool) -> Result<PathBuf> {
        let fail = |problem: String| Error::Hub { id: id.to_owned(), problem };
        let (name, revision) = parse(id).ok_or_else(|| {
            fail("is not the id of a model: expected owner/name or owner/name@revision".to_owned())
        })?;
        let repo = Repo::with_revision(name.to_owned(), RepoType::Model, revision.to_owned());
        let root = std::path::absolute(&self.cache).map_err(|e| Error::io(&self.cache, e))?;
        let cache = Cache::new(root.clone()).repo(repo.clone());
        let folder = root.join(repo.folder_name());

        let cached = cached_commit(&folder, revision).map(|commit| cache.pointer_path(&commit));
        let missing = match &cached {
            Some(dir) => missing(dir).map_err(&fail)?,
            None => Some("any file of it".to_owned()),
        };
        if let (Some(dir), None) = (cached, &missing) {
            return Ok(dir);
        }
        if self.offline {
            return Err(fail(format!(
                "the cache in {} does not have {}, and HF_HUB_OFFLINE forbids to fetch it: unset that \
                 variable, or point HF_HOME or HF_HUB_CACHE at a cache that has the model",
                root.display(),
                missing.unwrap_or_default()
            )));
        }
        // Found out before anything is fetched, so that errors after this are the network's.
        let unwritable = |e: std::io::Error| fail(unwritable(&root, &e));
        fs::create_dir_all(folder.join("blobs")).map_err(unwritable)?;
        let probe = folder.join(format!(".write-{}", std::process::id()));
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).map_err(unwritable)?;

        let download = Download { hub: self, name, root: &root, cache, progress };
        // The client library asserts what it expects of a hub.
        let fetched = catch_unwind(AssertUnwindSafe(|| download.model(repo)));
        fetched
            .unwrap_or_else(|_| Err(format!("{} does not answer as a hub does", self.endpoint)))
            .map_err(fail)
    }
}

/// One model on its way into the cache. Problems are texts, for [`Error::Hub`].
struct Download<'a> {
    hub: &'a Hub,
    name: &'a str,
    root: &'a Path,
    cache: CacheRepo,
    progress: bool,
}

impl Download<'_> {
    fn model(&self, repo: Repo) -> Result<PathBuf, String> {
        let api = ApiBuilder::from_cache(Cache::new(self.root.to_owned()))
            .with_endpoint(self.hub.endpoint.clone())
            .with_token(self.hub.token.clone())
            .build()
            .map_err(|e| self.problem("", &e))?;
        let info = api.repo(repo).info().map_err(|e| self.problem("", &e))?;
        if !is_plain(&info.sha) || info.sha.contains('/') {
            return Err(format!("the hub gives the commit {:?}, expected a hash", info.sha));
        }
        // Pinned to one commit: a branch may move while its files come in.
        let pinned = Repo::with_revision(self.name.to_owned(), RepoType::Model, info.sha.clone());
        let (repo, dir) = (api.repo(pinned), self.cache.pointer_path(&info.sha));
        let has = |file: &str| info.siblings.iter().any(|s| s.rfilename == file);
        for file in REQUIRED {
            if !has(file) {
                return Err(format!("has no {file}, which is needed"));
            }
        }
        // The weights last: with them, the cache has the model whole.
        for file in REQUIRED.into_iter().chain(OPTIONAL).filter(|file| has(file)) {
            self.file(&api, &repo, &dir, file)?;
        }
        if has(WEIGHTS) {
            self.file(&api, &repo, &dir, WEIGHTS)?;
        } else if has(INDEX) {
            self.file(&api, &repo, &dir, INDEX)?;
            let shards = shards(&dir)?;
            if let Some(absent) = shards.iter().find(|shard| !has(shard)) {
                return Err(format!("its {INDEX} names {absent:?}, which the hub does not have"));
            }
            for shard in &shards {
                self.file(&api, &repo, &dir, shard)?;
            }
        } else {
            return Err(format!(
                "has neither {WEIGHTS} nor {INDEX}: expected weights in the safetensors format"
            ));
        }
        if let Some(file) = missing(&dir)? {
            return Err(format!("{file} is gone from the cache in {}: try again", self.root.display()));
        }
        self.cache.create_ref(&info.sha).map_err(|e| unwritable(self.root, &e))?;
        Ok(dir)
    }

    /// Has one file in the snapshot `dir`, going on where a broken connection left off.
    fn file(&self, api: &Api, repo: &ApiRepo, dir: &Path, file: &str) -> Result<(), String> {
        let mut tries = 0..RETRIES;
        while !dir.join(file).is_file() {
            let (problem, broken) = match self.attempt(api, repo, dir, file) {
                Ok(true) => return Ok(()),
                Ok(false) => (format!("{file}: what came has the wrong length; try again"), true),
                Err(e) => (self.problem(file, &e), is_broken(&e)),
            };
            match tries.next() {
                Some(n) if broken => thread::sleep(Duration::from_millis(250 << n)),
                _ => return Err(problem),
            }
        }
        Ok(())
    }

    /// Tries to download one file; false where it came with another length than announced.
    fn attempt(&self, api: &Api, repo: &ApiRepo, dir: &Path, file: &str) -> Result<bool, ApiError> {
        let meta = api.metadata(&repo.url(file))?;
        if !is_plain(meta.etag()) {
            return Err(ApiError::InvalidHeader("etag"));
        }
        let (blob, pointer) = (self.cache.blob_path(meta.etag()), dir.join(file));
        let length = |path: &Path| fs::metadata(path).ok().map(|m| m.len());
        // A part that is not shorter than the file has no rest to ask for, and a pointer to a blob
        // that is gone keeps a new one from its place: the client library stumbles over both.
        let part = blob.with_extension("part");
        if length(&part).is_some_and(|n| n >= meta.size() as u64) {
            fs::remove_file(&part)?;
        }
        if pointer.symlink_metadata().is_ok() && !pointer.exists() {
            fs::remove_file(&pointer)?;
        }
        let show = self.progress && std::io::stderr().is_terminal();
        let bar = if show { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let downloaded = repo.download_with_progress(file, bar)?;
        let whole = downloaded == pointer && length(&pointer) == Some(meta.size() as u64);
        if !whole {
            // A server that ignores where to go on sends all of the file after the part.
            for wrong in [&downloaded, &blob] {
                fs::remove_file(wrong)
                    .or_else(|e| if e.kind() == ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            }
        }
        Ok(whole)
    }

    /// What went wrong with `file` (or with the model itself) and what to do.
    fn problem(&self, file: &str, e: &ApiError) -> String {
        let endpoint = &self.hub.endpoint;
        let what = if file.is_empty() { String::new() } else { format!("{file}: ") };
        let network = |e: &dyn std::fmt::Display| {
            format!(
                "{what}cannot be fetched from {endpoint}: {e}; check the network and HF_ENDPOINT, and try \
                 again (what has come is kept), or set HF_HUB_OFFLINE=1 to use the cache alone"
            )
        };
        match e {
            ApiError::RequestError(e) => match **e {
                ureq::Error::StatusCode(404) => {
                    format!(
                        "{what}not found on {endpoint} (404): check the spelling of the id and its revision"
                    )
                }
                ureq::Error::StatusCode(code @ (401 | 403)) => {
                    let token = match self.hub.token {
                        Some(_) => {
                            "the token in use (HF_TOKEN, or the one saved in HF_HOME) does not open it"
                        }
                        None => "set HF_TOKEN to an access token",
                    };
                    format!(
                        "{what}{endpoint} refuses access ({code}): the model does not exist, or it is private or \
                         gated; accept its terms on {endpoint}/{}, and {token}",
                        self.name
                    )
                }
                ureq::Error::Json(_) => format!("{what}{endpoint} does not answer as a hub does: {e}"),
                _ => network(e),
            },
            ApiError::IoError(e) if is_disk(e.kind()) => unwritable(self.root, e),
            ApiError::IoError(e) => network(e),
            ApiError::LockAcquisition(_) => {
                format!("{what}another process is downloading it: wait for it to end, and try again")
            }
            _ => format!("{what}{endpoint} does not answer as a hub does: {e}"),
        }
    }
}

/// Whether an error is that of a connection that may work the next time.
fn is_broken(e: &ApiError) -> bool {
    match e {
        ApiError::IoError(e) => !is_disk(e.kind()),
        ApiError::InvalidResume => true,
        ApiError::RequestError(e) => match **e {
            // 416: the rest of a part was asked for, and the file has none there.
            ureq::Error::StatusCode(code) => code == 416 || code == 429 || code >= 500,
            _ => true,
        },
        _ => false,
    }
}

fn is_disk(kind: ErrorKind) -> bool {
    use ErrorKind::*;
    matches!(
        kind,
        PermissionDenied
            | ReadOnlyFilesystem
            | StorageFull
            | QuotaExceeded
            | FileTooLarge
            | NotFound
            | AlreadyExists
            | NotADirectory
            | IsADirectory
    )
}

fn unwritable(root: &Path, e: &std::io::Error) -> String {
    format!(
        "cannot write to the cache in {}: {e}; set HF_HOME or HF_HUB_CACHE to a directory that can be written \
         and has room",
        root.display()
    )
}

/// The name and the revision in `owner/name@revision`; without one, the revision is `main`.
fn parse(id: &str) -> Option<(&str, &str)> {
    let (name, revision) = id.split_once('@').unwrap_or((id, "main"));
    let (owner, model) = name.split_once('/')?;
    let valid = |s: &str| is_plain(s) && !s.contains('/') && !s.starts_with('.') && !s.contains("..");
    (valid(owner) && valid(model) && is_plain(revision)).then_some((name, revision))
}

/// Whether `path` names a file below the directory that it is joined to, on every system, and needs
/// no escape in an address.
fn is_plain(path: &str) -> bool {
    path.split('/').all(|part| {
        !["", ".", ".."].contains(&part)
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    })
}

/// The commit that a revision stands for in a model's folder of the cache.
fn cached_commit(folder: &Path, revision: &str) -> Option<String> {
    let commit = match fs::read_to_string(folder.join("refs").join(revision)) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.to_owned(),
    };
    (is_plain(&commit) && folder.join("snapshots").join(&commit).is_dir()).then_some(commit)
}

/// The first file that a snapshot lacks to be a whole model.
fn missing(dir: &Path) -> Result<Option<String>, String> {
    let absent = |file: &&str| !dir.join(file).is_file();
    if let Some(file) = REQUIRED.iter().find(|file| absent(file)) {
        return Ok(Some((*file).to_owned()));
    }
    if !absent(&WEIGHTS) {
        return Ok(None);
    }
    if absent(&INDEX) {
        return Ok(Some(WEIGHTS.to_owned()));
    }
    Ok(shards(dir)?.into_iter().find(|shard| absent(&shard.as_str())))
}

/// The weight files that a snapshot's index names.
fn shards(dir: &Path) -> Result<Vec<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = dir.join(INDEX);
    let bytes = fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let index: Index = serde_json::from_slice(&bytes)
        .map_err(|e| format!("its {INDEX} is not one: {e}; expected an object with a \"weight_map\""))?;
    let mut shards: Vec<String> = index.weight_map.into_values().collect();
    shards.sort();
    shards.dedup();
    match shards.iter().find(|shard| !is_plain(shard) || !shard.ends_with(".safetensors")) {
        Some(bad) => {
            Err(format!("its {INDEX} names the file {bad:?}, expected a .safetensors file beside it"))
        }
        None if shards.is_empty() => Err(format!("its {INDEX} names no file")),
        None => Ok(shards),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids() {
        for id in ["owner/name", "HuggingFaceTB/SmolLM2-135M", "a/b@v1.0", "a/b@refs/pr/1", "a_b/c.d-e"] {
            assert!(looks_like_id(id), "{id}");
        }
        for path in [
            "",
            "name",
            "a/b/c",
            "/a/b",
            "./a",
            "../a",
            "a/..",
            "a/b..c",
            ".a/b",
            "a/.b",
            "a\\b/c",
            "C:/b",
            "a/b@",
            "a/b@../c",
            "a/b@/c",
            "a/b@c@d",
            "é/b",
            "a b/c",
            "a/",
            "/",
            "a/b?c",
            "a/b%2e",
            "src/lib.rs",
        ] {
            assert!(!looks_like_id(path), "{path}");
        }
    }

    #[test]
    fn settings() {
        let hub = |vars: &[(&str, &str)]| {
            let vars: BTreeMap<_, _> = vars.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
            Hub::from_vars(|name| vars.get(name).cloned())
        };
        let home = tempfile::tempdir().unwrap();
        let path = home.path().to_str().unwrap();
        fs::write(home.path().join("token"), " saved\n").unwrap();
        let found = hub(&[("HF_HOME", path), ("HF_ENDPOINT", "http://mirror/")]);
        assert_eq!(found.cache, home.path().join("hub"));
        assert_eq!(
            (found.endpoint.as_str(), found.token.as_deref(), found.offline),
            ("http://mirror", Some("saved"), false)
        );
        let found =
            hub(&[("HF_HOME", path), ("HF_HUB_CACHE", "/c"), ("HF_TOKEN", "t "), ("HF_HUB_OFFLINE", "Yes")]);
        assert_eq!(found.cache, Path::new("/c"));
        assert_eq!(
            (found.endpoint.as_str(), found.token.as_deref(), found.offline),
            ("https://huggingface.co", Some("t"), true)
        );
        let found = hub(&[("XDG_CACHE_HOME", "/x"), ("HF_HUB_OFFLINE", "0"), ("HF_TOKEN", "")]);
        assert_eq!(found.cache, Path::new("/x/huggingface/hub"));
        assert!(found.token.is_none() && !found.offline);
        assert!(hub(&[]).cache.ends_with(".cache/huggingface/hub"));
    }
}
