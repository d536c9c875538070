//! The middle of an MLP: `act(gate) · up`, or `act(x)`.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, PI};

pub const KERNEL: Kernel = Kernel {
    name: "activate",
    wgsl: &[wgsl!("activation.wgsl"), wgsl!("activate.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

/// What an MLP does to each of its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^−x)`, also called swish.
    Silu,
    /// `x · ½(1 + tanh(√(2/π)·(x + 0.044715·x³)))`, the usual approximation of GELU.
    GeluTanh,
    /// `x · ½(1 + erf(x / √2))` (arXiv:1606.08415).
    Gelu,
}

/// By the number that kernels know them by.
pub(super) const ACTIVATIONS: [Activation; 3] = [Activation::Silu, Activation::GeluTanh, Activation::Gelu];

impl Activation {
    /// What kernels are told of it.
    pub(super) fn number(self) -> usize {
        ACTIVATIONS.iter().position(|&a| a == self).unwrap_or(0)
    }

    /// Of one number.
    pub(super) fn of(self, x: f64) -> f64 {
        match self {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
            Activation::Gelu => 0.5 * x * (1.0 + erf(x * FRAC_1_SQRT_2)),
        }
    }
}

const WG: usize = 64;

impl Recorder<'_> {
    /// `act(gate) · up` `[capacity, intermediate]` of `x` `[capacity, 2 · intermediate]`, gate and then up
    /// (arXiv:2002.05202); where not `gated`, `act(x)` of `x` `[capacity, intermediate]`.
    pub fn activate(
        &mut self,
        rows: Buffer,
        capacity: usize,
        x: Buffer,
        intermediate: usize,
        activation: Activation,
        gated: bool,
    ) -> Buffer {
        let out = self.temporary(capacity * intermediate, "activation");
        let consts = Consts::new()
            .u32("K", intermediate)
            .u32("ACT", activation.number())
            .bool("GATED", gated)
            .u32("WG", WG);
        let grid = [(intermediate / 4).div_ceil(WG), capacity, 1];
        self.dispatch("activate", consts, [rows.into(), x.into(), out.into()], grid);
        out
    }
}

/// The error function, by the series of which all terms have one sign:
/// `2/√π · e^(−x²) · Σ 2ⁿ x^(2n+1) / (1·3·…·(2n+1))`.
fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-17 * sum.abs() {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x, out] = call.take();
    let (rows, x, out) = (rows.words(), x.floats(), out.floats_mut());
    let (k, gated) = (call.consts.get("K"), call.consts.flag("GATED"));
    let activation = ACTIVATIONS[call.consts.get("ACT")];
    let width = if gated { 2 * k } else { k };
    for (r, (x, out)) in x.chunks_exact(width).zip(out.chunks_exact_mut(k)).enumerate() {
        if active(rows, r).is_none() {
            continue;
        }
        for (i, o) in out.iter_mut().enumerate() {
            let up = if gated { f64::from(x[k + i]) } else { 1.0 };
            *o = (activation.of(f64::from(x[i])) * up) as f32;
        }
    }
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for activation in ACTIVATIONS {
        for (k, capacity, used, spread, gated) in
            [(8, 1, 1, 1.0, true), (328, 3, 2, 1.0, true), (72, 2, 2, 100.0, true), (136, 3, 2, 3.0, false)]
        {
            let kind = if gated { "gated " } else { "" };
            let name = format!("{kind}{activation:?}, {used} of {capacity} rows of {k}, up to {spread}");
            let mut b = Builder::new(&name);
            let rows = b.used_rows(capacity, used);
            let n = if gated { 2 * capacity * k } else { capacity * k };
            let x: Vec<f32> = (0..n).map(|_| b.normal() * spread).collect();
            let x = b.floats("x", &x);
            let out = b.output("activation", capacity * k, F32);
            cases.push(b.case(name, move |r, buffers| {
                r.pin(buffers[out]);
                r.activate(buffers[rows], capacity, buffers[x], k, activation, gated);
            }));
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values from tables.
    #[test]
    fn the_error_function() {
        for (x, expected) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (-2.0, -0.995_322_265_018_952_7),
            (3.5, 0.999_999_256_901_627_6),
            (9.0, 1.0),
        ] {
            assert!((erf(x) - expected).abs() < 1e-14, "erf({x}) is {}", erf(x));
        }
    }
}
