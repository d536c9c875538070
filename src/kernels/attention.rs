//! Causal attention over the paged cache.

use super::case::{Builder, F32};
use super::twin::active;
use super::{Access, Case, Invocation, Kernel, NONE, Scale, wgsl};
use crate::format::{pair, unpair};
use crate::recording::{Buffer, Consts, Recorder};
use half::f16;
use rayon::prelude::*;

/// Queries in workgroup memory: for GPUs.
pub const SHARED: Kernel = Kernel {
    name: "attention_shared",
    wgsl: &[wgsl!("soft_cap.wgsl"), wgsl!("attention_shared.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    reduces: true,
    twin,
    cases: || cases(false),
};

/// A lane a query head: for devices whose workgroups are threads of a processor.
pub const LANE: Kernel = Kernel {
    name: "attention_lane",
    wgsl: &[wgsl!("soft_cap.wgsl"), wgsl!("attention_lane.wgsl")],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    reduces: false,
    twin,
    cases: || cases(true),
};

const WG: usize = 64;

/// Most query heads of a workgroup: with heads of 256 they take 12 KiB of workgroup memory, of the 16 that
/// every device has.
const MAX_TEAM: usize = 8;

/// Lanes of a workgroup of `attention_lane`: few, so that all of a processor's threads have some.
const LANES: usize = 8;

/// Tokens of a page of the cache. It divides the workgroup's size, and a row of it is one memory line on most devices.
pub const PAGE: usize = 32;

/// Keys and values of one layer, in pages that sequences own through a page table.
#[derive(Clone, Copy, Debug)]
pub struct Cache {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Size of a head.
    pub head_dim: usize,
    /// How far back attention sees; 0 is all the way.
    pub window: usize,
    /// Pages of a sequence's row in the page table.
    pub max_pages: usize,
    /// `[sequences, max_pages]`
    pub pages: Buffer,
    /// `[pages, kv_heads, head_dim / 2, PAGE]` pairs of halves: dimensions i and i + head_dim / 2.
    pub keys: Buffer,
    /// `[pages, kv_heads, PAGE, head_dim / 2]` pairs of halves.
    pub values: Buffer,
}

impl Cache {
    pub(super) fn consts(&self, wg: usize) -> Consts {
        Consts::new()
            .u32("HEADS", self.heads)
            .u32("KV_HEADS", self.kv_heads)
            .u32("HALF", self.head_dim / 2)
            .u32("PAGE", PAGE)
            .u32("MAX_PAGES", self.max_pages)
            .u32("WG", wg)
    }

    /// Bytes that `tokens` keys (or values) of one layer take.
    pub fn bytes(kv_heads: usize, head_dim: usize, tokens: usize) -> u64 {
        (tokens.next_multiple_of(PAGE) * kv_heads * head_dim * 2) as u64
    }

    pub(super) fn on(mut self, buffers: &[Buffer], [pages, keys, values]: [usize; 3]) -> Self {
        (self.pages, self.keys, self.values) = (buffers[pages], buffers[keys], buffers[values]);
        self
    }
}

impl Recorder<'_> {
    /// Attention of `q` `[capacity, heads · head_dim]` to the keys of each row's sequence up to its position:
    /// `[capacity, heads · head_dim]`. `scores` is what products of queries and keys go through.
    pub fn attention(
        &mut self,
        rows: Buffer,
        capacity: usize,
        q: Buffer,
        scores: Scale,
        cache: &Cache,
    ) -> Buffer {
        let out = self.temporary(capacity * cache.heads * cache.head_dim, "attention");
        self.attention_as(self.capabilities.software, rows, capacity, (q, scores), cache, out);
        out
    }

    /// The same by a given kernel.
    fn attention_as(
        &mut self,
        lane: bool,
        rows: Buffer,
        capacity: usize,
        (q, scores): (Buffer, Scale),
        cache: &Cache,
        out: Buffer,
    ) {
        let consts = cache.consts(if lane { LANES } else { WG });
        let consts = scores.consts(consts.u32("WINDOW", cache.window));
        let bindings = [rows, cache.pages, q, cache.keys, cache.values, out].map(Into::into);
        if lane {
            let consts = consts.u32("ROWS", capacity);
            let groups = (capacity * cache.heads).div_ceil(LANES);
            self.dispatch(LANE.name, consts, bindings, [groups, 1, 1]);
        } else {
            let shared = cache.heads / cache.kv_heads;
            let team = (1..=MAX_TEAM).rev().find(|n| shared.is_multiple_of(*n)).unwrap_or(1);
            let consts = consts.u32("TEAM", team);
            self.dispatch(SHARED.name, consts, bindings, [cache.heads / team, capacity, 1]);
        }
    }
}

fn twin(mut call: Invocation<'_>) {
    let [rows, pages, q, keys, values, out] = call.take();
    let (rows, pages, q) = (rows.words(), pages.words(), q.floats());
    let (keys, values, out) = (keys.words(), values.words(), out.floats_mut());
    let consts = call.consts;
    let [heads, kv_heads, half, page_len, max_pages, window] =
        ["HEADS", "KV_HEADS", "HALF", "PAGE", "MAX_PAGES", "WINDOW"].map(|c| consts.get(c));
    let scale = Scale::of(consts);
    out.par_chunks_exact_mut(2 * half).zip(q.par_chunks_exact(2 * half)).enumerate().for_each(
        |(i, (out, q))| {
            let (r, kv_head) = (i / heads, i % heads / (heads / kv_heads));
            let Some(row) = active(rows, r) else { return };
            let end = row.position + 1;
            let first = if window > 0 { end.saturating_sub(window) } else { 0 };
            let page =
                |key: usize| pages[row.sequence * max_pages + key / page_len] as usize * kv_heads + kv_head;
            let scores: Vec<f64> = (first..end)
                .map(|key| {
                    let at = page(key) * half * page_len + key % page_len;
                    let dot = |i: usize| {
                        let [a, b] = unpair(keys[at + i * page_len]).map(f64::from);
                        f64::from(q[i]) * a + f64::from(q[half + i]) * b
                    };
                    scale.apply((0..half).map(dot).sum())
                })
                .collect();
            let greatest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - greatest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sums = vec![0.0; 2 * half];
            for (key, weight) in (first..end).zip(&weights) {
                let values = &values[(page(key) * page_len + key % page_len) * half..][..half];
                for (i, &word) in values.iter().enumerate() {
                    let [a, b] = unpair(word).map(f64::from);
                    sums[i] += weight * a;
                    sums[half + i] += weight * b;
                }
            }
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = (s / total) as f32);
        },
    );
}

