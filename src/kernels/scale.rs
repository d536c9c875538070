//! Numbers times a constant, and softly capped.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, Needs, wgsl};
use crate::recording::{Buffer, Consts, Recorder};

pub const KERNEL: Kernel = Kernel {
    name: "scale",
    wgsl: &[wgsl!("soft_cap.wgsl"), wgsl!("scale.wgsl")],
    access: &[Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin,
    cases,
};

const WG: usize = 64;

/// What scores or logits go through: times `scale`, then `cap · tanh(x / cap)` (arXiv:2408.00118) where there is a cap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The factor.
    pub scale: f32,
    /// Beyond this nothing goes; 0 is no cap.
    pub cap: f32,
}

impl Scale {
    /// Nothing changes.
    pub const NONE: Scale = Scale { scale: 1.0, cap: 0.0 };

    /// A factor without a cap.
    pub const fn by(scale: f32) -> Scale {
        Scale { scale, cap: 0.0 }
    }

    /// The number that `x` becomes.
    pub fn apply(self, x: f64) -> f64 {
        let (x, cap) = (x * f64::from(self.scale), f64::from(self.cap));
        if cap > 0.0 { cap * (x / cap).tanh() } else { x }
    }

    pub(super) fn consts(self, consts: Consts) -> Consts {
        consts.f32("SCALE", self.scale).f32("CAP", self.cap)
    }

    pub(super) fn of(consts: &Consts) -> Scale {
        Scale { scale: consts.float("SCALE"), cap: consts.float("CAP") }
    }
}

impl Recorder<'_> {
    /// Scales the rows in use of `x` `[capacity, …]` in place.
    pub fn scale(&mut self, rows: Buffer, capacity: usize, x: Buffer, scale: Scale) {
        if scale == Scale::NONE {
            return;
        }
        let k = (x.len / 4) as usize / capacity;
        let consts = scale.consts(Consts::new().u32("K", k)).u32("WG", WG);
        self.dispatch("scale", consts, [rows.into(), x.into()], [k.div_ceil(WG), capacity, 1]);
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, x] = call.take();
    let (rows, x, scale) = (rows.words(), x.floats_mut(), Scale::of(call.consts));
    for (r, x) in x.chunks_exact_mut(call.consts.get("K")).enumerate() {
        if active(rows, r).is_some() {
            x.iter_mut().for_each(|x| *x = scale.apply(f64::from(*x)) as f32);
        }
    }
}

fn cases() -> Vec<Case> {
    let case = |(k, capacity, used, scale, cap)| {
        let name = format!("{used} of {capacity} rows of {k}, times {scale}, cap {cap}");
        let mut b = Builder::new(&name);
        let rows = b.used_rows(capacity, used);
        let x = b.normals("x", capacity * k);
        b.compare(x, F32);
        b.case(name, move |r, buffers| r.scale(buffers[rows], capacity, buffers[x], Scale { scale, cap }))
    };
    [(8, 1, 1, 12.0, 0.0), (200, 3, 2, 1.0, 2.0), (136, 2, 2, 1e4, 30.0)].map(case).into()
}
