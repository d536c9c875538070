//! Checkpoints as files: good ones, and everything that is wrong with the others.

use proptest::prelude::*;
use safetensors::tensor::{Dtype, TensorView};
use sixteen_states::checkpoint::{Checkpoint, Directory, Encoding, TensorInfo, locate, parse_header};
use std::path::{Path, PathBuf};

/// A file with this header and `data` zeros after it.
fn file(header: &str, data: usize) -> Vec<u8> {
    raw_file(header.len() as u64, header.as_bytes(), data)
}

fn raw_file(length: u64, header: &[u8], data: usize) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.resize(bytes.len() + data, 0);
    bytes
}

/// One entry of a header.
fn entry(name: &str, dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

/// A file with these tensors as the `safetensors` crate writes it.
fn written(tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> Vec<u8> {
    let view = |t: &'_ (&str, Dtype, Vec<usize>, Vec<u8>)| (t.0.to_owned(), t.1, t.2.clone(), t.3.clone());
    let owned: Vec<_> = tensors.iter().map(view).collect();
    let views = owned.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).expect("a right size"))
    });
    safetensors::serialize(views, None).expect("a valid file")
}

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

fn open(bytes: &[u8]) -> (tempfile::TempDir, Result<Checkpoint, sixteen_states::error::Error>) {
    let directory = directory(&[("m.safetensors", bytes)]);
    let checkpoint = Checkpoint::open(&directory.path().join("m.safetensors"));
    (directory, checkpoint)
}

fn refused(path: &Path, expected: &str) {
    let error = Checkpoint::open(path).expect_err(expected).to_string();
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
}

