//! compressed-tensors' `pack-quantized`, which vLLM and transformers read: `src/checkpoint/packed/compressed_tensors.rs`
//! tells how the tensors lie.

use super::{Alike, Layout, Piece, Pieces, Settings, words};
use crate::checkpoint::Dtype;
use crate::quantize::{Coded, Zeros};
use serde_json::{Map, Value, json};

pub const LAYOUT: Layout = Layout {
    name: "compressed-tensors",
    zeros: |symmetric| if symmetric { Zeros::Middle } else { Zeros::Whole { least: 0 } },
    pieces,
    may_keep: true,
    mixes: true,
    encode,
    config,
};

fn pieces(settings: &Settings, stem: &str, [rows, cols]: [usize; 2]) -> Pieces {
    if !cols.is_multiple_of(settings.group) {
        return Err(format!("{cols} columns, expected a multiple of the group, {}", settings.group));
    }
    let (per_word, groups) = (32 / settings.bits as usize, cols / settings.group);
    let piece =
        |what: &str, dtype, shape: &[usize]| Piece::new(stem, &format!(".weight_{what}"), dtype, shape);
    let mut pieces = vec![
        piece("packed", Dtype::I32, &[rows, cols.div_ceil(per_word)]),
        piece("scale", Dtype::F16, &[rows, groups]),
        piece("shape", Dtype::I64, &[2]),
    ];
    if !settings.symmetric {
        pieces.push(piece("zero_point", Dtype::I32, &[rows.div_ceil(per_word), groups]));
    }
    Ok(pieces)
}

fn encode(settings: &Settings, coded: &Coded) -> Vec<Vec<u8>> {
    let (bits, groups) = (coded.bits, coded.groups());
    let mut packed = Vec::with_capacity(coded.codes.len() * bits as usize / 8);
    coded.codes.chunks(coded.cols).for_each(|row| words(row.iter().copied(), bits, &mut packed));
    let scales = coded.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
    let shape = [coded.rows, coded.cols].iter().flat_map(|&n| (n as i64).to_le_bytes()).collect();
    let mut pieces = vec![packed, scales, shape];
    if !settings.symmetric {
        // A word holds the zeros of neighbouring rows.
        let mut zeros = Vec::new();
        for rows in coded.zeros.chunks(groups * (32 / bits as usize)) {
            for g in 0..groups {
                words(rows.iter().skip(g).step_by(groups).map(|zero| zero.to_f32() as u8), bits, &mut zeros);
            }
        }
        pieces.push(zeros);
    }
    pieces
}

fn config(_: &Settings, groups: &[Alike], kept: &[String]) -> Value {
    let mut ignore = vec!["lm_head"];
    ignore.extend(kept.iter().map(String::as_str).filter(|name| *name != "lm_head"));
    let group = |settings: &Settings, targets: Value| {
        json!({
            "targets": targets,
            "weights": {
                "num_bits": settings.bits,
                "type": "int",
                "symmetric": settings.symmetric,
                "strategy": "group",
                "group_size": settings.group,
                "dynamic": false,
            },
            "input_activations": null,
            "output_activations": null,
        })
    };
    // By name where there are several: readers differ in whether a name or the class of all of them counts for more.
    let groups = groups.iter().enumerate().map(|(i, (settings, names))| {
        let targets = if groups.len() > 1 { json!(names) } else { json!(["Linear"]) };
        (format!("group_{i}"), group(settings, targets))
    });
    let groups: Map<String, Value> = groups.collect();
    json!({
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": ignore,
        "kv_cache_scheme": null,
    })
}
