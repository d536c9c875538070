//! Fetching models, against a small hub that lives in the test.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use sixteen_states::checkpoint::hub::Hub;
use tempfile::TempDir;

const SHA: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the hub has, how it misbehaves, and what it has been asked.
#[derive(Default)]
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Answers everyone else with 401.
    token: Option<&'static str>,
    /// How many of the next bodies break off in the middle.
    cuts: usize,
    /// Whether it breaks off by ending the body instead of the connection: no length is announced.
    silent: bool,
    /// Whether it sends whole files whatever range is asked for.
    no_ranges: bool,
    sha: Option<&'static str>,
    etag: Option<&'static str>,
    requests: Vec<String>,
}

struct TestHub {
    state: Arc<Mutex<State>>,
    hub: Hub,
    cache: TempDir,
}

impl TestHub {
    fn new(files: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let cache = tempfile::tempdir().unwrap();
        let files = files.iter().map(|(name, body)| ((*name).to_owned(), body.as_bytes().to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                // A client that hangs up early is part of the game.
                let _ = answer(stream, &mut shared.lock().unwrap());
            }
        });
        let hub = Hub { endpoint, cache: cache.path().join("hub"), token: None, offline: false };
        TestHub { state, hub, cache }
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn problem(&self, id: &str) -> String {
        let problem = self.hub.fetch(id, false).unwrap_err().to_string();
        assert!(!problem.contains('\n') && problem.contains(id), "{problem}");
        problem
    }

    fn folder(&self) -> PathBuf {
        self.hub.cache.join("models--owner--name")
    }
}

