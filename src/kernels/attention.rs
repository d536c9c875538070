//! Causal attention over the paged cache.

use super::attention_cases::{cases, merge_cases};
use super::shape::processor_threads;
use super::twin::{ROW_WORDS, active};
use super::{
    Access, Heads, Invocation, Kernel, Needs, Rotation, Scale, attention_append, attention_rows, wgsl,
};
use crate::capabilities::Capabilities;
use crate::format::unpair;
use crate::recording::{Buffer, Consts, Recorder};
use rayon::prelude::*;
use std::ops::Range;

/// Queries in workgroup memory: for GPUs.
pub const SHARED: Kernel = Kernel {
    name: "attention_shared",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("cache/words.wgsl"),
        wgsl!("query/given.wgsl"),
        wgsl!("attention_shared.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Reduction,
    twin: |call| twin(call, false),
    cases: || cases(Way::Shared),
};

/// A lane a team of query heads: for devices whose workgroups are threads of a processor.
pub const LANE: Kernel = Kernel {
    name: "attention_lane",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("cache/words.wgsl"),
        wgsl!("query/given.wgsl"),
        wgsl!("attention_lane.wgsl"),
    ],
    access: &[Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin: |call| twin(call, false),
    cases: || cases(Way::Lane),
};

/// The same with keys and values in textures.
pub const TEXELS: Kernel = Kernel {
    name: "attention_texels",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("cache/texels.wgsl"),
        wgsl!("query/given.wgsl"),
        wgsl!("attention_texels.wgsl"),
    ],
    access: &[
        Access::Read,
        Access::Read,
        Access::Read,
        Access::TextureRead,
        Access::TextureRead,
        Access::ReadWrite,
    ],
    needs: Needs::Sharing,
    twin: |call| twin(call, true),
    cases: || cases(Way::Texels),
};

/// Puts slices of the keys together.
pub const MERGE: Kernel = Kernel {
    name: "attention_merge",
    wgsl: &[wgsl!("slices.wgsl"), wgsl!("attention_merge.wgsl")],
    access: &[Access::Read, Access::Read, Access::ReadWrite],
    needs: Needs::Nothing,
    twin: merge_twin,
    cases: merge_cases,
};

const WG: usize = 64;

/// Most query heads of a workgroup, over all its rows: with heads of 256 they take 12 KiB of workgroup memory, of the
/// 16 that every device has.
const MAX_TEAM: usize = 8;

/// Most slices of a row's keys.
const MAX_SPLITS: usize = 32;

/// Workgroups of lanes that keep a thread of a processor busy, and share the work evenly enough.
const GROUPS_A_THREAD: usize = 3;

/// Workgroups of `attention_shared` that keep a GPU busy: two for each core of a large one.
const SHARED_ITEMS: usize = 256;

/// Query heads of a lane, of each of its rows.
const LANE_TEAM: usize = 4;

/// Most rows of a lane. Twice as many are a fifth faster on llvmpipe, and take it three times as long to
/// compile.
const LANE_TILE: usize = 2;

/// Most pairs of numbers that a lane keeps of the queries of several rows: compilers unroll loops over
/// them, and take longer for twice as many than for twice as many kernels.
pub(super) const LANE_PAIRS: usize = 256;

/// Sizes of heads of `attention_lane` and `attention_texels` are multiples of this: eight pairs are loaded at a time.
pub(super) const LANE_STEP: usize = 16;

/// Lanes of a workgroup where a lane has queries of its own: few, so that all of a processor's threads have some.
const LANES: usize = 8;

/// Tokens of a page of the cache. It divides the workgroup's size, and a row of it is one memory line on most devices.
pub const PAGE: usize = 32;

