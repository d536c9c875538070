//! What configurations are read as, and which are refused.

use super::*;
use serde_json::json;

/// A small Llama, changed by `changes`; a change to `null` leaves the field in as `null`.
fn parse(changes: Value) -> Result<Config, String> {
    let mut json = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576,
        "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152, "rms_norm_eps": 1e-5, "hidden_act": "silu",
        "max_position_embeddings": 8192, "bos_token_id": 1, "eos_token_id": 2, "anything": {"else": []}
    });
    json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    Config::parse(&json.to_string())
}

#[test]
fn defaults() {
    let config = parse(json!({"head_dim": null, "rope_scaling": null, "sliding_window": null})).unwrap();
    assert_eq!((config.architecture.as_str(), config.head_dim), ("LlamaForCausalLM", 64));
    let plain = Rope { rope_theta: 10_000.0, rope_scaling: RopeScaling::None, rotary_dim: 64 };
    assert_eq!(config.rope, plain);
    assert_eq!((config.bos_token_id, config.eos_token_ids), (Some(1), vec![2]));
    assert!(!config.tie_word_embeddings && !config.attention_bias && !config.mlp_bias);
    assert_eq!(config.windows, vec![None; 30]);
    let config = parse(json!({"num_key_value_heads": null, "eos_token_id": null, "head_dim": 128})).unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim), (9, 128));
    assert!(config.eos_token_ids.is_empty());
    assert_eq!(parse(json!({"architectures": null})).unwrap().architecture, "llama");
}

/// The whole of what Gemma 3's configurations say of their text model; the rest is left out.
#[test]
fn a_text_model_within_another() {
    let whole = json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "eos_token_id": [1, 106],
        "image_token_index": 262144, "mm_tokens_per_image": 256, "vision_config": {"hidden_size": 1152},
        "text_config": {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text",
            "num_hidden_layers": 34, "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024},
    });
    let config = Config::parse(&whole.to_string()).unwrap();
    assert_eq!(
        (config.architecture.as_str(), config.vocab_size),
        ("Gemma3ForConditionalGeneration", 262_208)
    );
    assert_eq!((config.num_attention_heads, config.num_key_value_heads, config.head_dim), (8, 4, 256));
    assert_eq!((config.max_position_embeddings, config.eos_token_ids.as_slice()), (131_072, &[1, 106][..]));
    assert_eq!((config.windows[4], config.windows[5]), (Some(1024), None));
    assert!(config.tie_word_embeddings && config.rope_local_base_freq == Some(10_000.0));
    let mut other = whole.clone();
    other["text_config"] = json!("gemma3_text");
    assert!(Config::parse(&other.to_string()).unwrap_err().contains("has no object text_config"));
}

