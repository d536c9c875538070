use super::*;
use crate::format::{Affine, TILE_ROWS};
use crate::quantize::QUANTIZERS;
use proptest::prelude::*;

fn arm(name: &str) -> Treatment {
    Treatment::parse(name).unwrap().unwrap()
}

/// Normal numbers with a heavy one here and there, as weights have.
fn weights(n: usize, seed: u64) -> Vec<f32> {
    let (mut random, mut normal) = (Random(seed), vec![0.0; n]);
    random.normals(&mut normal);
    normal.iter().enumerate().map(|(i, &z)| (z * if i % 97 == 5 { 0.2 } else { 0.04 }) as f32).collect()
}

fn applied(name: &str, weights: &[f32], cols: usize) -> (Vec<f32>, Loss) {
    let mut values = weights.to_vec();
    let loss = arm(name).apply(&mut values, weights.len() / cols, cols, "w").unwrap();
    (values, loss)
}

#[test]
fn packed_formats_hold_the_same_numbers() {
    for (cols, group) in [(96, 32), (200, 64), (320, 128), (8, 32)] {
        let weights = weights(TILE_ROWS * cols, group as u64);
        for (kind, bits) in [("q4", 4), ("q8", 8)] {
            for quantizer in QUANTIZERS.iter().filter(|q| q.calibrated.is_none()) {
                let mut tile = Affine::new(cols, group);
                quantizer.quantize(&weights, bits, &mut tile).unwrap();
                let (values, _) = applied(&format!("{kind}:{group}@{}", quantizer.name), &weights, cols);
                for (i, v) in values.iter().enumerate() {
                    assert_eq!(
                        v.to_bits(),
                        tile.value(i / cols, i % cols).to_bits(),
                        "{kind} {group} at {i}"
                    );
                }
            }
        }
    }
}

#[test]
fn more_states_err_less_and_tables_least() {
    let (weights, cols) = (weights(64 * 512, 7), 512);
    for shared in ["32", "channel", "tensor"] {
        let mut last = (f64::INFINITY, f64::INFINITY);
        for states in [2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 256] {
            let error = |kind: &str| applied(&format!("{kind}{states}:{shared}"), &weights, cols).1.error;
            let (even, table) = (error("u"), error("lut"));
            // A table of more states than a group has weights errs by its rounding alone.
            assert!(even < last.0 && table <= last.1, "{states} {shared}");
            // Grids for a few weights are fitted in 32 bits, and tables are rounded to 16.
            assert!(table <= even * 1.001, "{states} {shared}: {table} {even}");
            last = (even, table);
        }
    }
}

#[test]
fn finer_groups_err_less() {
    let weights = weights(64 * 512, 8);
    for kind in ["u16", "nf4", "lut16"] {
        let error = |shared| applied(&format!("{kind}:{shared}"), &weights, 512).1.error;
        let errors = ["32", "64", "128", "channel", "tensor"].map(error);
        assert!(errors.is_sorted(), "{kind} {errors:?}");
    }
}

#[test]
fn whole_matrices_have_literally_so_many_numbers() {
    let weights = weights(64 * 1040, 3);
    for states in [2, 3, 16, 100, 256] {
        for kind in ["u", "lut"] {
            let (values, loss) = applied(&format!("{kind}{states}:tensor"), &weights, 1040);
            let mut bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
            bits.sort_unstable();
            bits.dedup();
            assert_eq!(bits.len(), loss.distinct);
            assert!(loss.distinct <= states && loss.distinct > states / 2, "{kind}{states} {loss:?}");
        }
    }
    assert_eq!(applied("nf4:tensor", &weights, 1040).1.distinct, 16);
}

/// Mean of its cell, and cells that part half way, but for the rounding of states to 16 bits.
#[test]
fn tables_are_as_lloyd_and_max_demand() {
    let weights = weights(32 * 256, 4);
    let (values, _) = applied("lut16:tensor", &weights, 256);
    let mut states = values.clone();
    states.sort_by(f32::total_cmp);
    states.dedup();
    for &state in &states {
        let cell: Vec<f32> = weights.iter().zip(&values).filter(|p| *p.1 == state).map(|p| *p.0).collect();
        let mean = cell.iter().map(|&w| f64::from(w)).sum::<f64>() / cell.len() as f64;
        assert!((mean - f64::from(state)).abs() <= f64::from(state).abs() * 2e-3 + 1e-5, "{state} {mean}");
    }
    for (&w, &v) in weights.iter().zip(&values) {
        let least = states.iter().map(|s| (s - w).abs()).fold(f32::MAX, f32::min);
        assert!((v - w).abs() <= least + 1e-6);
    }
}