/// How attention reads keys and values, and where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By workgroups, from buffers: `attention_shared`.
    Shared,
    /// By lanes, from buffers: `attention_lane`, and in prompts `attention_rows`.
    Lane,
    /// By lanes, from textures, keys by token as values are: `attention_texels`.
    Texels,
}

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
    /// How it is read: [`Cache::way`].
    pub way: Way,
    /// `[pages, kv_heads, head_dim / 2, PAGE]` pairs of halves, those that rotate together; by token
    /// `[pages, kv_heads, PAGE, head_dim / 2]`.
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

    /// How heads of this size are best read. Textures pay where lanes are eight or more: SwiftShader, whose lanes are four, takes
    /// twice as long with them.
    pub fn way(head_dim: usize, device: &Capabilities) -> Way {
        let eight = device.subgroups.is_some_and(|(least, _)| least >= 8);
        match device.software && head_dim.is_multiple_of(LANE_STEP) {
            true if device.textures && eight => Way::Texels,
            true => Way::Lane,
            false => Way::Shared,
        }
    }

    /// Whether a key's words lie side by side.
    pub fn by_token(&self) -> bool {
        self.way == Way::Texels
    }

    /// Query heads that share what is loaded.
    pub(super) fn team(&self) -> usize {
        team(self.heads / self.kv_heads, self.way)
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

/// What attention is asked with.
#[derive(Clone, Copy)]
pub(super) enum Queries {
    /// `[capacity, heads · head_dim]` as `rope_store` left them, which put keys and values into the cache.
    Given(Buffer),
    /// Queries, keys and values as a product left them: `[capacity, (heads + 2 · kv_heads) · head_dim]`.
    Made { qkv: Buffer, heads: Heads, rotation: Rotation },
}

/// Where the word of pair `i` of a key of `half` pairs is, in a head's part (page · kv_heads + kv_head) of a page.
pub fn place_of_key(by_token: bool, half: usize, part: usize, token: usize, i: usize) -> usize {
    match by_token {
        true => (part * PAGE + token) * half + i,
        false => (part * half + i) * PAGE + token,
    }
}

impl Recorder<'_> {
    /// Attention of `q` `[capacity, heads · head_dim]` to the keys of each row's sequence up to its position:
    /// `[capacity, heads · head_dim]`. `scores` is what products of queries and keys go through. With `prompt`, most rows
    /// are of the same sequence as their neighbours.
    pub fn attention(
        &mut self,
        (rows, capacity, prompt): (Buffer, usize, bool),
        q: Buffer,
        scores: Scale,
        cache: &Cache,
    ) -> Buffer {
        let way = self.attention_way(capacity, prompt, cache);
        let out = self.temporary(capacity * cache.heads * cache.head_dim, "attention");
        self.attention_as(way, (rows, capacity, prompt), (Queries::Given(q), scores), cache, out);
        out
    }

    /// How many of so many rows are taken at a time, and in how many slices of the keys.
    pub(super) fn attention_way(&self, capacity: usize, prompt: bool, cache: &Cache) -> (usize, usize) {
        let team = cache.team();
        let (most, enough) = match cache.way != Way::Shared {
            true => (LANE_TILE.min(LANE_PAIRS / (team * cache.head_dim / 2)), lanes()),
            false => (MAX_TEAM / team, SHARED_ITEMS),
        };
        let items = |tile: usize| capacity / tile * (cache.heads / team);
        let tile = attention_rows::TILE;
        // Of however many rows, so that a prompt makes the same in pieces of any size.
        if prompt
            && capacity.is_multiple_of(tile)
            && self.capabilities.few_lanes()
            && attention_rows::fits(cache, self.capabilities)
        {
            return (tile, 1);
        }
        let fits = |&tile: &usize| tile <= most && capacity.is_multiple_of(tile) && items(tile) >= enough;
        let tile = [8, 4, 2].into_iter().filter(|_| prompt).find(fits).unwrap_or(1);
        (tile, (enough / items(tile)).clamp(1, cache.max_pages.min(MAX_SPLITS)))
    }

    /// Attention in one way.
    pub(super) fn attention_as(
        &mut self,
        (tile, splits): (usize, usize),
        (rows, capacity, prompt): (Buffer, usize, bool),
        (queries, scores): (Queries, Scale),
        cache: &Cache,
        out: Buffer,
    ) {
        let slices = match splits {
            1 => out,
            _ => self.temporary(capacity * cache.heads * splits * (cache.head_dim + 2), "slices"),
        };
        let (lane, team) = (cache.way != Way::Shared, cache.team());
        let by_rows = (tile, splits) == (attention_rows::TILE, 1)
            && matches!(queries, Queries::Given(_))
            && attention_rows::fits(cache, self.capabilities);
        let consts = cache.consts(if lane { LANES } else { WG });
        let consts =
            consts.u32("WINDOW", cache.window).u32("TEAM", team).u32("TILE", tile).u32("SPLITS", splits);
        let consts = scores.consts(consts);
        let (kernel, consts, asked) = match queries {
            Queries::Given(q) => {
                let kernel = match cache.way {
                    Way::Shared => &SHARED,
                    Way::Lane if by_rows => &attention_rows::KERNEL,
                    Way::Lane => &LANE,
                    Way::Texels => &TEXELS,
                };
                (kernel, consts, vec![q])
            }
            Queries::Made { qkv, heads, rotation } => {
                let consts = heads.consts(rotation.consts(consts));
                let kernel = match cache.way {
                    Way::Shared => &attention_append::SHARED,
                    Way::Lane => &attention_append::LANE,
                    Way::Texels => &attention_append::TEXELS,
                };
                (kernel, consts, vec![rotation.table, qkv])
            }
        };
        if !lane
            && splits == 1
            && let Queries::Given(q) = queries
        {
            return self.in_parts(kernel, consts, (rows, capacity, tile), q, cache, out);
        }
        let cached = [cache.keys, cache.values, slices];
        let bindings = [rows, cache.pages].into_iter().chain(asked).chain(cached).map(Into::into);
        if lane {
            let consts = consts.u32("ROWS", capacity).bool("ALIKE", prompt);
            let items = capacity / tile * cache.heads / team * splits;
            let groups = if by_rows { items } else { items.div_ceil(LANES) };
            self.dispatch(kernel.name, consts, bindings, [groups, 1, 1]);
        } else {
            self.dispatch(kernel.name, consts, bindings, [cache.heads / team, capacity / tile, splits]);
        }
        if splits > 1 {
            self.merge((rows, capacity), slices, splits, cache, out);
        }
    }

    /// `attention_shared` of whole rows, in as many dispatches as it takes for none to be too long where a row sees all the keys that
    /// there is room for.
    fn in_parts(
        &mut self,
        kernel: &Kernel,
        consts: Consts,
        (rows, capacity, tile): (Buffer, usize, usize),
        q: Buffer,
        cache: &Cache,
        out: Buffer,
    ) {
        let (width, room) = (cache.heads * cache.head_dim, cache.max_pages * PAGE);
        let keys = if cache.window > 0 { cache.window.min(room) } else { room };
        // Parts run one after the other, and each should keep a GPU busy.
        let unit = tile * SHARED_ITEMS.div_ceil(cache.heads / cache.team());
        let part = self.rows_of_a_part(capacity, 4 * (keys * width) as u64, unit, &[ROW_WORDS, width]);
        for first in (0..capacity).step_by(part) {
            let n = part.min(capacity - first);
            let cut = |buffer: Buffer, words| buffer.rows(words, first, n, capacity);
            let (rows, q, out) = (cut(rows, ROW_WORDS), cut(q, width), cut(out, width));
            let bindings = [rows, cache.pages.whole(), q, cache.keys.whole(), cache.values.whole(), out];
            let grid = [cache.heads / cache.team(), n / tile, 1];
            self.dispatch(kernel.name, consts.clone(), bindings, grid);
        }
    }

    pub(super) fn merge(
        &mut self,
        (rows, capacity): (Buffer, usize),
        slices: Buffer,
        splits: usize,
        cache: &Cache,
        out: Buffer,
    ) {
        let consts = cache.consts(WG).u32("WINDOW", cache.window).u32("SPLITS", splits).u32("ROWS", capacity);
        let groups = (capacity * cache.heads * cache.head_dim / 2).div_ceil(WG);
        self.dispatch(MERGE.name, consts, [rows, slices, out].map(Into::into), [groups, 1, 1]);
    }
}

