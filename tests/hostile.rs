//! Files that a stranger might have made: small valid ones, changed again and again in the ways that readers have fallen
//! for, through the same entries as the fuzz targets (`fuzz/`). Seeds and order are fixed, so that what fails fails again.

#[path = "../fuzz/entries.rs"]
mod entries;

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest that a reader may take for a small file, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Less than `n`, or 0.
    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn choose<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// Numbers at which counting goes wrong.
const EDGES: [u64; 12] = [
    0,
    1,
    7,
    31,
    u8::MAX as u64,
    1 << 31,
    u32::MAX as u64,
    1 << 32,
    1 << 61,
    i64::MAX as u64,
    u64::MAX - 31,
    u64::MAX,
];

/// Changes bytes once: a bit, a byte, a number of 4 or 8 bytes, or a piece that is left out, doubled, or taken from
/// `other`; or the end.
fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(bytes.len());
    let length = random.below(40).min(bytes.len() - at);
    match random.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
        2 | 3 => {
            let number = random.choose(&EDGES).to_le_bytes();
            let width = (*random.choose(&[4, 8])).min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&number[..width]);
        }
        4 => drop(bytes.drain(at..at + length)),
        5 => {
            let piece = bytes[at..at + length].to_vec();
            bytes.splice(at..at, piece);
        }
        6 => {
            let from = random.below(other.len());
            let piece = &other[from..(from + 1 + random.below(64)).min(other.len())];
            let end = (at + piece.len()).min(bytes.len());
            bytes.splice(at..end, piece.iter().copied());
        }
        _ => bytes.truncate(at),
    }
}

/// Changes a JSON value somewhere within.
fn change_json(value: &mut Value, random: &mut Random) {
    let deeper = match value {
        Value::Object(object) => object.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if deeper > 0 && random.below(8) > 0 {
        let i = random.below(deeper);
        return match value {
            Value::Object(object) if random.below(8) == 0 => {
                let name = object.keys().nth(i).cloned().unwrap_or_default();
                let removed = object.remove(&name);
                if random.below(2) == 0 {
                    object.insert(format!("{name}."), removed.unwrap_or_default());
                }
            }
            Value::Object(object) => change_json(object.values_mut().nth(i).expect("one of them"), random),
            Value::Array(list) => change_json(&mut list[i], random),
            _ => {}
        };
    }
    let near = value.as_u64().unwrap_or(0);
    let edge = *random.choose(&EDGES);
    *value = match random.below(12) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(""),
        4 => json!("F16"),
        5 => json!(true),
        6 => json!(-1),
        7 => json!(0.5),
        8 => json!(near.wrapping_add(1)),
        9 => json!(near / 2),
        10 => json!(near.wrapping_mul(8)),
        _ => json!(edge),
    };
}

/// Changes a model as `entries::checkpoint` takes it: a field of its configuration, a field of its header, or bytes.
fn change_model(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let part = random.below(3);
    let parts: Vec<&[u8]> = bytes.splitn(3, |&byte| byte == 0).collect();
    let text = (part < 2).then(|| parts.get(part)).flatten();
    let Some(mut json) = text.and_then(|text| serde_json::from_slice::<Value>(text).ok()) else {
        return change(bytes, other, random);
    };
    change_json(&mut json, random);
    let text = json.to_string().into_bytes();
    let changed: Vec<&[u8]> =
        parts.iter().enumerate().map(|(i, old)| if i == part { &text } else { *old }).collect();
    *bytes = changed.join(&0);
}

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let directory = root().join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Tries each seed as it is, and `rounds` changed ones. What panics, or takes too long, is saved to be looked at.
fn try_all(
    target: &str,
    seeds: &[Vec<u8>],
    rounds: usize,
    change: fn(&mut Vec<u8>, &[u8], &mut Random),
    entry: &dyn Fn(&[u8]),
) {
    let mut random = Random(0x16);
    let saved = root().join(format!("target/hostile-{target}"));
    let run = |bytes: &[u8]| {
        let start = Instant::now();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| entry(bytes))).is_err();
        let took = start.elapsed();
        if panicked || took > PATIENCE {
            let _ = std::fs::write(&saved, bytes);
            panic!("{target}: panicked: {panicked}, after {took:?}; the input is in {}", saved.display());
        }
    };
    seeds.iter().for_each(|seed| run(seed));
    for _ in 0..rounds {
        let mut bytes = random.choose(seeds).clone();
        for _ in 0..1 + random.below(4) {
            let other: &Vec<u8> = random.choose(seeds);
            change(&mut bytes, other, &mut random);
        }
        run(&bytes);
    }
    if let Some(kilobytes) = most_memory() {
        assert!(kilobytes < 1 << 20, "{target}: {kilobytes} KiB of memory for files of a few");
    }
}

