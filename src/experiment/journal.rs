//! A journal of what was found so far, so that an interrupted run loses nothing: one JSON object a line,
//! appended as each unit of work is done. The first line says which run it belongs to.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Longest journal that is read.
const MAX_BYTES: u64 = 4 << 30;

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// What kind of run, and the version of the journal.
    pub journal: String,
    /// When it began.
    pub date: String,
    /// Hash of all that was fixed before.
    pub hash: String,
    /// The same in words, so that one can see how two runs differ.
    pub plan: Value,
}

#[derive(Serialize, Deserialize)]
struct Line {
    unit: String,
    seconds: f64,
    data: Value,
}

/// Units of work that are done, and where more are written to.
pub struct Journal {
    path: PathBuf,
    file: File,
    done: HashMap<String, Value>,
    /// Seconds that all units took.
    pub seconds: f64,
    /// The first line: of the run that began it.
    pub header: Header,
}

impl Journal {
    /// Opens the journal at `path` for the run that `header` describes, or begins it. What an interruption left
    /// of a line is cut off.
    ///
    /// # Errors
    /// When the journal belongs to another run, is none, or cannot be read or written.
    pub fn open(path: &Path, header: Header) -> Result<Self> {
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(|e| Error::io(parent, e))?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Error::io(path, e))?;
        file.try_lock().map_err(|_| Error::file(path, "is in use by another run of this program"))?;
        let metadata = file.metadata().map_err(|e| Error::io(path, e))?;
        let length = metadata.len();
        if !metadata.is_file() || length > MAX_BYTES {
            return Err(Error::file(
                path,
                format!("is no plain file or too long ({length} bytes), expected a journal"),
            ));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| Error::io(path, e))?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&bytes[..whole])
            .map_err(|_| Error::file(path, "is not UTF-8 text, expected a journal"))?;
        if whole == 0 && length > 0 && !bytes.starts_with(b"{\"journal\":") {
            return Err(Error::file(path, "is not a journal of this program; it was left as it is"));
        }
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            done: HashMap::new(),
            seconds: 0.0,
            header: header.clone(),
        };
        let mut lines = text.lines().enumerate();
        let Some((_, first)) = lines.next() else {
            journal.file.set_len(0).map_err(|e| Error::io(path, e))?;
            journal.file.seek(SeekFrom::Start(0)).map_err(|e| Error::io(path, e))?;
            journal.write(&header)?;
            return Ok(journal);
        };
        let found: Header = serde_json::from_str(first)
            .map_err(|_| Error::file(path, "is not a journal of this program; it was left as it is"))?;
        if found.journal != header.journal || found.hash != header.hash {
            return Err(Error::file(
                path,
                format!(
                    "is the journal of another run ({}): {}; delete it, or write elsewhere with --report",
                    found.date,
                    difference(&found, &header)
                ),
            ));
        }
        journal.header = found;
        for (i, line) in lines {
            let line: Line = serde_json::from_str(line)
                .map_err(|e| Error::file(path, format!("line {} is damaged: {e}; delete the file", i + 1)))?;
            journal.seconds += line.seconds;
            journal.done.insert(line.unit, line.data);
        }
        journal.file.set_len(whole as u64).map_err(|e| Error::io(path, e))?;
        journal.file.seek(SeekFrom::End(0)).map_err(|e| Error::io(path, e))?;
        Ok(journal)
    }

    /// Units that are done.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether nothing was done yet.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Whether a unit is done.
    pub fn has(&self, unit: &str) -> bool {
        self.done.contains_key(unit)
    }

    /// What a unit of work gives: from the journal, or by doing it.
    ///
    /// # Errors
    /// When the work fails or cannot be written down.
    pub fn unit<T: Serialize + DeserializeOwned>(
        &mut self,
        unit: &str,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if let Some(data) = self.done.get(unit) {
            return T::deserialize(data).map_err(|e| self.damaged(unit, &e.to_string()));
        }
        let started = Instant::now();
        let value = work()?;
        let bad = |e| Error::Model(format!("unit {unit:?} cannot be written down: {e}"));
        let data = serde_json::to_value(&value).map_err(bad)?;
        // To the millisecond: nobody needs more, and lines stay short.
        let seconds = (started.elapsed().as_secs_f64() * 1e3).round() / 1e3;
        self.seconds += seconds;
        let line = Line { unit: unit.to_owned(), seconds, data };
        self.write(&line)?;
        // Through the same text as after an interruption, so that both give the same results.
        T::deserialize(&line.data).map_err(bad)
    }

    /// Says that what a unit gave is not what its work gives.
    pub fn damaged(&self, unit: &str, problem: &str) -> Error {
        Error::file(&self.path, format!("unit {unit:?} is damaged: {problem}; delete the file"))
    }

    fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line)
            .map_err(|e| Error::Model(format!("a line of the journal cannot be written: {e}")))?;
        text.push('\n');
        let end = self.file.stream_position().map_err(|e| Error::io(&self.path, e))?;
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.flush()).map_err(|e| {
            // Half a line would be cut off by the next run anyway.
            let _ = self.file.set_len(end);
            Error::io(&self.path, e)
        })
    }

    /// Removes the file of a run whose results are wanted nowhere.
    pub fn discard(self) {
        drop(self.file);
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The first thing in which two runs differ.
fn difference(found: &Header, wanted: &Header) -> String {
    if found.journal != wanted.journal {
        return format!("it is of {:?}, this is {:?}", found.journal, wanted.journal);
    }
    let clip = |value: Option<&Value>| {
        let text = value.map_or("nothing".to_owned(), Value::to_string);
        if text.chars().count() > 60 { text.chars().take(60).collect::<String>() + "…" } else { text }
    };
    let keys = wanted.plan.as_object().into_iter().flatten();
    keys.map(|(key, value)| (key, value, found.plan.get(key)))
        .find(|(_, value, other)| Some(*value) != *other)
        .map_or("its plan differs".to_owned(), |(key, value, other)| {
            format!("its {key} is {}, this run's {}", clip(other), clip(Some(value)))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn header(hash: &str) -> Header {
        Header {
            journal: "test 1".to_owned(),
            date: "2026-01-01T00:00:00Z".to_owned(),
            hash: hash.to_owned(),
            plan: json!({"seed": hash}),
        }
    }

    #[test]
    fn what_is_done_is_not_done_again_and_half_a_line_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/journal.jsonl");
        let mut journal = Journal::open(&path, header("1")).unwrap();
        assert_eq!(journal.unit("x", || Ok(vec![0.1f32, 1e-20])).unwrap(), [0.1, 1e-20]);
        assert!(journal.unit::<u32>("y", || Err(Error::Model("no".to_owned()))).is_err());
        drop(journal);
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"unit\":\"y\",\"seco");
        std::fs::write(&path, text).unwrap();
        let mut journal = Journal::open(&path, header("1")).unwrap();
        let again: Vec<f32> = journal.unit("x", || panic!("is done")).unwrap();
        assert_eq!(again, [0.1, 1e-20]);
        assert!(!journal.has("y"));
        assert_eq!(journal.unit("y", || Ok(7)).unwrap(), 7);
        drop(journal);
        assert_eq!(Journal::open(&path, header("1")).unwrap().len(), 2);
    }

    #[test]
    fn another_runs_journal_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        drop(Journal::open(&path, header("1")).unwrap());
        let before = std::fs::read(&path).unwrap();
        let error = Journal::open(&path, header("2")).err().unwrap().to_string();
        assert!(error.contains("another run") && error.contains("its seed is \"1\""), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        for other in ["my thesis", "{}\n", "[1]\n{}\n"] {
            std::fs::write(&path, other).unwrap();
            assert!(Journal::open(&path, header("1")).err().unwrap().to_string().contains("not a journal"));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
        }
        let bad = format!("{}\n{{\"unit\":1}}\n", json!(header("1")));
        std::fs::write(&path, bad).unwrap();
        assert!(Journal::open(&path, header("1")).err().unwrap().to_string().contains("line 2"));
    }

    #[test]
    fn two_runs_do_not_write_to_one_journal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let _first = Journal::open(&path, header("1")).unwrap();
        assert!(Journal::open(&path, header("1")).err().unwrap().to_string().contains("in use"));
    }

    /// A file that takes no bytes stands for a full disk.
    #[test]
    fn a_full_disk_is_an_error_that_names_the_file_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal.jsonl");
        let mut journal = Journal::open(&path, header("1")).unwrap();
        journal.unit("x", || Ok(1)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let writable = std::mem::replace(&mut journal.file, File::open(&path).unwrap());
        let error = journal.unit("y", || Ok(2)).unwrap_err().to_string();
        assert!(error.contains("journal.jsonl"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        drop((journal, writable));
        assert_eq!(Journal::open(&path, header("1")).unwrap().len(), 1);
    }
}