/// Query heads that share what is loaded, of those that share a key.
pub(super) fn team(heads: usize, way: Way) -> usize {
    let most = if way == Way::Shared { MAX_TEAM } else { LANE_TEAM };
    (1..=most).rev().find(|n| heads.is_multiple_of(*n)).unwrap_or(1)
}

/// Lanes of `attention_lane` that keep a processor busy.
fn lanes() -> usize {
    LANES * GROUPS_A_THREAD * processor_threads()
}

/// The slices of a row's keys that are not empty, as slices.wgsl has them.
fn slices(consts: &Consts, position: usize) -> Vec<Range<usize>> {
    let [page, window, splits] = ["PAGE", "WINDOW", "SPLITS"].map(|c| consts.get(c));
    let end = position + 1;
    let first = if window > 0 { end.saturating_sub(window) } else { 0 };
    let (start, pages) = (first / page, end.div_ceil(page) - first / page);
    let each = pages.div_ceil(splits) * page;
    let slice = |i: usize| first.max(start * page + i * each)..end.min(start * page + (i + 1) * each);
    (0..(pages * page).div_ceil(each)).map(slice).collect()
}

pub(super) fn twin(mut call: Invocation<'_>, by_token: bool) {
    let [rows, pages, q, keys, values, out] = call.take();
    let cache = (pages.words(), keys.words(), values.words());
    attend(call.consts, by_token, rows.words(), q.floats(), cache, out.floats_mut());
}