#[test]
fn rope_in_every_spelling() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let older = parse(json!({"rope_theta": 500000, "rope_scaling": llama3})).unwrap();
    let mut newer = llama3.clone();
    newer["rope_theta"] = json!(500000.0);
    let newer = parse(json!({"rope_parameters": newer})).unwrap();
    assert_eq!(older, newer);
    let scaling = "Llama3 { factor: 8.0, low_freq_factor: 1.0, high_freq_factor: 4.0, \
        original_max_position_embeddings: 8192 }";
    let found = format!("{:?}", older.rope.rope_scaling);
    assert_eq!((older.rope.rope_theta, found.as_str()), (500_000.0, scaling));
    let linear = parse(json!({"rope_scaling": {"type": "linear", "factor": 2}})).unwrap();
    assert_eq!(linear.rope.rope_scaling, RopeScaling::Linear { factor: 2.0 });
    let plain = parse(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7e5}})).unwrap();
    assert_eq!((plain.rope.rope_theta, plain.rope.rope_scaling), (7e5, RopeScaling::None));
    let yarn = json!({"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 4096});
    let yarn = parse(json!({"rope_scaling": yarn})).unwrap();
    assert_eq!(yarn.max_position_embeddings, 16384);
    let RopeScaling::Yarn { attention_factor, beta_fast, beta_slow, .. } = yarn.rope.rope_scaling else {
        panic!("{:?}", yarn.rope)
    };
    assert!((attention_factor - 1.138_629).abs() < 1e-6, "{attention_factor}");
    assert_eq!((beta_fast, beta_slow), (32.0, 1.0));
}

#[test]
fn windows() {
    // Where the first and last layer with a window are, and how many there are.
    let window = |changes| {
        parse(changes).map(|config| {
            let with: Vec<usize> = (0..30).filter(|&i| config.windows[i].is_some()).collect();
            assert!(with.iter().all(|&i| config.windows[i] == Some(64)), "{:?}", config.windows);
            with.first().map(|first| (*first, with[with.len() - 1], with.len()))
        })
    };
    assert_eq!(window(json!({"sliding_window": 64})), Ok(Some((0, 29, 30))));
    assert_eq!(window(json!({"sliding_window": 64, "use_sliding_window": false})), Ok(None));
    let qwen = |using: Value, full: Value| {
        window(
            json!({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 64, "use_sliding_window": using,
            "max_window_layers": full}),
        )
    };
    assert_eq!(qwen(Value::Null, json!(0)), Ok(None));
    assert_eq!(qwen(json!(true), json!(0)), Ok(Some((0, 29, 30))));
    assert_eq!(qwen(json!(true), json!(28)), Ok(Some((28, 29, 2))));
    assert_eq!(qwen(json!(true), json!(30)), Ok(None));
    assert!(qwen(json!(true), json!("all")).unwrap_err().contains("max_window_layers is \"all\""));
    let gemma = |name: &str, changes: Value| {
        let mut json = json!({"architectures": [name], "hidden_act": null, "sliding_window": 64});
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        window(json)
    };
    assert_eq!(gemma("Gemma2ForCausalLM", json!({})), Ok(Some((0, 28, 15))));
    assert_eq!(gemma("Gemma3ForCausalLM", json!({})), Ok(Some((0, 28, 25))));
    assert_eq!(gemma("Gemma3ForCausalLM", json!({"sliding_window_pattern": 2})), Ok(Some((0, 28, 15))));
    // Without rotation are every fourth layer, or those with a 0.
    let smollm3 = |changes: Value| {
        let mut json = json!({"architectures": ["SmolLM3ForCausalLM"], "sliding_window": 64});
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        window(json)
    };
    assert_eq!(smollm3(json!({})), Ok(None));
    assert_eq!(smollm3(json!({"use_sliding_window": true})), Ok(Some((3, 27, 7))));
    let mut rotate = vec![1; 30];
    rotate[5] = 0;
    let one = json!({"use_sliding_window": true, "no_rope_layers": rotate, "max_window_layers": 28});
    assert_eq!(smollm3(one), Ok(Some((5, 5, 1))));
    let kinds = |a: &str, b: &str, n: usize, size: Value| {
        let mut kinds = vec![a; n];
        kinds[0] = b;
        window(json!({"sliding_window": size, "layer_types": kinds}))
    };
    assert_eq!(kinds("full_attention", "full_attention", 30, json!(64)), Ok(None));
    assert_eq!(kinds("sliding_attention", "sliding_attention", 30, json!(64)), Ok(Some((0, 29, 30))));
    assert_eq!(kinds("full_attention", "sliding_attention", 30, json!(64)), Ok(Some((0, 0, 1))));
    assert!(kinds("full_attention", "full_attention", 29, json!(64)).unwrap_err().contains("each of 30"));
    assert!(kinds("full_attention", "chunked_attention", 30, json!(64)).is_err());
    let missing = kinds("full_attention", "sliding_attention", 30, Value::Null).unwrap_err();
    assert!(missing.contains("sliding_window is missing"), "{missing}");
}

/// Where no window is said there may be one all the same, unless there is said to be none.
#[test]
fn windows_that_are_left_out() {
    let of = |name: &str, changes: Value| {
        let mut json = json!({"architectures": [name], "hidden_act": null});
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let windows = parse(json).unwrap().windows;
        let with = windows.iter().filter(|window| window.is_some()).count();
        assert!(windows.iter().flatten().all(|&window| window == 4096), "{windows:?}");
        with
    };
    let experts = json!({"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64,
        "num_local_experts": 4, "use_sliding_window": true});
    for (name, changes, with) in [
        ("MistralForCausalLM", json!({}), 30),
        ("Gemma2ForCausalLM", json!({}), 15),
        ("Gemma3ForCausalLM", json!({}), 25),
        ("Qwen2ForCausalLM", json!({"use_sliding_window": true}), 2),
        ("Qwen3ForCausalLM", json!({"use_sliding_window": true}), 2),
        ("Qwen3ForCausalLM", json!({"use_sliding_window": true, "max_window_layers": 0}), 30),
        ("Qwen3ForCausalLM", json!({}), 0),
        ("Qwen3MoeForCausalLM", experts.clone(), 30),
        ("LlamaForCausalLM", json!({}), 0),
        ("MixtralForCausalLM", experts, 0),
        ("SmolLM3ForCausalLM", json!({"use_sliding_window": true}), 0),
    ] {
        assert_eq!(of(name, changes.clone()), with, "{name}");
        let mut none = changes;
        none["sliding_window"] = Value::Null;
        assert_eq!(of(name, none), 0, "{name}");
    }
}

/// What an architecture means by what it leaves out, and by names of its own.
#[test]
fn families() {
    let of = |name: &str, changes: Value| {
        let mut json = json!({"architectures": [name], "hidden_act": null, "rms_norm_eps": 1e-6});
        json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        parse(json)
    };
    let gemma = of("Gemma2ForCausalLM", json!({})).unwrap();
    assert_eq!((gemma.hidden_act.as_str(), gemma.tie_word_embeddings), ("gelu_pytorch_tanh", true));
    assert_eq!((gemma.attn_logit_softcapping, gemma.final_logit_softcapping), (Some(50.0), Some(30.0)));
    let open = of("Gemma2ForCausalLM", json!({"attn_logit_softcapping": null})).unwrap();
    assert_eq!(open.attn_logit_softcapping, None);
    let neox = json!({"num_key_value_heads": null, "layer_norm_eps": 1e-5, "rotary_pct": 0.5, "rotary_emb_base": 5000, "hidden_act": "gelu"});
    let neox = of("GPTNeoXForCausalLM", neox).unwrap();
    assert_eq!((neox.rope.rotary_dim, neox.rope.rope_theta), (32, 5000.0));
    assert!(neox.use_parallel_residual && neox.attention_bias);
    let gpt2 = r#"{"architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128,
        "n_ctx": 128, "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "vocab_size": 100}"#;
    let gpt2 = Config::parse(gpt2).unwrap();
    assert_eq!((gpt2.hidden_size, gpt2.intermediate_size, gpt2.num_hidden_layers), (64, 256, 2));
    assert_eq!((gpt2.max_position_embeddings, gpt2.tie_word_embeddings), (128, true));
    let smollm3 = of("SmolLM3ForCausalLM", json!({"hidden_act": "silu"})).unwrap();
    let still: Vec<usize> = (0..30).filter(|&i| smollm3.no_rope_layers[i]).collect();
    assert_eq!((still, smollm3.tie_word_embeddings), (vec![3, 7, 11, 15, 19, 23, 27], true));
    assert_eq!(smollm3.rope.rope_theta, 2e6);
    let each = json!({"sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
        "full_attention": {"rope_theta": 1e6, "rope_type": "linear", "factor": 8}});
    let gemma3 = of("Gemma3ForCausalLM", json!({"rope_parameters": each})).unwrap();
    assert_eq!((gemma3.rope.rope_theta, gemma3.rope_local_base_freq), (1e6, Some(1e4)));
    assert_eq!(gemma3.rope.rope_scaling, RopeScaling::Linear { factor: 8.0 });
    let experts = json!({"num_local_experts": 8, "num_experts_per_tok": 2});
    let mixtral = of("MixtralForCausalLM", experts).unwrap();
    assert_eq!((mixtral.num_experts, mixtral.num_experts_per_tok, mixtral.norm_topk_prob), (8, 2, true));
    let experts = json!({"num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768});
    let qwen = of("Qwen3MoeForCausalLM", experts).unwrap();
    assert_eq!((qwen.num_experts, qwen.intermediate_size, qwen.norm_topk_prob), (128, 768, false));
    for (name, changes, expected) in [
        ("LlamaForCausalLM", json!({"no_rope_layers": vec![0; 30]}), "expected 1 for each layer"),
        ("SmolLM3ForCausalLM", json!({"no_rope_layers": [1, 0]}), "0 or 1 for each of 30 layers"),
        ("MixtralForCausalLM", json!({"num_local_experts": 2, "num_experts_per_tok": 3}), "from 1 to 2"),
        ("MixtralForCausalLM", json!({}), "num_experts is missing"),
        (
            "Qwen3MoeForCausalLM",
            json!({"num_experts": 4, "num_experts_per_tok": 2, "decoder_sparse_step": 2}),
            "decoder_sparse_step is 2",
        ),
        ("LlamaForCausalLM", json!({"attn_logit_softcapping": 50}), "attn_logit_softcapping is 50"),
        ("LlamaForCausalLM", json!({"logits_scaling": 8}), "logits_scaling is 8, expected 1"),
        ("MistralForCausalLM", json!({"query_pre_attn_scalar": 64}), "query_pre_attn_scalar is 64"),
        ("Qwen3ForCausalLM", json!({"mlp_bias": true}), "mlp_bias is true, expected false"),
        ("Gemma2ForCausalLM", json!({"hidden_activation": "silu"}), "hidden_activation is \"silu\""),
        ("Gemma3ForCausalLM", json!({"attn_logit_softcapping": 50}), "attn_logit_softcapping is 50"),
        ("GraniteForCausalLM", json!({"residual_multiplier": 0}), "residual_multiplier is 0"),
        ("Phi3ForCausalLM", json!({"partial_rotary_factor": 0.3}), "19 of a head's 64 dimensions"),
        (
            "Phi3ForCausalLM",
            json!({"rope_scaling": {"type": "longrope", "factor": 2, "short_factor": [1.0], "long_factor": [1.0]}}),
            "short_factor is [1.0], expected 32 numbers",
        ),
        (
            "Phi3ForCausalLM",
            json!({"rope_scaling": {"type": "longrope", "factor": 2, "short_mscale": 1.2}}),
            "short_mscale is 1.2",
        ),
        ("Phi3ForCausalLM", json!({"rope_scaling": {"type": "longrope"}}), "factor is missing"),
        ("StableLmForCausalLM", json!({"qk_layernorm": true}), "qk_layernorm is true"),
        ("StableLmForCausalLM", json!({"use_parallel_residual": true}), "use_parallel_residual is true"),
        ("StableLmForCausalLM", json!({}), "layer_norm_eps is missing"),
        ("GPTNeoXForCausalLM", json!({"num_key_value_heads": null, "rotary_pct": 2}), "rotary_pct is 2"),
        ("GPTNeoXForCausalLM", json!({}), "num_key_value_heads is 3, expected num_attention_heads"),
    ] {
        let problem = of(name, changes).unwrap_err();
        assert!(problem.contains(expected), "{problem:?} does not say {expected:?}");
    }
}

/// Configurations as they are published, less what is of no interest: each is read, and means what it says.
#[test]
fn published_configurations() {
    let of = |text: &str| Config::parse(text).unwrap();
    let qwen = of(r#"{"architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643, "eos_token_id": 151645,
        "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": true, "use_sliding_window": false, "vocab_size": 151936}"#);
    assert_eq!((qwen.head_dim, qwen.windows), (64, vec![None; 24]));
    let gemma = of(r#"{"architectures": ["Gemma2ForCausalLM"], "attention_bias": false,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 107],
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
        "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8, "num_hidden_layers": 26,
        "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0,
        "sliding_window": 4096, "vocab_size": 256000}"#);
    assert!(gemma.tie_word_embeddings && gemma.windows[0] == Some(4096) && gemma.windows[1].is_none());
    let gemma = of(r#"{"architectures": ["Gemma3ForCausalLM"], "attention_bias": false,
        "attn_logit_softcapping": null, "bos_token_id": 2, "eos_token_id": [1, 106], "final_logit_softcapping": null,
        "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152, "intermediate_size": 6912,
        "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4,
        "num_hidden_layers": 26, "num_key_value_heads": 1, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6, "vocab_size": 262144}"#);
    assert_eq!((gemma.windows[4], gemma.windows[5]), (Some(512), None));
    assert_eq!((gemma.attn_logit_softcapping, gemma.rope_local_base_freq), (None, Some(10_000.0)));
    let phi = of(r#"{"architectures": ["Phi3ForCausalLM"], "attention_bias": false, "bos_token_id": 1,
        "embd_pdrop": 0.0, "eos_token_id": 32000, "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192,
        "max_position_embeddings": 4096, "model_type": "phi3", "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
        "rope_scaling": null, "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": false,
        "vocab_size": 32064}"#);
    assert_eq!((phi.rope.rotary_dim, phi.windows[31]), (96, Some(2047)));
    let granite = of(r#"{"architectures": ["GraniteForCausalLM"], "attention_bias": false,
        "attention_multiplier": 0.015625, "bos_token_id": 0, "embedding_multiplier": 12.0, "eos_token_id": 0,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 8192, "logits_scaling": 8.0,
        "max_position_embeddings": 131072, "mlp_bias": false, "model_type": "granite", "num_attention_heads": 32,
        "num_hidden_layers": 40, "num_key_value_heads": 8, "residual_multiplier": 0.22, "rms_norm_eps": 1e-05,
        "rope_scaling": null, "rope_theta": 5000000.0, "tie_word_embeddings": true, "vocab_size": 49155}"#);
    assert_eq!((granite.residual_multiplier, granite.logits_scaling), (0.22, 8.0));
    let pythia = of(r#"{"architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0,
        "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8, "num_hidden_layers": 6,
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "use_parallel_residual": true,
        "vocab_size": 50304}"#);
    assert_eq!((pythia.rope.rotary_dim, pythia.num_key_value_heads), (16, 8));
    let stablelm = of(
        r#"{"architectures": ["StableLmForCausalLM"], "bos_token_id": 100257, "eos_token_id": 100257,
        "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 5632, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 4096, "model_type": "stablelm", "num_attention_heads": 32, "num_hidden_layers": 24,
        "num_key_value_heads": 32, "partial_rotary_factor": 0.25, "rope_theta": 10000, "tie_word_embeddings": false,
        "use_qkv_bias": true, "vocab_size": 100352}"#,
    );
    assert!(stablelm.rope.rotary_dim == 16 && stablelm.use_qkv_bias);
    let gpt2 =
        of(r#"{"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "eos_token_id": 50256, "layer_norm_epsilon": 1e-05, "model_type": "gpt2",
        "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257,
        "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}}}"#);
    assert_eq!((gpt2.intermediate_size, gpt2.max_position_embeddings), (3072, 1024));
}

#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
        "original_max_position_embeddings": 8192});
    for (changes, expected) in [
        (json!({"hidden_size": null}), "hidden_size is missing, expected an integer from 1 to 131072"),
        (json!({"hidden_size": 0}), "hidden_size is 0"),
        (json!({"hidden_size": -576}), "hidden_size is -576"),
        (json!({"hidden_size": 576.0}), "hidden_size is 576.0"),
        (json!({"hidden_size": "576"}), "hidden_size is \"576\""),
        (json!({"hidden_size": 577}), "a multiple of num_attention_heads (9)"),
        (json!({"hidden_size": 9 * 12}), "hidden_size is 108, expected a multiple of 8"),
        (json!({"hidden_size": 72 * 1024}), "is 8192, expected at most 256"),
        (json!({"intermediate_size": 1537}), "intermediate_size is 1537"),
        (json!({"head_dim": 12}), "head_dim is 12"),
        (json!({"head_dim": 264}), "head_dim is 264"),
        (json!({"num_key_value_heads": 2}), "num_key_value_heads is 2"),
        (json!({"num_hidden_layers": 1001}), "from 1 to 1000"),
        (json!({"vocab_size": u64::MAX}), "vocab_size is 18446744073709551615"),
        (json!({"vocab_size": 1000000, "hidden_size": 4608, "head_dim": 64}), "vocab_size × hidden_size"),
        (json!({"rms_norm_eps": 0}), "rms_norm_eps is 0"),
        (json!({"hidden_act": "gelu"}), "hidden_act is \"gelu\", expected \"silu\""),
        (json!({"architectures": []}), "architectures is []"),
        (json!({"tie_word_embeddings": "yes"}), "tie_word_embeddings is \"yes\", expected true or false"),
        (json!({"eos_token_id": [2, 49152]}), "eos_token_id is [2,49152]"),
        (json!({"bos_token_id": -1}), "bos_token_id is -1"),
        (json!({"rope_theta": 0}), "rope_theta is 0"),
        (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor is 0.5"),
        (json!({"rope_scaling": {"rope_type": "dynamic", "factor": 4}}), "\"dynamic\""),
        (json!({"rope_scaling": {"rope_type": "yarn"}}), "factor is missing"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": 1}}), "mscale is 1"),
        (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4, "beta_slow": 33}}), "beta_slow is 33"),
        (json!({"rope_scaling": {"factor": 4}}), "rope_type is \"\""),
        (json!({"rope_scaling": {"type": "linear", "factor": 0.5}}), "factor is 0.5"),
        (json!({"rope_scaling": llama3}), "high_freq_factor is 4"),
        (json!({"rope_parameters": {"full_attention": {}}}), "full_attention in the rope parameters"),
        (json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 2e4}}), "expected the same"),
        (json!({"rope_scaling": [4]}), "rope_scaling is [4]"),
    ] {
        let problem = parse(changes).unwrap_err();
        assert!(problem.contains(expected), "{problem:?} does not say {expected:?}");
    }
    for text in ["", "[]", "{", "nul", &"[".repeat(10_000), "{}"] {
        Config::parse(text).unwrap_err();
    }
}

#[test]
fn ends_of_text_are_merged() {
    let directory = tempfile::tempdir().unwrap();
    let error = Config::open(&directory.path().into()).unwrap_err().to_string();
    assert!(error.contains("a Hugging Face model directory has one"), "{error}");
    let json = json!({"architectures": ["A"], "hidden_size": 64, "intermediate_size": 64,
        "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 16, "rms_norm_eps": 1e-6,
        "max_position_embeddings": 32, "eos_token_id": 3});
    std::fs::write(directory.path().join("config.json"), json.to_string()).unwrap();
    let generation = directory.path().join("generation_config.json");
    std::fs::write(&generation, r#"{"eos_token_id": [5, 3, 5]}"#).unwrap();
    assert_eq!(Config::open(&directory.path().into()).unwrap().eos_token_ids, [3, 5]);
    std::fs::write(&generation, r#"{"eos_token_id": [16]}"#).unwrap();
    let error = Config::open(&directory.path().into()).unwrap_err().to_string();
    assert!(error.contains("generation_config.json: eos_token_id is [16]"), "{error}");
}
