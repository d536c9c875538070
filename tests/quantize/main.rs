//! Models that are written with quantized weights, read again; and against compressed-tensors and transformers
//! (`models/quantized.py`).

mod calibrated;
#[path = "../common/mod.rs"]
mod common;

use common::{cpu, ids, json, numbers, open_stored, relative_error, usual_devices};
use pollster::block_on;
use sixteen_states::checkpoint::{Checkpoint, Config, TensorInfo, locate};
use sixteen_states::engine::Engine;
use sixteen_states::error::{Error, Result};
use sixteen_states::export::gguf::{TYPES, Type};
use sixteen_states::export::{
    Description, LAYOUTS, Layout, Recipe, Settings, Stored, Summary, Watch, matrices,
};
use sixteen_states::quantize::{Coded, QUANTIZERS, Quantizer, Spec, Zeros};
use sixteen_states::text::Tokenizer;
use std::path::{Path, PathBuf};

/// A tiny model with the tokenizer of another, whose vocabulary is the same.
fn model(name: &str) -> tempfile::TempDir {
    let tiny = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tiny").join(name);
    let directory = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(tiny(name).join(file), directory.path().join(file)).unwrap();
    }
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(tiny("llama").join(file), directory.path().join(file)).unwrap();
    }
    directory
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Where things are written.
enum To {
    Layout(&'static Layout, Settings),
    Type(&'static Type, &'static Quantizer),
}

fn write_watched(source: &Path, to: &To, out: &Path, force: bool, watch: &mut Watch<'_>) -> Result<Summary> {
    let mut recipe = match to {
        To::Layout(_, settings) => Recipe::plain(*settings),
        To::Type(kind, quantizer) => Recipe::plain(type_settings(kind, quantizer)),
    };
    write_recipe(source, to, &mut recipe, (out, force), watch)
}

fn write_recipe(
    source: &Path,
    to: &To,
    recipe: &mut Recipe<'_>,
    place: (&Path, bool),
    watch: &mut Watch<'_>,
) -> Result<Summary> {
    let source = locate(text(source))?;
    let checkpoint = Checkpoint::of(&source)?;
    let model = Description { name: "tiny", directory: &source.directory, checkpoint: &checkpoint };
    match to {
        To::Layout(layout, _) => layout.write(&model, recipe, place, watch),
        To::Type(kind, _) => kind.write(&model, recipe, place, watch),
    }
}

fn type_settings(kind: &Type, quantizer: &'static Quantizer) -> Settings {
    let usual = Settings { quantizer, bits: 4, states: None, group: 32, symmetric: false };
    kind.settings(usual).unwrap_or(usual)
}

fn write(source: &Path, to: &To, out: &Path) -> Result<Summary> {
    let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
    write_watched(source, to, out, false, &mut watch)
}

fn layout(name: &str, bits: u32, group: usize, symmetric: bool) -> To {
    let settings = Settings { quantizer: QUANTIZERS[0], bits, states: None, group, symmetric };
    To::Layout(Layout::named(name).unwrap(), settings)
}

fn values(checkpoint: &Checkpoint, info: &TensorInfo) -> Vec<f32> {
    let tensor = checkpoint.tensor(&info.name, &info.shape).unwrap();
    let mut values = vec![0.0; info.elements];
    tensor.read_f32(0..values.len(), &mut values);
    values
}

/// What the codes that a quantizer chooses for a matrix stand for.
fn chosen(
    quantizer: &Quantizer,
    weights: &[f32],
    info: &TensorInfo,
    (bits, group, zeros): (u32, usize, Zeros),
) -> (Coded, Vec<f32>) {
    let &[rows, cols] = info.shape.as_slice() else { panic!("{} is no matrix", info.name) };
    let coded = quantizer.quantize_matrix(weights, [rows, cols], Spec::new(bits, group, zeros)).unwrap();
    let numbers = (0..rows * cols).map(|i| coded.value(i / cols, i % cols)).collect();
    (coded, numbers)
}

/// Every number that is read from what was written is the one that was chosen, to the bit, and runs in codes; what is not
/// quantized is what it was. Matrices of 136 and 176 columns have no whole groups: they stay floats, or their last group is
/// shorter.
#[test]
fn what_is_read_is_what_was_chosen() {
    let mut checked = 0;
    for name in ["llama-gqa-llama3", "llama-linear-bias", "qwen3", "olmo2"] {
        let source = model(name);
        let before = Checkpoint::of(&locate(text(source.path())).unwrap()).unwrap();
        for quantizer in QUANTIZERS {
            let mut goals: Vec<(To, (u32, usize, Zeros))> = Vec::new();
            for layout in LAYOUTS {
                for (bits, group, symmetric) in [(4, 32, false), (4, 64, true), (8, 32, true), (8, 64, false)]
                {
                    let settings = Settings { quantizer, bits, states: None, group, symmetric };
                    goals.push((To::Layout(layout, settings), (bits, group, (layout.zeros)(symmetric))));
                }
            }
            for kind in TYPES {
                let (bits, zeros) = kind.codes.unwrap_or((16, Zeros::Free));
                goals.push((To::Type(kind, quantizer), (bits, 32, zeros)));
            }
            for (to, spec) in goals {
                let directory = tempfile::tempdir().unwrap();
                let out = directory.path().join("out.gguf");
                let what = match &to {
                    To::Layout(layout, _) => format!("{name} {} {spec:?} {}", layout.name, quantizer.name),
                    To::Type(kind, _) => format!("{name} {} {}", kind.name, quantizer.name),
                };
                let out = if matches!(to, To::Layout(..)) { directory.path().join("out") } else { out };
                let summary = write(source.path(), &to, &out).unwrap_or_else(|e| panic!("{what}: {e}"));
                let after = Checkpoint::of(&locate(text(&out)).unwrap()).unwrap();
                let mut coded_matrices = 0;
                let (mut error, mut power) = (0.0, 0.0);
                for info in before.tensors() {
                    let found = after.get(&info.name).unwrap_or_else(|| panic!("{what}: no {}", info.name));
                    let (weights, numbers) = (values(&before, info), values(&after, found));
                    if !found.encoding.has_codes() {
                        // Its numbers were random in 32 bits.
                        let half = |w: f32| half::f16::from_f32(w).to_f32();
                        let kept = if info.shape.len() == 2 { half } else { |w| w };
                        assert!(
                            weights.iter().zip(&numbers).all(|(&w, &n)| kept(w) == n),
                            "{what}: {}",
                            info.name
                        );
                        continue;
                    }
                    let (coded, expected) = chosen(quantizer, &weights, info, spec);
                    assert_eq!(numbers, expected, "{what}: {}", info.name);
                    assert!(found.encoding.packing().is_some(), "{what}: {} runs as floats", info.name);
                    error += coded.squared_error(&weights);
                    power += weights.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>();
                    coded_matrices += 1;
                }
                assert_eq!(
                    (coded_matrices, after.tensors().count() >= before.tensors().count()),
                    (summary.matrices, true)
                );
                if coded_matrices > 0 {
                    assert!((summary.relative_error - error / power).abs() <= 1e-9 * error / power, "{what}");
                }
                let stored: u64 =
                    std::fs::metadata(if out.is_dir() { out.join("model.safetensors") } else { out.clone() })
                        .unwrap()
                        .len();
                assert_eq!(summary.bytes, stored, "{what}");
                checked += coded_matrices;
            }
        }
    }
    assert!(checked > 500, "{checked}");
}

fn engine_logits(engine: &mut Engine, tokens: &[u32]) -> Vec<f32> {
    block_on(engine.logits(tokens)).unwrap()
}

/// Logits of compressed-tensors' and transformers' reading of the same directory.
#[test]
fn directories_give_the_logits_that_transformers_has() {
    for (name, reference) in json("quantized.json").as_object().unwrap() {
        let source = model(reference["model"].as_str().unwrap());
        let options: Vec<&str> =
            reference["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
        let bits = if options.contains(&"8") { 8 } else { 4 };
        let out = source.path().join("out");
        let to = layout("compressed-tensors", bits, 32, options.contains(&"--symmetric"));
        let summary = write(source.path(), &to, &out).unwrap();
        assert_eq!(summary.matrices as u64, reference["matrices"].as_u64().unwrap(), "{name}");
        for device in usual_devices() {
            let mut engine = open_stored(device.open(), text(&out), 1);
            let vocab = engine.config().vocab_size;
            let logits = engine_logits(&mut engine, &ids(&reference["ids"]));
            for (position, expected) in
                ids(&reference["positions"]).iter().zip(reference["logits"].as_array().unwrap())
            {
                let found = &logits[*position as usize * vocab..][..vocab];
                let error = relative_error(found, &numbers(expected));
                assert!(
                    error < 1e-5,
                    "{name} on {}: logits at {position} are off by {error:.1e}",
                    device.name
                );
            }
        }
    }
}

/// A GGUF file says what the configuration said, stretched positions included: its 16-bit floats give the same logits, and
/// its tokenizer the same tokens.
#[test]
fn gguf_files_say_what_the_model_is() {
    for name in ["llama", "llama-gqa-llama3", "llama-linear-bias", "qwen2", "qwen3", "olmo2"] {
        let source = model(name);
        let out = source.path().join("out.gguf");
        write(source.path(), &To::Type(Type::named("f16").unwrap(), QUANTIZERS[0]), &out).unwrap();
        let [before, after] = [source.path(), out.as_path()].map(|path| locate(text(path)).unwrap());
        let [config, again] = [&before, &after].map(|source| Config::open(&source.directory).unwrap());
        assert_eq!(again.num_attention_heads, config.num_attention_heads, "{name}");
        assert_eq!((again.head_dim, again.norm_eps), (config.head_dim, config.norm_eps), "{name}");
        assert_eq!((again.bos_token_id, &again.eos_token_ids), (Some(1), &vec![2]), "{name}");
        let [ours, theirs] = [(&before, &config), (&after, &again)]
            .map(|(source, config)| Tokenizer::open(&source.directory, config.vocab_size).unwrap());
        let words = "The other thing, 1234 of them;\n  and <s> so on. Ünd";
        for special in [false, true] {
            assert_eq!(
                theirs.encode(words, special).unwrap(),
                ours.encode(words, special).unwrap(),
                "{name}"
            );
        }
        let tokens: Vec<u32> = (3..60).collect();
        let device = cpu();
        let [ours, theirs] = [source.path(), &out].map(|path| {
            let mut engine = common::open(device.open(), text(path), common::packing(16, 64), 1);
            engine_logits(&mut engine, &tokens)
        });
        let ours: Vec<f64> = ours.iter().map(|&x| f64::from(x)).collect();
        let error = relative_error(&theirs, &ours);
        assert!(error < 1e-9, "{name}: {error:.1e}");
    }
}

fn left(directory: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// Whatever stops a run, nothing that looks like a model is there: not while it runs, and nothing at all after it.
#[test]
fn an_interrupted_run_leaves_nothing() {
    let source = model("llama-gqa-llama3");
    let kinds = [
        ("out", layout("compressed-tensors", 4, 32, false)),
        ("out.gguf", To::Type(Type::named("q4_0").unwrap(), QUANTIZERS[0])),
    ];
    for (name, to) in &kinds {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join(name);
        let calls = std::cell::Cell::new(0);
        let interrupted = || {
            calls.set(calls.get() + 1);
            let [partial] = &left(directory.path())[..] else { panic!("one thing is being written") };
            assert!(partial.file_name().unwrap().to_str().unwrap().ends_with(".partial"), "{partial:?}");
            let model = locate(text(partial)).and_then(|source| Config::open(&source.directory));
            assert!(model.is_err(), "{partial:?} looks like a model");
            calls.get() == 5
        };
        let mut watch = Watch { progress: &mut |_| {}, interrupted: &interrupted };
        let error = write_watched(source.path(), to, &out, false, &mut watch).unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{error}");
        assert_eq!((calls.get(), left(directory.path())), (5, vec![]));
    }
    // A weight that is not finite ends it too, late in the file.
    let path = source.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (name, to) in &kinds {
        let error = write(source.path(), to, &directory.path().join(name)).unwrap_err();
        assert!(matches!(error, Error::Tensor { .. }), "{error}");
        assert_eq!(left(directory.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn what_is_there_is_replaced_only_when_told() {
    let source = model("llama-gqa-llama3");
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let to = layout("compressed-tensors", 4, 32, false);
    write(source.path(), &to, &out).unwrap();
    let refused = |force: bool, expected: &str| {
        let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
        let error = write_watched(source.path(), &to, &out, force, &mut watch).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    };
    refused(false, "exists already");
    // An interrupted replacement leaves what was there.
    let config = std::fs::read(out.join("config.json")).unwrap();
    let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| true };
    write_watched(source.path(), &to, &out, true, &mut watch).unwrap_err();
    assert_eq!(std::fs::read(out.join("config.json")).unwrap(), config);
    let again = layout("compressed-tensors", 8, 64, true);
    let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
    write_watched(source.path(), &again, &out, true, &mut watch).unwrap();
    assert_ne!(std::fs::read(out.join("config.json")).unwrap(), config);
    assert_eq!(left(directory.path()), std::slice::from_ref(&out));
    // Not what was written here.
    std::fs::create_dir(out.join("photos")).unwrap();
    refused(true, "is not replaced");
    std::fs::remove_dir(out.join("photos")).unwrap();
    std::fs::remove_file(out.join("config.json")).unwrap();
    refused(true, "is not replaced");
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let q4_0 = || To::Type(Type::named("q4_0").unwrap(), QUANTIZERS[0]);
    let directory = tempfile::tempdir().unwrap();
    let formats = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let with = |name: &str, file: &str, field: &[&str], value: serde_json::Value| {
        let model = model(name);
        let path = model.path().join(file);
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let place = field.iter().fold(&mut json, |json, field| &mut json[*field]);
        *place = value;
        std::fs::write(&path, json.to_string()).unwrap();
        model
    };
    let tokenizer = "tokenizer.json";
    for (source, to, expected) in [
        (model("mistral"), q4_0(), "attention looks back"),
        (model("phi3"), q4_0(), "Phi3ForCausalLM is not written to GGUF files"),
        (model("llama-yarn"), q4_0(), "YaRN"),
        (model("llama-gqa-llama3"), layout("gptq", 4, 32, false), ""),
        (
            model("llama"),
            layout("compressed-tensors", 4, 32, false),
            "no matrix of the model has whole groups of 32",
        ),
        (with("llama", tokenizer, &["model", "type"], "Unigram".into()), q4_0(), "is of type \"Unigram\""),
        (
            with("llama", tokenizer, &["pre_tokenizer", "add_prefix_space"], true.into()),
            q4_0(),
            "cuts a text into words in a way",
        ),
        (
            with("llama", tokenizer, &["model", "vocab", "!"], 9999.into()),
            q4_0(),
            "has the id 9999, expected less than 131",
        ),
        (
            with("llama", tokenizer, &["model", "vocab", "!"], 40.into()),
            q4_0(),
            "has two tokens with the id 40",
        ),
        (
            with("llama", tokenizer, &["model", "merges"], serde_json::json!([["a"]])),
            q4_0(),
            "has merges that are not pairs of texts",
        ),
        (
            with("llama", tokenizer, &["normalizer"], serde_json::json!({"type": "Lowercase"})),
            q4_0(),
            "cuts a text into words in a way",
        ),
    ] {
        let out = directory.path().join(if matches!(to, To::Type(..)) { "out.gguf" } else { "out" });
        match (write(source.path(), &to, &out), expected) {
            (Ok(_), "") => std::fs::remove_dir_all(&out).unwrap(),
            (Ok(_), expected) => panic!("was written, expected {expected:?}"),
            (Err(error), expected) => {
                assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}");
            }
        }
        assert_eq!(left(directory.path()), Vec::<PathBuf>::new());
    }
    for source in [formats.join("gptq"), formats.join("gguf-native.gguf")] {
        let error = write(&source, &layout("gptq", 4, 32, false), &directory.path().join("out")).unwrap_err();
        assert!(error.to_string().contains("already, and rounding twice adds up"), "{error}");
    }
    let nowhere = directory.path().join("absent/out");
    let error = write(model("llama").path(), &q4_0(), &nowhere).unwrap_err();
    assert!(error.to_string().contains("there is no such directory to write in"), "{error}");
}

/// Matrices that are stored otherwise are read as what they are, and the file says which.
#[test]
fn matrices_may_be_stored_in_several_ways() {
    let source = model("llama-linear-bias");
    let before = Checkpoint::of(&locate(text(source.path())).unwrap()).unwrap();
    let to = layout("compressed-tensors", 4, 32, false);
    let settings =
        Settings { quantizer: QUANTIZERS[0], bits: 4, states: Some(5), group: 32, symmetric: false };
    let stored = |bits, group| Stored { bits, group };
    for (to, out) in [(to, "out"), (To::Type(Type::named("q4_1").unwrap(), QUANTIZERS[0]), "out.gguf")] {
        let gguf = out.ends_with("gguf");
        let settings = if gguf { Settings { states: None, ..settings } } else { settings };
        let mut recipe = Recipe::plain(settings);
        let group = if gguf { 32 } else { 64 };
        for (name, how) in [
            ("layers.0.mlp.gate_proj", stored(8, 32)),
            ("layers.1.mlp.up_proj", stored(4, group)),
            ("layers.1.self_attn.v_proj", stored(16, 32)),
        ] {
            recipe.stored.insert(format!("model.{name}.weight"), how);
        }
        let out = source.path().join(out);
        let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
        let summary = write_recipe(source.path(), &to, &mut recipe, (&out, false), &mut watch).unwrap();
        // Two have no whole groups.
        assert_eq!(summary.matrices + 3, matrices(&before).unwrap().len(), "{out:?}");
        let after = Checkpoint::of(&locate(text(&out)).unwrap()).unwrap();
        for (name, packing) in [
            ("layers.0.mlp.gate_proj", if gguf { "q8_0/32" } else { "q8/32" }),
            ("layers.1.mlp.up_proj", if gguf { "q4_1/32" } else { "q4/64" }),
            ("layers.0.mlp.up_proj", if gguf { "q4_1/32" } else { "q4/32" }),
            ("layers.1.self_attn.v_proj", ""),
        ] {
            let info = after.get(&format!("model.{name}.weight")).unwrap();
            let found = info.encoding.packing().map_or(String::new(), |packing| packing.name());
            assert_eq!(found, packing, "{name}");
            let own = before.get(&info.name).unwrap();
            let (weights, numbers) = (values(&before, own), values(&after, info));
            let error: f64 = weights.iter().zip(&numbers).map(|(w, n)| f64::from(w - n).powi(2)).sum();
            let power: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
            let most = if packing.starts_with("q8") {
                1e-4
            } else if packing.is_empty() {
                1e-6
            } else {
                0.1
            };
            assert!(error <= power * most, "{name}: {}", error / power);
            if let Some(states) = settings.states.filter(|_| packing.starts_with("q4")) {
                // Five numbers a group, whatever a code could hold.
                let width = if packing.ends_with("64") { 64 } else { 32 };
                for group in numbers.chunks(width) {
                    let mut all: Vec<u32> = group.iter().map(|n| n.to_bits()).collect();
                    all.sort_unstable();
                    all.dedup();
                    assert!(all.len() <= states as usize, "{name}: {}", all.len());
                }
            }
        }
    }
    // A layout that has one way for all.
    let mut recipe = Recipe::plain(settings);
    recipe.stored.insert("model.layers.0.mlp.gate_proj.weight".to_owned(), stored(8, 32));
    let mut watch = Watch { progress: &mut |_| {}, interrupted: &|| false };
    let place = source.path().join("gptq");
    let to = layout("gptq", 4, 32, false);
    let error = write_recipe(source.path(), &to, &mut recipe, (&place, false), &mut watch).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("unlike the others"), "{error}");
}