fn answer(mut stream: TcpStream, state: &mut State) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
    state.requests.push(format!("{path} {}", headers.get("range").map_or("", String::as_str)));
    let mut simple = |status: &str, body: &str| {
        write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    if let Some(token) = state.token
        && headers.get("authorization") != Some(&format!("Bearer {token}"))
    {
        return simple("401 Unauthorized", "");
    }
    let sha = state.sha.unwrap_or(SHA);
    if path == "/api/models/owner/name/revision/main" {
        let siblings: Vec<_> = state.files.keys().map(|f| format!("{{\"rfilename\": {f:?}}}")).collect();
        return simple("200 OK", &format!("{{\"sha\": {sha:?}, \"siblings\": [{}]}}", siblings.join(",")));
    }
    let file = path.strip_prefix(&format!("/owner/name/resolve/{SHA}/"));
    let Some(body) = file.and_then(|file| state.files.get(file)) else {
        return simple("404 Not Found", "");
    };
    let range = headers.get("range").and_then(|r| r.strip_prefix("bytes=")).unwrap_or("0-");
    let (from, to) = range.split_once('-').unwrap();
    let (from, to) = (from.parse::<usize>().unwrap(), to.parse().map_or(body.len(), |to: usize| to + 1));
    if from >= body.len() {
        return simple("416 Range Not Satisfiable", "");
    }
    let probe = to == 1;
    let from = if state.no_ranges && !probe { 0 } else { from };
    let mut part = &body[from..to];
    let etag =
        state.etag.map_or_else(|| format!("etag-of-{}", file.unwrap().replace('/', "-")), str::to_owned);
    let mut head = format!(
        "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{}\r\nETag: \"{etag}\"\r\n\
         X-Repo-Commit: {sha}\r\nConnection: close\r\n",
        to - 1,
        body.len()
    );
    if !state.silent {
        head += &format!("Content-Length: {}\r\n", part.len());
    }
    if !probe && state.cuts > 0 {
        state.cuts -= 1;
        part = &part[..part.len() / 2];
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    stream.write_all(part)
}

const SMALL: [(&str, &str); 5] = [
    ("config.json", "{}"),
    ("tokenizer.json", "{\"a\": 1}"),
    ("chat_template.jinja", "hi"),
    ("model.safetensors", "the weights of the model, all of them"),
    ("pytorch_model.bin", "not wanted"),
];

fn sharded(index: &str) -> TestHub {
    let mut files: Vec<_> = SMALL.into_iter().filter(|(name, _)| *name != "model.safetensors").collect();
    files.extend([
        ("model.safetensors.index.json", index),
        ("a.safetensors", "first"),
        ("sub/b.safetensors", "2nd"),
    ]);
    TestHub::new(&files)
}

#[test]
fn a_model_is_fetched_once() {
    let hub = TestHub::new(&SMALL);
    let dir = hub.hub.fetch("owner/name", false).unwrap();
    assert_eq!(dir, hub.folder().join("snapshots").join(SHA));
    for (file, body) in &SMALL[..4] {
        assert_eq!(fs::read_to_string(dir.join(file)).unwrap(), *body);
    }
    assert!(!dir.join("pytorch_model.bin").exists());
    assert_eq!(fs::read_to_string(hub.folder().join("refs/main")).unwrap(), SHA);
    let blob = hub.folder().join("blobs/etag-of-model.safetensors");
    assert_eq!(fs::read_to_string(blob).unwrap(), SMALL[3].1);
    assert!(!hub.requests().is_empty());

    assert_eq!(hub.hub.fetch("owner/name", true).unwrap(), dir);
    assert_eq!(hub.hub.fetch(&format!("owner/name@{SHA}"), false).unwrap(), dir);
    let offline = Hub { offline: true, endpoint: "http://127.0.0.1:1".into(), ..hub.hub.clone() };
    assert_eq!(offline.fetch("owner/name", false).unwrap(), dir);
    assert_eq!(hub.requests(), [""; 0]);

    // A file that was lost from the cache is fetched again, and only that one.
    fs::remove_file(hub.folder().join("blobs/etag-of-tokenizer.json")).unwrap();
    assert!(
        offline.fetch("owner/name", false).unwrap_err().to_string().contains("does not have tokenizer.json")
    );
    assert_eq!(hub.hub.fetch("owner/name", false).unwrap(), dir);
    assert_eq!(fs::read_to_string(dir.join("tokenizer.json")).unwrap(), SMALL[1].1);
    assert!(!hub.requests().iter().any(|r| r.contains("model.safetensors")));
}

#[test]
fn offline_nothing_is_asked() {
    let mut hub = TestHub::new(&SMALL);
    hub.hub.offline = true;
    let problem = hub.problem("owner/name");
    assert!(problem.contains("HF_HUB_OFFLINE") && problem.contains("HF_HOME"), "{problem}");
    assert!(hub.requests().is_empty() && !hub.hub.cache.exists());
}

#[test]
fn what_is_not_there() {
    let hub = TestHub::new(&SMALL);
    assert!(hub.problem("owner/other").contains("not found"));
    assert!(hub.problem("owner/name@v2").contains("404"));
    assert!(hub.problem("../name").contains("expected owner/name"));
    hub.set(|s| s.files.remove("tokenizer.json").map_or((), drop));
    assert!(hub.problem("owner/name").contains("has no tokenizer.json"));
    let torch = TestHub::new(&[SMALL[0], SMALL[1], SMALL[4]]);
    assert!(torch.problem("owner/name").contains("safetensors format"));
}

#[test]
fn a_gated_model_needs_the_token() {
    let mut hub = TestHub::new(&SMALL);
    hub.set(|s| s.token = Some("secret"));
    let problem = hub.problem("owner/name");
    assert!(problem.contains("401") && problem.contains("set HF_TOKEN"), "{problem}");
    hub.hub.token = Some("guess".to_owned());
    let problem = hub.problem("owner/name");
    assert!(problem.contains("does not open it") && !problem.contains("guess"), "{problem}");
    hub.hub.token = Some("bad\r\nheader".to_owned());
    hub.problem("owner/name");
    hub.hub.token = Some("secret".to_owned());
    assert!(hub.hub.fetch("owner/name", false).is_ok());
}

#[test]
fn no_network() {
    let mut hub = TestHub::new(&SMALL);
    for endpoint in ["http://127.0.0.1:1", "no address", "http://", "http://\u{e9}/"] {
        hub.hub.endpoint = endpoint.to_owned();
        let problem = hub.problem("owner/name");
        assert!(problem.contains("HF_ENDPOINT") && problem.contains("HF_HUB_OFFLINE"), "{problem}");
    }
}

#[test]
fn a_broken_connection_is_taken_up_again() {
    let hub = TestHub::new(&SMALL);
    // One of the model's four bodies breaks off twice.
    hub.set(|s| s.cuts = 2);
    let dir = hub.hub.fetch("owner/name", false).unwrap();
    assert_eq!(fs::read_to_string(dir.join("config.json")).unwrap(), "{}");
    assert!(hub.requests().iter().any(|r| r.contains("bytes=1-")));
}

#[test]
fn a_half_file_is_never_used() {
    // Side by side: each waits for its retries.
    thread::scope(|scope| {
        for (silent, no_ranges) in [(false, false), (true, false), (false, true)] {
            scope.spawn(move || half_file(silent, no_ranges));
        }
    });
}

fn half_file(silent: bool, no_ranges: bool) {
    let weights = SMALL[3].1;
    let hub = TestHub::new(&SMALL[..3]);
    // The small files come first, so that what breaks off is the weights.
    assert!(hub.problem("owner/name").contains("safetensors"));
    hub.set(|s| {
        s.files.insert("model.safetensors".to_owned(), weights.into());
        (s.cuts, s.silent, s.no_ranges) = (usize::MAX, silent, no_ranges);
    });
    hub.problem("owner/name");
    let dir = hub.folder().join("snapshots").join(SHA);
    assert!(dir.join("config.json").exists() && !dir.join("model.safetensors").exists());
    assert!(!hub.folder().join("blobs/etag-of-model.safetensors").exists());
    let offline = Hub { offline: true, ..hub.hub.clone() };
    assert!(offline.fetch("owner/name", false).is_err());
    hub.set(|s| s.cuts = 0);
    let fetched = hub.hub.fetch("owner/name", false).unwrap();
    assert_eq!(fs::read_to_string(fetched.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn a_left_over_part_is_no_obstacle() {
    for (part, asked) in
        [("the weights", "bytes=11-"), (SMALL[3].1, "bytes=0-"), (&"x".repeat(99), "bytes=0-")]
    {
        let hub = TestHub::new(&SMALL);
        fs::create_dir_all(hub.folder().join("blobs")).unwrap();
        fs::write(hub.folder().join("blobs/etag-of-model.part"), part).unwrap();
        let dir = hub.hub.fetch("owner/name", false).unwrap();
        assert_eq!(fs::read_to_string(dir.join("model.safetensors")).unwrap(), SMALL[3].1);
        assert!(hub.requests().contains(&format!("/owner/name/resolve/{SHA}/model.safetensors {asked}")));
    }
}

#[test]
fn all_shards_come() {
    let index = r#"{"weight_map": {"x": "sub/b.safetensors", "y": "a.safetensors", "z": "a.safetensors"}}"#;
    let hub = sharded(index);
    let dir = hub.hub.fetch("owner/name", false).unwrap();
    assert_eq!(fs::read_to_string(dir.join("a.safetensors")).unwrap(), "first");
    assert_eq!(fs::read_to_string(dir.join("sub/b.safetensors")).unwrap(), "2nd");
    hub.requests();
    hub.hub.fetch("owner/name", false).unwrap();
    assert!(hub.requests().is_empty());
}

#[test]
fn an_index_cannot_reach_out_of_its_directory() {
    for shard in [
        "../../evil.safetensors",
        "/etc/evil.safetensors",
        "..\\\\evil.safetensors",
        "C:evil.safetensors",
        "a//b.safetensors",
        "",
        "config.json",
        "é.safetensors",
    ] {
        let hub = sharded(&format!(r#"{{"weight_map": {{"x": "a.safetensors", "y": "{shard}"}}}}"#));
        let problem = hub.problem("owner/name");
        assert!(problem.contains("expected a .safetensors file"), "{problem}");
        assert!(!hub.requests().iter().any(|r| r.contains("evil")));
    }
    let gone = sharded(r#"{"weight_map": {"x": "c.safetensors"}}"#);
    assert!(gone.problem("owner/name").contains("\"c.safetensors\", which the hub does not have"));
    for bad in ["", "[]", "{}", r#"{"weight_map": {}}"#, r#"{"weight_map": {"x": 1}}"#] {
        sharded(bad).problem("owner/name");
    }
}

#[test]
fn a_strange_hub_cannot_reach_out_of_the_cache() {
    let hub = TestHub::new(&SMALL);
    for sha in ["../../evil", "", "a/b", "/tmp"] {
        hub.set(|s| s.sha = Some(sha));
        assert!(hub.problem("owner/name").contains("expected a hash"));
    }
    hub.set(|s| (s.sha, s.etag) = (None, Some("../../../evil")));
    assert!(hub.problem("owner/name").contains("etag"));
    assert!(!hub.cache.path().join("evil").exists());
}

#[test]
fn an_unwritable_cache() {
    let mut hub = TestHub::new(&SMALL);
    // A file where a directory is needed stops everyone, permissions or not.
    let file = hub.cache.path().join("file");
    fs::write(&file, "").unwrap();
    for cache in [file.clone(), file.join("deeper")] {
        hub.hub.cache = cache;
        let problem = hub.problem("owner/name");
        assert!(problem.contains("HF_HUB_CACHE") && problem.contains("cannot write"), "{problem}");
    }
    assert!(hub.requests().is_empty());
    hub.hub.cache = hub.cache.path().join("hub");
    fs::create_dir_all(hub.folder()).unwrap();
    fs::write(hub.folder().join("snapshots"), "").unwrap();
    assert!(hub.problem("owner/name").contains("cannot write"));
    assert!(Path::new(&file).is_file());
}