/// Of the row table, queries, and page table, keys and values.
pub(super) fn attend(
    consts: &Consts,
    by_token: bool,
    rows: &[u32],
    q: &[f32],
    (pages, keys, values): (&[u32], &[u32], &[u32]),
    out: &mut [f32],
) {
    let [heads, kv_heads, half, page_len, max_pages, splits] =
        ["HEADS", "KV_HEADS", "HALF", "PAGE", "MAX_PAGES", "SPLITS"].map(|c| consts.get(c));
    let scale = Scale::of(consts);
    let each = if splits == 1 { 2 * half } else { 2 * half + 2 };
    let head = |(i, (out, q)): (usize, (&mut [f32], &[f32]))| {
        let (r, kv_head) = (i / heads, i % heads / (heads / kv_heads));
        let Some(row) = active(rows, r) else { return };
        let page =
            |key: usize| pages[row.sequence * max_pages + key / page_len] as usize * kv_heads + kv_head;
        for (slice, out) in slices(consts, row.position).into_iter().zip(out.chunks_exact_mut(each)) {
            let scores: Vec<f64> = slice
                .clone()
                .map(|key| {
                    let place = |i| place_of_key(by_token, half, page(key), key % page_len, i);
                    let dot = |i: usize| {
                        let [a, b] = unpair(keys[place(i)]).map(f64::from);
                        f64::from(q[i]) * a + f64::from(q[half + i]) * b
                    };
                    scale.apply((0..half).map(dot).sum())
                })
                .collect();
            let greatest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - greatest).exp()).collect();
            let total: f64 = weights.iter().sum();
            let mut sums = vec![0.0; 2 * half];
            for (key, weight) in slice.zip(&weights) {
                let values = &values[(page(key) * page_len + key % page_len) * half..][..half];
                for (i, &word) in values.iter().enumerate() {
                    let [a, b] = unpair(word).map(f64::from);
                    sums[i] += weight * a;
                    sums[half + i] += weight * b;
                }
            }
            let whole = if splits == 1 { total } else { 1.0 };
            out.iter_mut().zip(sums).for_each(|(o, s)| *o = (s / whole) as f32);
            if splits > 1 {
                (out[2 * half], out[2 * half + 1]) = (total as f32, greatest as f32);
            }
        }
    };
    out.par_chunks_exact_mut(each * splits).zip(q.par_chunks_exact(2 * half)).enumerate().for_each(head);
}

fn merge_twin(mut call: Invocation<'_>) {
    let [rows, partial, out] = call.take();
    let (rows, partial, out) = (rows.words(), partial.floats(), out.floats_mut());
    let consts = call.consts;
    let [heads, half, splits] = ["HEADS", "HALF", "SPLITS"].map(|c| consts.get(c));
    let each = 2 * half + 2;
    for (i, (out, partial)) in
        out.chunks_exact_mut(2 * half).zip(partial.chunks_exact(each * splits)).enumerate()
    {
        let Some(row) = active(rows, i / heads) else { continue };
        let parts: Vec<&[f32]> =
            partial.chunks_exact(each).take(slices(consts, row.position).len()).collect();
        let greatest = parts.iter().map(|p| p[each - 1]).fold(f32::MIN, f32::max);
        let scales: Vec<f64> = parts.iter().map(|p| f64::from(p[each - 1] - greatest).exp()).collect();
        let sum = |i: usize| -> f64 { parts.iter().zip(&scales).map(|(p, s)| f64::from(p[i]) * s).sum() };
        let total = sum(2 * half);
        out.iter_mut().enumerate().for_each(|(i, out)| *out = (sum(i) / total) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::OPERATIONS;

    /// A prompt of 512 rows of an 8B model, where the cache has room for 131,072 tokens.
    #[test]
    fn no_dispatch_of_a_long_context_is_too_long() {
        let device = Capabilities { window_alignment: 256, ..Capabilities::promised("a GPU", "vulkan") };
        let mut r = Recorder::new(&device);
        let buffer = |id, words: usize| Buffer { id, len: words as u64 * 4, name: "" };
        let cache = Cache {
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            window: 0,
            max_pages: 4096,
            pages: buffer(0, 4096),
            way: Way::Shared,
            keys: buffer(1, 4),
            values: buffer(2, 4),
        };
        let (rows, q) = (buffer(3, 512 * ROW_WORDS), buffer(4, 512 * 4096));
        r.attention((rows, 512, true), q, Scale { scale: 1.0, cap: 0.0 }, &cache);
        let recording = r.finish();
        let mut end = 0;
        for dispatch in &recording.dispatches {
            assert!((OPERATIONS / 2..=OPERATIONS).contains(&dispatch.operations()), "{dispatch:?}");
            assert_eq!(dispatch.bindings[0].offset, end * 32);
            assert_eq!(dispatch.bindings[2].offset, end * 4096 * 4);
            assert_eq!(dispatch.bindings[5].offset, end * 4096 * 4);
            // Enough workgroups for a large GPU.
            assert!(dispatch.workgroups[0] * dispatch.workgroups[1] >= 256, "{dispatch:?}");
            end += dispatch.bindings[0].len / 32;
        }
        assert_eq!((end, recording.dispatches.len()), (512, 8));
    }
}
