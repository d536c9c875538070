//! How the distribution over the next token differs between two models.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};
use bytemuck::{Pod, Zeroable};
use rayon::prelude::*;

pub const KERNEL: Kernel = Kernel {
    name: "divergence",
    wgsl: &[wgsl!("divergence.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Reduction,
    twin,
    cases,
};

/// Words of a row's result.
const WORDS: usize = 8;

/// Two distributions over the next token: p of the reference, q of an arm. Natural logarithms.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Divergence {
    /// Σ p · (ln p − ln q)
    pub kl: f32,
    /// ln p of the expected token.
    pub reference: f32,
    /// ln q of the expected token.
    pub arm: f32,
    /// −Σ p · ln p
    pub entropy: f32,
    /// p of the likeliest token less p of the second.
    pub margin: f32,
    /// 1 where both hold the same token likeliest, else 0.
    pub same_top: f32,
    /// 1 where the reference holds the expected token likeliest, else 0.
    pub reference_hits: f32,
    /// 1 where the arm does, else 0.
    pub arm_hits: f32,
}

impl Recorder<'_> {
    /// Compares `reference` and `arm`, logits `[outputs, stride]` of which the first `vocab` columns count,
    /// into `out` `[outputs]` of [`Divergence`].
    pub fn divergence(
        &mut self,
        rows: Buffer,
        [reference, arm]: [Buffer; 2],
        (vocab, stride): (usize, usize),
        out: Buffer,
    ) {
        let wg = if self.capabilities.software { 64 } else { 256 };
        let consts = Consts::new().u32("VOCAB", vocab).u32("STRIDE", stride).u32("WG", wg);
        let outputs = out.len as usize / size_of::<Divergence>();
        let bindings = [rows, reference, arm, out].map(Into::into);
        self.dispatch("divergence", consts, bindings, [1, outputs, 1]);
    }
}

/// The likeliest token, its logit, and ln Σ eˡ.
fn top(logits: &[f32]) -> (usize, f64, f64) {
    let mut first = 0;
    (1..logits.len()).for_each(|i| first = if logits[i] > logits[first] { i } else { first });
    let greatest = f64::from(logits[first]);
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - greatest).exp()).sum();
    (first, greatest, greatest + sum.ln())
}

fn twin(mut call: Invocation<'_>) {
    let [rows, a, b, out] = call.take();
    let (rows, a, b, out) = (rows.words(), a.floats(), b.floats(), out.floats_mut());
    let (vocab, stride) = (call.consts.get("VOCAB"), call.consts.get("STRIDE"));
    out.par_chunks_exact_mut(WORDS).enumerate().for_each(|(o, out)| {
        let Some(row) = active(rows, o).filter(|r| r.expected != NONE) else { return };
        let (a, b) = (&a[o * stride..][..vocab], &b[o * stride..][..vocab]);
        let ((first_a, top_a, log_a), (first_b, _, log_b)) = (top(a), top(b));
        let (mut kl, mut entropy, mut second) = (0.0, 0.0, f64::MIN);
        for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
            let (a, b) = (f64::from(a), f64::from(b));
            let p = (a - log_a).exp();
            kl += p * ((a - b) - (log_a - log_b));
            entropy += p * (log_a - a);
            second = if i == first_a { second } else { second.max(a) };
        }
        let at = |logits: &[f32], log: f64| {
            logits.get(row.expected as usize).map_or(f64::NAN, |&l| f64::from(l) - log)
        };
        let margin = (top_a - log_a).exp() - (second - log_a).exp();
        let flag = |is: bool| f64::from(u8::from(is));
        let hit = |first: usize| flag(first == row.expected as usize);
        let found = [
            kl,
            at(a, log_a),
            at(b, log_b),
            entropy,
            margin,
            flag(first_a == first_b),
            hit(first_a),
            hit(first_b),
        ];
        out.iter_mut().zip(found).for_each(|(out, found)| *out = found as f32);
    });
}

fn cases() -> Vec<Case> {
    // Spreads such that the divergence is not small beside the other figures, and one where it is nothing.
    let case = |(vocab, spread, apart): (u32, f32, f32)| {
        let name = format!("vocabulary of {vocab}, spread {spread}, apart by {apart}");
        let mut b = Builder::new(&name);
        let rows = b.rows(5, &[(0, 0, 0, 0), (0, 1, 0, vocab - 1), (0, 2, 0, NONE), (0, 3, 1, vocab / 3)]);
        let stride = vocab.next_multiple_of(8) as usize;
        let x: Vec<f32> = (0..5 * stride).map(|_| b.normal() * spread).collect();
        let y: Vec<f32> = x.iter().map(|x| x + b.normal() * apart).collect();
        let (x, y) = (b.floats("reference", &x), b.floats("arm", &y));
        let out = b.output("divergence", 5 * WORDS, F32);
        b.case(name, move |r, buffers| {
            let shape = (vocab as usize, stride);
            r.divergence(buffers[rows], [buffers[x], buffers[y]], shape, buffers[out]);
        })
    };
    [(3, 1.0, 2.0), (131, 3.0, 3.0), (133, 2.0, 0.0), (4099, 8.0, 4.0)].map(case).into()
}
