//! What the metadata of a GGUF file is taken to say of its model.

use super::*;
use crate::checkpoint::{Config, Dtype, Encoding, RopeScaling};

/// The header of a small model of `family`, with these keys of it changed, and these tensors of two dimensions or more.
fn header(family: &str, changes: &[(&str, Value)], tensors: &[(&str, &[usize])]) -> Header {
    let integer = Value::Integer;
    let mut metadata: BTreeMap<String, Value> = [
        ("block_count", integer(2)),
        ("context_length", integer(16384)),
        ("embedding_length", integer(64)),
        ("feed_forward_length", integer(64)),
        ("attention.head_count", integer(4)),
        ("attention.layer_norm_rms_epsilon", Value::Float(1e-5)),
    ]
    .iter()
    .chain(changes)
    .map(|(key, value)| (format!("{family}.{key}"), value.clone()))
    .collect();
    let texts = |texts: &[&str]| Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect());
    metadata.extend([
        ("general.architecture".to_owned(), Value::Text(family.to_owned())),
        ("tokenizer.ggml.model".to_owned(), Value::Text("gpt2".to_owned())),
        ("tokenizer.ggml.tokens".to_owned(), texts(&["a", "b", "ab"])),
        ("tokenizer.ggml.merges".to_owned(), texts(&["a b"])),
    ]);
    let tensor = |(name, shape): &(&str, &[usize])| {
        let elements = shape.iter().product();
        let encoding = Encoding::Plain(Dtype::F16);
        let bytes = 0..2 * elements;
        TensorInfo {
            name: (*name).to_owned(),
            encoding,
            shape: shape.to_vec(),
            elements,
            bytes,
            change: Change::None,
        }
    };
    let tensors = [("token_embd.weight", &[3, 64][..])].iter().chain(tensors).map(tensor).collect();
    Header { version: 3, metadata, tensors }
}