/// Two sequences of up to three pages each, scattered over eight; the indices of page table, keys, values.
pub(super) fn test_cache(
    b: &mut Builder,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: usize,
) -> (Cache, [usize; 3]) {
    let pages = b.words("pages", vec![5, 0, 2, 7, 1, 4]);
    let mut halves = |name| {
        let n = 8 * PAGE * kv_heads * head_dim / 2;
        let words = (0..n).map(|_| pair(f16::from_f32(b.normal()), f16::from_f32(b.normal()))).collect();
        b.words(name, words)
    };
    let indices = [pages, halves("keys"), halves("values")];
    let none = Buffer { id: 0, len: 0, name: "" };
    (
        Cache { heads, kv_heads, head_dim, window, max_pages: 3, pages: none, keys: none, values: none },
        indices,
    )
}

fn cases(lane: bool) -> Vec<Case> {
    let case = |(heads, kv_heads, head_dim, window, cap): (usize, usize, usize, usize, f32)| {
        let name = format!("{heads} heads, {kv_heads} kv heads of {head_dim}, window {window}, cap {cap}");
        let mut b = Builder::new(&name);
        let positions = [(0, 0), (1, 0), (95, 1), (31, 0), (32, 1), (70, 0), (63, 1)];
        let used: Vec<_> = positions.iter().map(|&(p, s)| (0, p, s, NONE)).collect();
        let rows = b.rows(16, &used);
        let (cache, indices) = test_cache(&mut b, heads, kv_heads, head_dim, window);
        let q = b.normals("q", 16 * heads * head_dim);
        let out = b.output("attention", 16 * heads * head_dim, F32);
        b.case(name, move |r, buffers| {
            let scores = Scale { scale: 1.0 / (head_dim as f32).sqrt(), cap };
            let cache = cache.on(buffers, indices);
            r.attention_as(lane, buffers[rows], 16, (buffers[q], scores), &cache, buffers[out]);
        })
    };
    [
        (4, 4, 16, 0, 0.0),
        (9, 3, 64, 0, 0.0),
        (9, 3, 64, 33, 0.0),
        (2, 1, 8, 5, 0.0),
        (3, 1, 80, 0, 0.0),
        (2, 2, 256, 40, 0.0),
        (12, 1, 24, 0, 0.0),
        (11, 1, 256, 0, 0.0),
        (16, 2, 128, 0, 0.0),
        (8, 2, 96, 20, 0.0),
        (4, 2, 32, 0, 1.5),
        (8, 4, 256, 40, 0.5),
    ]
    .map(case)
    .into()
}
