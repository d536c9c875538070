//! Matrices of safetensors files that are codes already, against the formats' own libraries and transformers.

use super::common::{cpu, json, open, open_stored, packing, usual_devices};
use super::{assert_logits, path};
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use sixteen_states::checkpoint::{Checkpoint, Config, Tensor, locate};
use sixteen_states::format::{Codes, Packing, TILE_ROWS};

/// Directories in each format that quantizers write into safetensors.
const PACKED: [(&str, &str); 15] = [
    ("gptq", "q4/32"),
    ("gptq-3", "q4/32"),
    ("gptq-act-order", "q4/32"),
    ("gptq-8-channel", "q8/64+q8/96"),
    ("gptq-v2", "q4/32"),
    ("awq", "q4/32"),
    ("compressed", "q4_0/32"),
    ("compressed-zeros", "q4/32"),
    ("compressed-8-channel", "q8_0/64+q8_0/96"),
    ("mlx-4", "q4_1/32"),
    ("mlx-3", "q4_1/32"),
    ("mlx-6", "q8_1/32"),
    ("bitsandbytes-nf4", "nf4/64"),
    ("bitsandbytes-fp4", "fp4/64"),
    ("mxfp4", "mxfp4"),
];

/// The numbers of a matrix' first rows, as a device would hold them.
fn first_tile(tensor: &Tensor<'_>, packing: Packing) -> Vec<f32> {
    let (rows, cols) = (TILE_ROWS.min(tensor.rows()), tensor.cols());
    let mut codes = Codes::new(packing, cols);
    tensor.read_codes(0..rows, 0, &mut codes).unwrap();
    let mut planes = vec![Vec::new(); packing.format.planes.len()];
    (packing.format.pack)(codes.tile(), cols, packing.group, &mut planes);
    let planes: Vec<&[u32]> = planes.iter().map(Vec::as_slice).collect();
    let mut stored = vec![0.0; TILE_ROWS * cols];
    (packing.format.unpack)(&planes, cols, packing.group, &mut stored);
    let mut numbers = vec![0.0; rows * cols];
    for (i, &number) in stored[..rows * cols].iter().enumerate() {
        let col = tensor.order().map_or(i % cols, |order| order[i % cols] as usize);
        numbers[i / cols * cols + col] = number;
    }
    numbers
}

/// Every number of every matrix is the one that the format's own library reads, bit for bit (in 16 bits where the library
/// computes in them).
#[test]
fn numbers_are_those_of_the_formats_own_libraries() {
    for (name, packings) in PACKED {
        let reference = json(&format!("formats/{name}/reference.json"));
        let checkpoint = Checkpoint::of(&locate(&path(name)).unwrap()).unwrap();
        let mut found_packings = std::collections::BTreeSet::new();
        for (matrix, expected) in reference["sha256"].as_object().unwrap() {
            let info = checkpoint.get(matrix).unwrap_or_else(|| panic!("{name}: {matrix} is not found"));
            let tensor = checkpoint.tensor(matrix, &info.shape).unwrap();
            let mut numbers = vec![0.0; info.elements];
            tensor.read_f32(0..info.elements, &mut numbers);
            // And in parts that do not end with rows.
            let mut part = vec![0.0; 101];
            tensor.read_f32(37..138, &mut part);
            assert_eq!(part, numbers[37..138], "{name}: {matrix}");
            if let Some(packing) = tensor.packing() {
                assert_eq!(
                    first_tile(&tensor, packing),
                    numbers[..TILE_ROWS.min(info.shape[0]) * info.shape[1]],
                    "{name}: {matrix}"
                );
            }
            let mut hash = Sha256::new();
            for number in numbers {
                match reference["rounded_to"].as_str().unwrap() {
                    "float16" => hash.update(half::f16::from_f32(number).to_le_bytes()),
                    _ => hash.update(number.to_le_bytes()),
                }
            }
            let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hash, expected.as_str().unwrap(), "{name}: {matrix}");
            found_packings.insert(info.encoding.packing().map_or("f16".to_owned(), |packing| packing.name()));
        }
        assert_eq!(found_packings.into_iter().collect::<Vec<_>>().join("+"), packings, "{name}");
    }
}

#[test]
fn packed_directories_give_the_logits_of_their_numbers() {
    for (name, _) in PACKED {
        let reference = json(&format!("formats/{name}/reference.json"));
        for device in usual_devices() {
            let mut stored = open_stored(device.open(), &path(name), 1);
            assert_logits(&mut stored, &reference, 1e-5, &format!("{name} on {}", device.name));
        }
        // What is read is the same for every device.
        let mut floats = open(cpu().open(), &path(name), packing(16, 64), 1);
        assert_logits(&mut floats, &reference, 1e-5, &format!("{name} as floats"));
    }
}