/// The configuration that is made of it.
fn configuration(header: &Header) -> Result<Config, String> {
    let files = files(header)?;
    let (_, json) = files.iter().find(|(name, _)| *name == "config.json").unwrap();
    Config::parse(std::str::from_utf8(json).unwrap())
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn positions_are_stretched_as_llama_cpp_has_it() {
    let scaling = |changes: &[(&str, Value)]| {
        configuration(&header("llama", changes, &[])).map(|config| config.rope.rope_scaling)
    };
    let (factor, older) = ("rope.scaling.factor", "rope.scale_linear");
    let kind = |name| ("rope.scaling.type", text(name));
    let float = Value::Float;
    let linear = |factor| Ok(RopeScaling::Linear { factor });
    // Without a type it is linear, and what the factor was called before counts where there is none.
    assert_eq!(scaling(&[(factor, float(4.0))]), linear(4.0));
    assert_eq!(scaling(&[(older, Value::Integer(4))]), linear(4.0));
    assert_eq!(scaling(&[(older, float(4.0)), (factor, float(2.0))]), linear(2.0));
    assert_eq!(scaling(&[kind("linear"), (older, float(4.0))]), linear(4.0));
    for same in
        [&[][..], &[(factor, float(0.0))], &[(factor, float(1.0))], &[kind("none"), (factor, float(4.0))]]
    {
        assert_eq!(scaling(same), Ok(RopeScaling::None), "{same:?}");
    }
    let yarn = |more: &[(&'static str, Value)]| {
        let length = ("rope.scaling.original_context_length", Value::Integer(4096));
        match scaling(&[&[kind("yarn"), (factor, float(4.0)), length], more].concat()).unwrap() {
            RopeScaling::Yarn {
                factor,
                attention_factor,
                beta_fast,
                beta_slow,
                original_max_position_embeddings,
            } => {
                assert_eq!((factor, original_max_position_embeddings), (4.0, 4096));
                (attention_factor, beta_fast, beta_slow)
            }
            other => panic!("{other:?}"),
        }
    };
    let sharper = 0.1 * 4f64.ln() + 1.0;
    let unset = [
        ("rope.scaling.yarn_ext_factor", float(-1.0)),
        ("rope.scaling.yarn_attn_factor", float(1.0)),
        ("rope.scaling.yarn_log_multiplier", float(0.0)),
        ("rope.scaling.finetuned", Value::Flag(true)),
    ];
    assert_eq!(yarn(&unset), (sharper, 32.0, 1.0));
    let betas = [("rope.scaling.yarn_beta_fast", float(16.0)), ("rope.scaling.yarn_beta_slow", float(2.0))];
    assert_eq!(yarn(&betas), (sharper, 16.0, 2.0));
    assert_eq!(yarn(&[("rope.scaling.attn_factor", float(0.5))]), (0.5 * sharper, 32.0, 1.0));
    for (changes, expected) in [
        (&[("rope.scaling.attn_factor", float(1.5))][..], "llama.rope.scaling.attn_factor is Float(1.5)"),
        (&[kind("none"), ("rope.scaling.attn_factor", float(1.5))], "llama.rope.scaling.attn_factor"),
        (
            &[kind("yarn"), ("rope.scaling.yarn_ext_factor", float(0.5))],
            "yarn_ext_factor is Float(0.5), expected 1",
        ),
        (&[("rope.scaling.yarn_ext_factor", float(1.0))], "yarn_ext_factor is Float(1.0), expected 0"),
        (&[kind("yarn"), ("rope.scaling.yarn_attn_factor", float(0.5))], "yarn_attn_factor is Float(0.5)"),
        (
            &[kind("yarn"), ("rope.scaling.yarn_log_multiplier", float(0.1))],
            "yarn_log_multiplier is Float(0.1)",
        ),
        (&[("rope.dimension_sections", Value::Numbers(vec![16.0, 24.0]))], "llama.rope.dimension_sections"),
        (
            &[("rope.freq_base_swa", float(1e4))],
            "llama.rope.freq_base_swa is Float(10000.0), expected no such key",
        ),
        (&[("rope.scaling.alpha", float(1e3))], "llama.rope.scaling.alpha"),
        (&[kind("dynamic"), (factor, float(4.0))], "rope_type is \"dynamic\""),
        (&[kind("yarn")], "factor is missing"),
    ] {
        let problem = scaling(changes).unwrap_err();
        assert!(problem.contains(expected), "{problem:?} does not say {expected:?}");
    }
    let gemma = configuration(&header("gemma3", &[("rope.freq_base_swa", float(5e3))], &[])).unwrap();
    assert_eq!(gemma.rope_local_base_freq, Some(5e3));
}

/// A tensor of factors stretches positions by itself.
#[test]
fn positions_are_stretched_once() {
    let listed: &[(&str, &[usize])] = &[("rope_freqs.weight", &[8])];
    let long: &[(&str, &[usize])] =
        &[("rope_factors_long.weight", &[8]), ("rope_factors_short.weight", &[8])];
    let original = ("rope.scaling.original_context_length", Value::Integer(4096));
    let factor = ("rope.scaling.factor", Value::Float(4.0));
    for tensors in [listed, long] {
        let twice = header("llama", &[original.clone(), factor.clone()], tensors);
        let problem = configuration(&twice).unwrap_err();
        assert!(
            problem.contains("stretches positions twice: by \"linear\", and by its tensor \"rope_f"),
            "{problem}"
        );
    }
    let attention = ("rope.scaling.attn_factor", Value::Float(1.25));
    let found = configuration(&header("phi3", &[original, attention], long)).unwrap().rope.rope_scaling;
    let expected = RopeScaling::LongRope { attention_factor: 1.25, original_max_position_embeddings: 4096 };
    assert_eq!(found, expected);
    assert_eq!(configuration(&header("llama", &[], listed)).unwrap().rope.rope_scaling, RopeScaling::None);
}

/// A few bytes of a header must not become a thousand tensors.
#[test]
fn a_tensor_of_experts_has_as_many_as_the_model_and_none_empty() {
    let found = |shape: &[usize]| {
        let header = header("qwen3moe", &[("expert_count", Value::Integer(8))], &[]);
        let encoding = Encoding::Plain(Dtype::F16);
        let (name, elements) = ("blk.0.ffn_up_exps.weight".to_owned(), shape.iter().product());
        let (shape, bytes, change) = (shape.to_vec(), 0..2 * elements, Change::None);
        rename(&header.metadata, vec![TensorInfo { name, encoding, shape, elements, bytes, change }])
    };
    let tensors = found(&[8, 2, 4]).unwrap();
    assert_eq!((tensors.len(), &tensors[7].shape[..], tensors[7].bytes.clone()), (8, &[2, 4][..], 112..128));
    assert_eq!(tensors[7].name, "model.layers.0.mlp.experts.7.up_proj.weight");
    for shape in [&[1024, 0, 0][..], &[8, 0, 4], &[8, 2, 0], &[0, 2, 4], &[7, 2, 4], &[1024, 2, 4], &[8, 8]] {
        let problem = found(shape).unwrap_err();
        let expected =
            "expected [experts, rows, columns] of 1 to 1024 experts, 8 by its expert_count, none empty";
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn windows_are_those_of_the_file_or_gemma_2s() {
    let windows = |family: &str, changes: &[(&str, Value)]| {
        configuration(&header(family, changes, &[])).unwrap().windows
    };
    let size = |n| ("attention.sliding_window", Value::Integer(n));
    assert_eq!(windows("gemma2", &[]), [Some(4096), None]);
    assert_eq!(windows("gemma2", &[size(64)]), [Some(64), None]);
    assert_eq!(windows("gemma2", &[size(0)]), [None; 2]);
    assert_eq!(windows("gemma3", &[]), [None; 2]);
    assert_eq!(windows("gemma3", &[size(64)]), [Some(64); 2]);
    assert_eq!(windows("qwen2", &[]), [None; 2]);
    assert_eq!(windows("qwen2", &[size(64)]), [Some(64); 2]);
}