fn read(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Vec<f32> {
    let tensor = checkpoint.tensor(name, shape).unwrap();
    let mut out = vec![0.0; tensor.info().elements];
    tensor.read_f32(0..out.len(), &mut out);
    out
}

#[test]
fn malformed_files_are_refused_with_their_problem() {
    let a = |shape, offsets| entry("a", "F32", shape, offsets);
    let two = |first, second| {
        format!("{{{},{}}}", entry("a", "F32", "[1]", first), entry("b", "F32", "[1]", second))
    };
    let good = format!("{{{}}}", a("[2,2]", "[0,16]"));
    let cases: &[(&str, Vec<u8>, &str)] = &[
        ("empty", vec![], "is 0 bytes long, expected at least the 8"),
        ("seven bytes", vec![0; 7], "is 7 bytes long"),
        ("only a length of zero", vec![0; 8], "header is empty"),
        ("header beyond the file", raw_file(1000, b"{}", 0), "claims 1000 bytes, but only 2 follow"),
        ("huge length", raw_file(u64::MAX, b"{}", 0), "claims 18446744073709551615 bytes, expected at most"),
        ("length above the limit", raw_file(100_000_001, b"{}", 0), "expected at most 100000000"),
        ("not an object", file("[]", 0), "starts with byte 0x5b"),
        ("leading space", file(" {}", 0), "starts with byte 0x20"),
        ("invalid UTF-8", raw_file(5, b"{\"\xff\":", 0), "header is not that of a safetensors file"),
        ("invalid JSON", file("{\"a\":", 0), "EOF"),
        ("text after the object", file("{}x", 0), "trailing"),
        ("deep nesting", file(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "not that of a safetensors"),
        ("a number for a tensor", file(r#"{"a":1}"#, 0), "invalid type"),
        ("a missing field", file(r#"{"a":{"dtype":"F32","shape":[]}}"#, 0), "data_offsets"),
        ("overlap", file(&two("[0,4]", "[2,6]"), 6), "\"b\" overlaps the tensor before it: it starts at 2"),
        ("the same place", file(&two("[0,4]", "[0,4]"), 4), "overlaps"),
        (
            "hole",
            file(&two("[0,4]", "[8,12]"), 12),
            "\"b\" leaves a gap before it: it starts at 8, expected 4",
        ),
        ("hole at the start", file(&format!("{{{}}}", a("[1]", "[4,8]")), 8), "leaves a gap"),
        ("reversed", file(&format!("{{{}}}", a("[1]", "[4,0]")), 4), "has offsets [4, 0]"),
        ("beyond the file", file(&format!("{{{}}}", a("[4]", "[0,16]")), 8), "ends at 16 of 8 bytes"),
        (
            "far beyond",
            file(&format!("{{{}}}", a("[1]", "[18446744073709551612,18446744073709551615]")), 8),
            "has",
        ),
        ("cut short", file(&good, 16)[..good.len() + 8 + 15].to_vec(), "cut short"),
        ("trailing bytes", file(&good, 17), "end after 16 bytes of data, expected all 17"),
        ("data without tensors", file("{}", 1), "end after 0 bytes"),
        ("size is not the shape's", file(&format!("{{{}}}", a("[2,2]", "[0,12]")), 12), "expected 128 bits"),
        ("product overflow", file(&format!("{{{}}}", a("[4294967296,4294967296]", "[0,0]")), 0), "too large"),
        ("bits overflow", file(&format!("{{{}}}", a("[2305843009213693952]", "[0,0]")), 0), "too large"),
        ("half a byte", file(&format!("{{{}}}", entry("a", "F4", "[3]", "[0,1]")), 1), "expected 12 bits"),
        ("a negative dimension", file(&format!("{{{}}}", a("[-1]", "[0,4]")), 4), "invalid value"),
        ("a fractional dimension", file(&format!("{{{}}}", a("[1.0]", "[0,4]")), 4), "invalid type"),
        ("an unknown dtype", file(&format!("{{{}}}", entry("a", "F31", "[1]", "[0,4]")), 4), "F31"),
        ("a name twice", file(&format!("{{{0},{0}}}", a("[1]", "[0,4]")), 4), "\"a\" is there twice"),
        ("a field twice", file(r#"{"a":{"dtype":"F32","dtype":"F32"}}"#, 0), "duplicate field"),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), "expected a string"),
        ("metadata that is none", file(r#"{"__metadata__":null}"#, 0), "expected an object"),
        ("metadata twice", file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0), "is there twice"),
        ("metadata key twice", file(r#"{"__metadata__":{"a":"","a":""}}"#, 0), "\"a\" is there twice"),
    ];
    for (what, bytes, expected) in cases {
        let (_directory, checkpoint) = open(bytes);
        let error = checkpoint.expect_err(what).to_string();
        assert!(error.contains("m.safetensors: "), "{what}: {error:?} does not name the file");
        assert!(error.contains(expected), "{what}: {error:?} does not say {expected:?}");
    }
}

#[test]
fn problems_quote_hostile_names_safely() {
    let header = format!("{{{}}}", entry(&"x\\u001b[2J".repeat(100_000), "F32", "[1]", "[0,3]"));
    let problem = parse_header(&file(&header, 3), header.len() as u64 + 11).unwrap_err();
    assert!(problem.chars().count() <= 501 && !problem.contains('\u{1b}'), "{problem}");
    assert!(problem.contains("expected 32 bits"), "{problem}");
    // `bytes` may be less than the file, but not less than the header.
    assert!(parse_header(&file("{}", 0)[..9], 10).unwrap_err().contains("cut short"));
}

#[test]
fn every_number_type_is_read_exactly() {
    let values = [1.5f32, -0.0, f32::NAN, f32::INFINITY, 0.099975586, 6.1035156e-5];
    let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let f16s: Vec<u8> = values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect();
    let bf16s: Vec<u8> = values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect();
    let bytes = written(&[
        ("f32", Dtype::F32, vec![2, 3], f32s),
        ("f16", Dtype::F16, vec![3, 2], f16s),
        ("bf16", Dtype::BF16, vec![6], bf16s),
        ("none", Dtype::F16, vec![0, 7], vec![]),
        ("one", Dtype::F32, vec![], 2f32.to_le_bytes().to_vec()),
        ("integers", Dtype::I64, vec![1], vec![0; 8]),
    ]);
    let (_directory, checkpoint) = open(&bytes);
    let checkpoint = checkpoint.unwrap();
    let same = |a: &[f32], b: Vec<f32>| {
        assert_eq!(a.len(), b.len());
        assert!(
            a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()),
            "{b:?}"
        );
    };
    same(&values, read(&checkpoint, "f32", &[2, 3]));
    same(&values, read(&checkpoint, "f16", &[3, 2]));
    same(&values.map(|v| half::bf16::from_f32(v).to_f32()), read(&checkpoint, "bf16", &[6]));
    same(&[2.0], read(&checkpoint, "one", &[]));
    same(&[], read(&checkpoint, "none", &[0, 7]));
    // Again, because the pages were given back when the tensor was dropped.
    same(&values, read(&checkpoint, "f32", &[2, 3]));

    let tensor = checkpoint.tensor("f32", &[2, 3]).unwrap();
    let mut part = [0.0; 2];
    tensor.read_f32(4..6, &mut part);
    assert_eq!((part, tensor.rows(), tensor.cols()), ([values[4], values[5]], 2, 3));
    let shape_of =
        |name, shape: &[usize]| checkpoint.tensor(name, shape).map(|t| (t.rows(), t.cols())).unwrap();
    assert_eq!(shape_of("bf16", &[6]), (1, 6));
    assert_eq!(shape_of("one", &[]), (1, 1));
    assert_eq!(shape_of("none", &[0, 7]), (0, 7));

    assert_eq!(checkpoint.unread(), ["integers"]);
    assert_eq!((checkpoint.parameters(), checkpoint.total_bytes()), (20, 24 + 12 + 12 + 4 + 8));
    let error = checkpoint.tensor("integers", &[1]).unwrap_err().to_string();
    assert!(error.contains("stored as I64") && error.contains("expected F32, F16 or BF16"), "{error}");
    assert_eq!(checkpoint.get("integers").unwrap().encoding, Encoding::Plain(Dtype::I64));
    assert!(checkpoint.get("integer").is_none());
}

#[test]
fn every_half_is_read_exactly() {
    let halves: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let (_directory, checkpoint) = open(&written(&[
        ("f16", Dtype::F16, vec![1 << 16], halves.clone()),
        ("bf16", Dtype::BF16, vec![1 << 16], halves),
    ]));
    let checkpoint = checkpoint.unwrap();
    let (f16, bf16) = (read(&checkpoint, "f16", &[1 << 16]), read(&checkpoint, "bf16", &[1 << 16]));
    for bits in 0..=u16::MAX {
        let f16 = (f16[bits as usize], half::f16::from_bits(bits).to_f32());
        let bf16 = (bf16[bits as usize], half::bf16::from_bits(bits).to_f32());
        for (found, expected) in [f16, bf16] {
            assert!(
                found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan(),
                "{bits:#06x}"
            );
        }
    }
}

#[test]
fn a_tensor_need_not_be_aligned() {
    // The header's length is odd, and so is the first tensor's.
    let header = format!("{{{},{}}}", entry("b", "F16", "[2]", "[1,5]"), entry("a", "U8", "[1]", "[0,1]"));
    let header = if header.len() % 2 == 0 { header + " " } else { header };
    let mut bytes = file(&header, 5);
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&[0x00, 0x3c, 0x00, 0xc0]);
    let (_directory, checkpoint) = open(&bytes);
    assert_eq!(read(&checkpoint.unwrap(), "b", &[2]), [1.0, -2.0]);
}

#[test]
fn tensors_are_what_was_asked_for() {
    let name = "model.layers.0.mlp.up_proj.weight";
    let (_directory, checkpoint) = open(&written(&[(name, Dtype::F16, vec![2, 3], vec![0; 12])]));
    let checkpoint = checkpoint.unwrap();
    let error = checkpoint.tensor(name, &[3, 2]).unwrap_err().to_string();
    assert!(error.contains("has shape [2, 3] in \"m.safetensors\", expected [3, 2]"), "{error}");
    checkpoint.tensor(name, &[6]).unwrap_err();
    let error = checkpoint.tensor("layers.0.mlp.up_proj.weight", &[2, 3]).unwrap_err().to_string();
    assert!(
        error.contains(&format!("is not among the checkpoint's 1 tensors, the nearest is {name:?}")),
        "{error}"
    );
    let error = checkpoint.tensor("lm_head", &[2, 3]).unwrap_err().to_string();
    assert!(error.ends_with("is not among the checkpoint's 1 tensors"), "{error}");
    assert_eq!(checkpoint.unread(), [name], "what failed was not read");
}

#[test]
fn an_index_joins_its_shards() {
    let index = |map: &str| format!(r#"{{"metadata":{{"total_size":4}},"weight_map":{map}}}"#);
    let shard = |name, value: f32| written(&[(name, Dtype::F32, vec![1], value.to_le_bytes().to_vec())]);
    let (a, b) = (shard("a", 1.0), shard("b", 2.0));
    let with = |map: &str, second: &[u8]| {
        directory(&[
            ("1.safetensors", &a),
            ("2.safetensors", second),
            ("model.safetensors.index.json", index(map).as_bytes()),
        ])
    };
    let both = r#"{"b":"2.safetensors","a":"1.safetensors"}"#;

    let good = with(both, &b);
    for path in [good.path().to_owned(), good.path().join("model.safetensors.index.json")] {
        let checkpoint = Checkpoint::open(&path).unwrap();
        assert_eq!(read(&checkpoint, "a", &[1]), [1.0]);
        assert_eq!(read(&checkpoint, "b", &[1]), [2.0]);
        assert_eq!((checkpoint.parameters(), checkpoint.unread().len()), (2, 0));
    }
    std::fs::remove_file(good.path().join("2.safetensors")).unwrap();
    refused(good.path(), "2.safetensors: there is no such file, but model.safetensors.index.json says");

    refused(with(both, &a).path(), "\"a\": is in both \"1.safetensors\" and \"2.safetensors\"");
    refused(with(both, b"no").path(), "2.safetensors: is 2 bytes long");
    refused(with(r#"{"a":"1.safetensors","c":"1.safetensors"}"#, &b).path(), "it is in no file");
    refused(
        with(r#"{"a":"2.safetensors","b":"1.safetensors"}"#, &b).path(),
        "the index says that it is in \"2.safetensors\", but it is in \"1.safetensors\"",
    );
    refused(with(r#"{"a":"1.safetensors","a":"2.safetensors"}"#, &b).path(), "\"a\" is there twice");
    refused(with(r#"{"a":1}"#, &b).path(), "is not a safetensors index");
    refused(with("[]", &b).path(), "is not a safetensors index");
    for shard in [
        "../1.safetensors",
        "/1.safetensors",
        "sub/1.safetensors",
        "..\\\\1.safetensors",
        "c:1.safetensors",
        "..safetensors",
        "1.safetensors\\u0000.safetensors",
        "config.json",
        "",
    ] {
        refused(with(&format!(r#"{{"a":"{shard}"}}"#), &b).path(), "expected the plain name");
    }
}

#[test]
fn models_are_located() {
    let file = written(&[("a", Dtype::F32, vec![1], vec![0; 4])]);
    let model = directory(&[("model.safetensors", &file), ("other.gguf", b"GGUF"), ("notes.txt", b"")]);
    let at = |name: &str| model.path().join(name).to_str().unwrap().to_owned();
    let source = locate(model.path().to_str().unwrap()).unwrap();
    assert_eq!(source, locate(&at("model.safetensors")).unwrap());
    assert_eq!(
        (source.directory, source.weights),
        (Directory::from(model.path()), PathBuf::from(at("model.safetensors")))
    );
    let refused = |model: &str, expected: &str| {
        let error = locate(model).unwrap_err().to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    refused(&at("other.gguf"), "its header wants 4 more bytes");
    refused(&at("notes.txt"), "expected a .safetensors or .gguf file or a model directory");
    refused(&at("gone.safetensors"), "there is no such file or directory");
    std::fs::remove_file(model.path().join("model.safetensors")).unwrap();
    // The only GGUF file of a directory is its model.
    refused(model.path().to_str().unwrap(), "its header wants 4 more bytes");
    std::fs::copy(at("other.gguf"), at("another.gguf")).unwrap();
    refused(model.path().to_str().unwrap(), "found: another.gguf, notes.txt, other.gguf");
    assert!(Checkpoint::open(&model.path().join("gone.safetensors")).is_err());
    // A directory by the name of a file.
    std::fs::create_dir(model.path().join("model.safetensors")).unwrap();
    assert!(Checkpoint::open(model.path()).unwrap_err().to_string().contains("is not a plain file"));
}

/// What holds of every header that is accepted.
fn check_invariants(bytes: &[u8], file_len: u64, tensors: &[TensorInfo]) {
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    let mut next = 8 + header;
    let mut names = std::collections::HashSet::new();
    for tensor in tensors {
        assert_eq!(tensor.bytes.start as u64, next, "without gap or overlap");
        assert!(tensor.bytes.start <= tensor.bytes.end);
        next = tensor.bytes.end as u64;
        let elements = tensor.shape.iter().fold(1u128, |product, &n| product.saturating_mul(n as u128));
        assert_eq!(elements, tensor.elements as u128);
        let Encoding::Plain(dtype) = tensor.encoding else { panic!("{} has no codes", tensor.name) };
        assert_eq!(elements * dtype.bitsize() as u128, 8 * tensor.bytes.len() as u128);
        assert!(names.insert(&tensor.name), "no name twice");
    }
    assert_eq!(next, file_len, "to the end of the file");
}

/// Tensors to write, with their data.
fn tensors() -> impl Strategy<Value = Vec<(Dtype, Vec<usize>)>> {
    let dtype = prop::sample::select(vec![Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::U8, Dtype::I64]);
    prop::collection::vec((dtype, prop::collection::vec(0usize..5, 0..4)), 0..6)
}

fn generated(tensors: &[(Dtype, Vec<usize>)]) -> Vec<u8> {
    let names: Vec<String> = (0..tensors.len()).map(|i| format!("layer.{i}")).collect();
    let with_data = tensors.iter().zip(&names).enumerate().map(|(i, ((dtype, shape), name))| {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        (name.as_str(), *dtype, shape.clone(), vec![i as u8; bytes])
    });
    written(&with_data.collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), length in any::<u64>()) {
        let _ = parse_header(&bytes, length);
        let mut bytes = raw_file(bytes.len() as u64, &bytes, 0);
        let _ = parse_header(&bytes, bytes.len() as u64);
        if let Some(first) = bytes.get_mut(8) {
            *first = b'{';
        }
        let _ = parse_header(&bytes, bytes.len() as u64);
    }

    #[test]
    fn mutated_files_are_refused_or_exact(
        tensors in tensors(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), b' '..b'\x7f'), 1..4),
        file_len in prop::option::of(any::<u64>()),
    ) {
        let mut bytes = generated(&tensors);
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (index, byte) in changes {
            let at = index.index(header);
            bytes[at] = byte;
        }
        let file_len = file_len.unwrap_or(bytes.len() as u64);
        if let Ok(tensors) = parse_header(&bytes, file_len) {
            check_invariants(&bytes, file_len, &tensors);
        }
    }

    #[test]
    fn numbers_in_headers_are_refused_or_exact(
        shape in prop::collection::vec(prop_oneof![0u64..4, any::<u64>()], 0..4),
        offsets in prop::array::uniform4(prop_oneof![0u64..9, any::<u64>()]),
        data in 0usize..10,
    ) {
        let [a, b, c, d] = offsets;
        let (a, b) = (entry("a", "F16", &format!("{shape:?}"), &format!("[{a},{b}]")),
            entry("b", "U8", "[2]", &format!("[{c},{d}]")));
        let bytes = file(&format!("{{{a},{b}}}"), data);
        if let Ok(tensors) = parse_header(&bytes, bytes.len() as u64) {
            check_invariants(&bytes, bytes.len() as u64, &tensors);
        }
    }

    #[test]
    fn what_is_written_is_read(tensors in tensors()) {
        let bytes = generated(&tensors);
        let infos = parse_header(&bytes, bytes.len() as u64).unwrap();
        check_invariants(&bytes, bytes.len() as u64, &infos);
        prop_assert_eq!(infos.len(), tensors.len());
        for info in infos {
            let i: usize = info.name.strip_prefix("layer.").unwrap().parse().unwrap();
            prop_assert_eq!((&info.encoding, &info.shape), (&Encoding::Plain(tensors[i].0), &tensors[i].1));
            prop_assert!(bytes[info.bytes].iter().all(|&byte| byte == i as u8));
        }
    }
}