/// The most memory that this process has held, in KiB, where the system tells.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

#[test]
fn changed_headers_of_gguf_files_are_read_or_refused() {
    let mut files = seeds("gguf_header");
    // Headers of whole models, for which a file may be as long as it claims.
    for name in ["family-gemma2", "family-granite", "gguf-native", "sentencepiece"] {
        let mut bytes = std::fs::read(root().join(format!("tests/data/formats/{name}.gguf"))).unwrap();
        bytes.truncate(12_000);
        files.push(bytes);
    }
    try_all("gguf_header", &files, 30_000, change, &|bytes| {
        entries::gguf_header(bytes, bytes.len() as u64);
        entries::gguf_header(bytes, 1 << 40);
    });
}

#[test]
fn changed_headers_of_safetensors_files_are_read_or_refused() {
    try_all("safetensors_header", &seeds("safetensors_header"), 100_000, change, &|bytes| {
        entries::safetensors_header(bytes, bytes.len() as u64);
        let file = [&(bytes.len() as u64).to_le_bytes(), bytes].concat();
        for data in [0, 4, 8, 12, 24] {
            entries::safetensors_header(&file, file.len() as u64 + data);
        }
    });
}

#[test]
fn changed_models_are_read_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let entry = |bytes: &[u8]| entries::checkpoint(bytes, directory.path());
    try_all("checkpoint", &seeds("checkpoint"), 12_000, change_model, &entry);
}

/// Rows without columns take no bytes, so a file can claim any number of them.
#[test]
fn rows_without_columns_are_not_counted() {
    use sixteen_states::checkpoint::{Checkpoint, locate};
    let directory = tempfile::tempdir().unwrap();
    let tensor = |name, dtype| {
        format!(r#""a.{name}":{{"dtype":"{dtype}","shape":[1099511627776,0],"data_offsets":[0,0]}}"#)
    };
    let header = [tensor("weight", "U32"), tensor("scales", "F16"), tensor("biases", "F16")].join(",");
    let model = format!("{{\"quantization\":{{\"bits\":4,\"group_size\":32}}}}\0{{{header}}}\0");
    let start = Instant::now();
    entries::checkpoint(model.as_bytes(), directory.path());
    assert!(start.elapsed() < PATIENCE);
    let error = Checkpoint::of(&locate(directory.path().to_str().unwrap()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("has shape [1099511627776, 0]: it is empty"), "{error}");
}

/// What the changes are made of must not itself have been refused: then nothing behind the first check would be tried.
#[test]
fn the_seeds_are_models() {
    use sixteen_states::checkpoint::{Checkpoint, locate};
    for seed in seeds("checkpoint") {
        let directory = tempfile::tempdir().unwrap();
        entries::checkpoint(&seed, directory.path());
        let source = locate(directory.path().to_str().unwrap()).unwrap();
        let checkpoint = Checkpoint::of(&source).unwrap();
        assert!(seed.starts_with(b"GGUF") || checkpoint.has_codes(), "{}", String::from_utf8_lossy(&seed));
    }
}