/// gpt-oss has MXFP4 in tensors of all experts. They can be read; its architecture is none of ours, and that is what is said,
/// not which of its settings is strange.
#[test]
fn tensors_of_gpt_oss_are_read_and_its_architecture_is_refused() {
    let (experts, rows, groups) = (2, 3, 2);
    let blocks: Vec<u8> = (0..experts * rows * groups * 16).map(|i| (i * 37 % 251) as u8).collect();
    let scales: Vec<u8> = (0..experts * rows * groups).map(|i| 120 + i as u8).collect();
    let view = |shape: &[usize], bytes| TensorView::new(Dtype::U8, shape.to_vec(), bytes).unwrap();
    let name = "model.layers.0.mlp.experts.gate_up_proj";
    let tensors = [
        (format!("{name}_blocks"), view(&[experts, rows, groups, 16], &blocks)),
        (format!("{name}_scales"), view(&[experts, rows, groups], &scales)),
    ];
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    write("model.safetensors", &safetensors::serialize(tensors, None).unwrap());
    let config = serde_json::json!({
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880,
        "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "num_hidden_layers": 24, "vocab_size": 201088,
        "max_position_embeddings": 131072, "num_local_experts": 32, "attention_bias": true, "rms_norm_eps": 1e-5,
        "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": false},
        "quantization_config": {"quant_method": "mxfp4"},
    });
    write("config.json", config.to_string().as_bytes());
    let source = locate(directory.path().to_str().unwrap()).unwrap();
    let checkpoint = Checkpoint::of(&source).unwrap();
    let tensor = checkpoint.tensor(name, &[experts * rows, groups * 32]).unwrap();
    let mut numbers = vec![0.0; blocks.len() * 2];
    tensor.read_f32(0..numbers.len(), &mut numbers);
    let states = [0.0f32, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
    for (i, &number) in numbers.iter().enumerate() {
        let code = blocks[i / 2] >> (i % 2 * 4) & 15;
        let sign = if code < 8 { 1.0 } else { -1.0 };
        let expected = sign * states[usize::from(code & 7)] * 2f32.powi(i32::from(scales[i / 32]) - 127);
        assert_eq!(number, expected, "number {i}");
    }
    let error = Config::open(&source.directory).unwrap_err().to_string();
    assert!(error.contains("architecture \"GptOssForCausalLM\" is not supported"), "{error}");
}

/// A directory whose parts do not fit together.
#[test]
fn packed_directories_that_contradict_themselves_are_refused_by_name() {
    let refused = |name: &str, change: &dyn Fn(&mut serde_json::Value), expected: &str| {
        let directory = tempfile::tempdir().unwrap();
        let mut config = json(&format!("formats/{name}/config.json"));
        change(&mut config);
        std::fs::write(directory.path().join("config.json"), config.to_string()).unwrap();
        std::fs::copy(path(&format!("{name}/model.safetensors")), directory.path().join("model.safetensors"))
            .unwrap();
        let source = locate(directory.path().to_str().unwrap()).unwrap();
        let error = Checkpoint::of(&source).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    };
    let quantization = "quantization_config";
    refused(
        "gptq",
        &|c| c[quantization]["quant_method"] = "aqlm".into(),
        "quant_method is \"aqlm\", expected gptq",
    );
    refused(
        "gptq",
        &|c| c[quantization]["bits"] = 5.into(),
        "bits of the quantization is 5, expected one of [2, 3, 4, 8]",
    );
    refused("gptq", &|c| c[quantization]["bits"] = 8.into(), "expected [I32, U32] of shape");
    refused("gptq", &|c| c[quantization]["group_size"] = 64.into(), "expected [I32, U32] of shape [2, 8]");
    refused("gptq", &|c| c[quantization]["group_size"] = 12.into(), "expected -1 or a multiple of 8");
    refused("gptq", &|c| c[quantization]["checkpoint_format"] = "marlin".into(), "checkpoint_format");
    refused("gptq", &|c| c[quantization] = "gptq".into(), "quantization_config is \"gptq\"");
    refused(
        "awq",
        &|c| c[quantization]["version"] = "gemv".into(),
        "version of the quantization is \"gemv\"",
    );
    refused("awq", &|c| c[quantization]["quant_method"] = "gptq".into(), "expected [I32, U32] of shape");
    refused("compressed", &|c| c[quantization]["format"] = "marlin-24".into(), "expected \"pack-quantized\"");
    refused(
        "compressed",
        &|c| c[quantization]["config_groups"]["group_0"]["weights"]["num_bits"] = 8.into(),
        "weight_shape does not fit weight_packed",
    );
    refused("mlx-4", &|c| c["quantization"]["bits"] = 6.into(), "expected whole groups of 32");
    refused("mlx-4", &|c| c["quantization"]["group_size"] = 64.into(), "scales\" is F16 of shape");
    refused("mlx-4", &|c| c["quantization"]["mode"] = "mxfp4".into(), "expected \"affine\"");
    refused(
        "bitsandbytes-nf4",
        &|c| c[quantization]["load_in_8bit"] = true.into(),
        "only its 4 bits can be read",
    );
}