#[test]
fn nf4_rounds_to_the_nearest_of_its_states() {
    let weights = weights(8 * 128, 5);
    let (values, _) = applied("nf4", &weights, 128);
    for (group, values) in weights.chunks(64).zip(values.chunks(64)) {
        let scale = nf4::scale(group).to_f32();
        for (w, v) in group.iter().zip(values) {
            let least = nf4::STATES.iter().map(|s| (s * scale - w).abs()).fold(f32::MAX, f32::min);
            assert!((v - w).abs() <= least + scale * 1e-6);
        }
    }
}

#[test]
fn noise_is_as_large_as_rounding() {
    let (weights, cols) = (weights(64 * 320, 6), 320);
    let square = |values: &[f32], from: &[f32]| -> f64 {
        values.iter().zip(from).map(|(&v, &w)| (f64::from(v) - f64::from(w)).powi(2)).sum()
    };
    for (kind, shared, width) in [
        ("q4", "32", 32),
        ("nf4", "64", 64),
        ("u6", "channel", cols),
        ("q4", "tensor", weights.len()),
        ("lut16", "tensor", weights.len()),
    ] {
        let (rounded, plain) = applied(&format!("{kind}:{shared}"), &weights, cols);
        let (noisy, noise) = applied(&format!("noise-{kind}:{shared}"), &weights, cols);
        for ((r, n), w) in rounded.chunks(width).zip(noisy.chunks(width)).zip(weights.chunks(width)) {
            let ratio = square(n, w) / square(r, w);
            assert!((ratio - 1.0).abs() < 1e-3, "{kind}:{shared} {ratio}");
        }
        assert!((noise.error / plain.error - 1.0).abs() < 1e-3);
        let bias = noisy.iter().zip(&weights).map(|(n, w)| f64::from(n - w)).sum::<f64>();
        assert!(bias.abs() < 4.0 * noise.error.sqrt(), "{bias}");
    }
}

#[test]
fn noise_depends_on_name_and_seed_alone() {
    let weights = weights(8 * 64, 9);
    let noisy = |seed, name: &str| {
        let mut values = weights.clone();
        let noise = Treatment { disturb: Disturb::Noise { seed }, ..arm("noise") };
        noise.apply(&mut values, 8, 64, name).unwrap();
        values
    };
    assert_eq!(noisy(1, "a"), noisy(1, "a"));
    assert_ne!(noisy(1, "a"), noisy(2, "a"));
    assert_ne!(noisy(1, "a"), noisy(1, "b"));
}

/// What is left of each group still lies on a grid of 16, in the order of its codes, but not where it did.
#[test]
fn shuffling_keeps_codes() {
    let (weights, cols) = (weights(64 * 320, 10), 320);
    let (whole, plain) = applied("q4", &weights, cols);
    let (broken, loss) = applied("broken", &weights, cols);
    for (whole, broken) in whole.chunks(32).zip(broken.chunks(32)) {
        assert_ne!(whole, broken);
        let at = |values: &[f32], low: usize, high: usize, i: usize| {
            (values[i] - values[low]) / (values[high] - values[low]) * 255.0
        };
        let low = (0..32).min_by(|&a, &b| whole[a].total_cmp(&whole[b])).unwrap();
        let high = (0..32).max_by(|&a, &b| whole[a].total_cmp(&whole[b])).unwrap();
        for i in 0..32 {
            assert!((at(whole, low, high, i) - at(broken, low, high, i)).abs() < 0.1);
        }
    }
    assert!(loss.error > 20.0 * plain.error, "{loss:?} {plain:?}");
}

#[test]
fn bits_count_codes_and_what_groups_share() {
    let bits = |name: &str| arm(name).bits_per_weight(1024, 512);
    assert_eq!(bits("q4:32"), 5.0);
    assert_eq!(bits("q8:64"), 8.5);
    assert_eq!(bits("u6:32"), 4.0);
    assert_eq!(bits("nf4"), 4.25);
    assert_eq!(bits("lut16:channel"), 4.5);
    assert_eq!(bits("u2:tensor"), 1.0 + 32.0 / (1024.0 * 512.0));
    assert_eq!(bits("noise"), 16.0);
    assert_eq!(bits("broken:64"), 4.5);
    assert_eq!((arm("q4").states(), arm("noise").states()), (Some(16), None));
}

#[test]
fn names_are_read_as_they_are_written() {
    for (text, name) in [
        ("q8", "q8:32"),
        ("q4:64", "q4:64"),
        ("u16", "q4:32"),
        ("u3:tensor", "u3:tensor"),
        ("nf4", "nf4:64"),
        ("lut16", "lut16:tensor"),
        ("lut4:channel", "lut4:channel"),
        ("noise", "noise:32"),
        ("noise-q4:128", "noise:128"),
        ("noise-u6:32", "noise-u6:32"),
        ("noise-lut9", "noise-lut9:tensor"),
        ("broken:64", "broken:64"),
        ("broken-u8", "broken-u8:32"),
        ("q4:32@mse", "q4:32"),
        ("q4@rtn", "q4:32@rtn"),
        ("noise:40@rtn", "noise:40@rtn"),
    ] {
        assert_eq!(arm(text).name(), name);
        assert_eq!(arm(name), arm(text));
    }
    assert_eq!(Treatment::parse("f16"), Ok(None));
}

#[test]
fn descriptions_are_plain() {
    for (name, text) in [
        ("q4", "16 states, evenly spaced, in groups of 32 weights"),
        ("u6:channel@rtn", "6 states, evenly spaced, for each row, chosen by rtn"),
        ("lut16", "the literal 16 states for each whole matrix, placed by Lloyd-Max"),
        ("nf4", "16 states, spaced by the normal distribution (NF4), in groups of 64 weights"),
        ("noise", "16-bit floats plus Gaussian noise as large as q4:32's rounding"),
        ("broken", "q4:32 with scales shuffled between groups"),
    ] {
        assert_eq!(arm(name).description(), text);
    }
}

#[test]
fn names_that_are_none_are_refused() {
    for bad in [
        "",
        "q4:7",
        "q4:0",
        "q4:136",
        "q4:",
        "q4:tensor:32",
        "q4:-32",
        "q4:+32",
        "q4 ",
        "Q4",
        "u1",
        "u0",
        "u",
        "u257",
        "u+4",
        "lut",
        "lut999",
        "lut1",
        "u99999999999999999999999",
        "q4:99999999999999999999999",
        "q5",
        "🦀",
        "q4:🦀",
        "u🦀",
        "q4@",
        "q4@best",
        "nf4@rtn",
        "lut16@mse",
        "f16:32",
        "f16@rtn",
        "noise-",
        "noise-f16",
        "noise-noise",
        "noise-broken",
        "-q4",
        "broken:tensor",
        "broken:channel",
        "broken-nf4",
        "broken-lut4:32",
        "quiet-q4",
        "@",
        ":",
        "-",
    ] {
        let problem = Treatment::parse(bad).unwrap_err();
        assert!(problem.contains(&format!("{bad:?}")) && problem.contains("as in"), "{problem}");
    }
}

#[test]
fn what_cannot_be_held_is_named() {
    for name in
        ["q4", "q4:tensor", "nf4", "lut16", "lut4:32", "u2:channel", "noise", "noise:tensor", "broken"]
    {
        for bad in [f32::NAN, f32::INFINITY, 3e6, -1e30] {
            let mut values = weights(4 * 104, 11);
            values[2 * 104 + 70] = bad;
            let flaw = arm(name).apply(&mut values, 4, 104, "w").unwrap_err();
            assert_eq!((flaw.row, flaw.col), (2, 70), "{name} {bad}");
        }
    }
}

proptest! {
    /// Whatever the shape and the weights, also where they are none that a loader would give.
    #[test]
    fn nothing_panics(
        rows in 0usize..5, cols in 0usize..300, spare in 0usize..3, size in -8f32..6.0, seed: u64,
        name in prop_oneof!["(q4|q8|u2|u7|noise|noise-lut5|noise-nf4|nf4|lut2|lut256)(:8|:32|:128|:channel|:tensor)?",
            "broken(:8|:64)?(@rtn)?"],
    ) {
        let mut values: Vec<f32> = weights(rows * cols + spare, seed).iter().map(|w| w * 10f32.powf(size)).collect();
        let before = values.clone();
        if let Ok(loss) = arm(&name).apply(&mut values, rows, cols, &name) {
            prop_assert_eq!(loss.weights, (rows * cols) as u64);
            prop_assert!(loss.error.is_finite() && loss.distinct <= rows * cols);
            prop_assert_eq!(&values[rows * cols..], &before[rows * cols..]);
        }
        let _ = arm(&name).apply(&mut values, rows + 9, cols, "");
    }

    #[test]
    fn parsing_never_panics(text in ".{0,24}") {
        let _ = Treatment::parse(&text);
    }
}

#[test]
fn equal_weights_stay_nearly_equal() {
    for value in [0.0f32, 1.0, -3.5, 1e-4, 1000.0, 6e4] {
        for name in ["q4", "q4:tensor", "u2:channel", "nf4", "lut16", "lut3:32", "noise"] {
            let (values, _) = applied(name, &[value; 256], 128);
            let near = |v: f32| (v - value).abs() <= value.abs() * 2e-3 + 1e-6;
            assert!(values.iter().all(|&v| near(v)), "{name} {value}: {:?}", &values[..2]);
        }
    }
}
