//! Rotary position embedding, and keys and values appended to the cache.

use super::attention::{Way, place_of_key};
use super::attention_cases::test_cache;
use super::case::{Builder, Compare, F32};
use super::twin::active;
use super::{Access, Cache, Case, Invocation, Kernel, NONE, Needs, wgsl};
use crate::format::pair;
use crate::recording::{Buffer, Consts, Recorder};
use half::f16;

/// Keys and values in buffers.
pub const WORDS: Kernel = Kernel {
    name: "rope_store",
    wgsl: &[wgsl!("pairs.wgsl"), wgsl!("store/words.wgsl"), wgsl!("rope_store.wgsl")],
    access: &access(Access::ReadWrite),
    needs: Needs::Nothing,
    twin: |call| twin(call, false),
    cases: || cases(Way::Shared),
};

/// Keys and values in textures.
pub const TEXELS: Kernel = Kernel {
    name: "rope_store_texels",
    wgsl: &[wgsl!("pairs.wgsl"), wgsl!("store/texels.wgsl"), wgsl!("rope_store.wgsl")],
    access: &access(Access::TextureWrite),
    needs: Needs::Nothing,
    twin: |call| twin(call, true),
    cases: || cases(Way::Texels),
};

/// Bindings, the cache as it is accessed.
pub(super) const fn access(cache: Access) -> [Access; 7] {
    [Access::Read, Access::Read, Access::Read, Access::Read, cache, cache, Access::ReadWrite]
}

const WG: usize = 64;

/// How a rotary embedding turns the heads.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// Cosine and sine, `[context, pairs, 2]`; anything where there are no pairs, but four numbers at least.
    pub table: Buffer,
    /// Pairs of a head's dimensions that turn, from the first on: of dimensions i and i + pairs.
    pub pairs: usize,
}

/// How queries, keys and values lie in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heads {
    /// All queries, then all keys, then all values.
    ByKind,
    /// For each head its query, key and value.
    ByHead,
}

impl Rotation {
    pub(super) fn consts(self, consts: Consts) -> Consts {
        consts.u32("TURNS", self.pairs)
    }
}

impl Heads {
    pub(super) fn consts(self, consts: Consts) -> Consts {
        consts.bool("BY_HEAD", self == Heads::ByHead)
    }
}

impl Recorder<'_> {
    /// Rotates q and k of `qkv` `[capacity, (heads + 2 · kv_heads) · head_dim]` by their rows' positions, puts
    /// k and v into `cache`, and returns q `[capacity, heads · head_dim]`, its dimensions in the order of the keys'.
    pub fn rope_and_store(
        &mut self,
        rows: Buffer,
        capacity: usize,
        (qkv, heads): (Buffer, Heads),
        rotation: Rotation,
        cache: &Cache,
    ) -> Buffer {
        let half = cache.head_dim / 2;
        let q = self.temporary(capacity * cache.heads * cache.head_dim, "q");
        let each = if half.is_multiple_of(4) { 4 } else { 1 };
        let consts = heads.consts(rotation.consts(cache.consts(WG)));
        let bindings = [rows, cache.pages, rotation.table, qkv, cache.keys, cache.values, q].map(Into::into);
        let pairs = (cache.heads + 2 * cache.kv_heads) * half;
        let kernel = if cache.way == Way::Texels { &TEXELS } else { &WORDS };
        self.dispatch(kernel.name, consts, bindings, [(pairs / each).div_ceil(WG), capacity, 1]);
        q
    }
}

fn twin(mut call: Invocation<'_>, by_token: bool) {
    let [rows, pages, rotation, qkv, keys, values, q] = call.take();
    let given = (rows.words(), pages.words(), rotation.floats(), qkv.floats());
    store(call.consts, by_token, given, (keys.words_mut(), values.words_mut(), q.floats_mut()));
}

/// Of the row table, the page table, the turns, and queries, keys and values: the cache, and the queries.
pub(super) fn store(
    consts: &Consts,
    by_token: bool,
    (rows, pages, rotation, qkv): (&[u32], &[u32], &[f32], &[f32]),
    (keys, values, q): (&mut [u32], &mut [u32], &mut [f32]),
) {
    let [heads, kv_heads, half, turns, page_len, max_pages] =
        ["HEADS", "KV_HEADS", "HALF", "TURNS", "PAGE", "MAX_PAGES"].map(|c| consts.get(c));
    let by_head = consts.flag("BY_HEAD");
    let halves = |a: f64, b: f64| pair(f16::from_f32(a as f32), f16::from_f32(b as f32));
    for (r, qkv) in qkv.chunks_exact((heads + 2 * kv_heads) * 2 * half).enumerate() {
        let Some(row) = active(rows, r) else { continue };
        let page = pages[row.sequence * max_pages + row.position / page_len] as usize;
        let token = row.position % page_len;
        for head in 0..heads + 2 * kv_heads {
            let place = if by_head { head % heads * 3 + head / heads } else { head };
            let x = &qkv[place * 2 * half..][..2 * half];
            for i in 0..half {
                if head >= heads + kv_heads {
                    values[((page * kv_heads + head - heads - kv_heads) * page_len + token) * half + i] =
                        halves(f64::from(x[i]), f64::from(x[half + i]));
                    continue;
                }
                let (c, d) = if i < turns {
                    let (a, b) = (f64::from(x[i]), f64::from(x[turns + i]));
                    let at = (row.position * turns + i) * 2;
                    let (cos, sin) = (f64::from(rotation[at]), f64::from(rotation[at + 1]));
                    (a * cos - b * sin, b * cos + a * sin)
                } else {
                    (f64::from(x[turns + i]), f64::from(x[half + i]))
                };
                if head < heads {
                    let q = &mut q[(r * heads + head) * 2 * half..][..2 * half];
                    (q[i], q[half + i]) = (c as f32, d as f32);
                } else {
                    let part = page * kv_heads + head - heads;
                    keys[place_of_key(by_token, half, part, token, i)] = halves(c, d);
                }
            }
        }
    }
}

/// Turns of so many pairs at the positions of [`test_cache`].
pub(super) fn test_rotation(b: &mut Builder, pairs: usize) -> usize {
    let turn = |i: usize| [(i as f32 * 0.3).cos(), (i as f32 * 0.3).sin()];
    let turns: Vec<f32> = (0..(96 * pairs).max(2)).flat_map(turn).collect();
    b.floats("rotation", &turns)
}

fn cases(way: Way) -> Vec<Case> {
    let case = |(heads, kv_heads, head_dim, pairs, layout): (usize, usize, usize, usize, Heads)| {
        let name = format!("{heads} heads, {kv_heads} kv heads of {head_dim}, {pairs} pairs, {layout:?}");
        let mut b = Builder::new(&name);
        let rows = b.rows(
            6,
            &[(0, 0, 0, NONE), (0, 1, 0, NONE), (0, 95, 1, NONE), (0, 63, 0, NONE), (0, 64, 1, NONE)],
        );
        let (cache, indices) = test_cache(&mut b, heads, kv_heads, head_dim, 0, way);
        let qkv = b.normals("qkv", 6 * (heads + 2 * kv_heads) * head_dim);
        let table = test_rotation(&mut b, pairs);
        let q = b.output("q", 6 * heads * head_dim, F32);
        b.compare(indices[1], Compare::Halves(1e-6));
        b.compare(indices[2], Compare::Halves(1e-6));
        b.case(name, move |r, buffers| {
            if way == Way::Texels && !r.capabilities.textures {
                return;
            }
            r.pin(buffers[q]);
            let cache = cache.on(buffers, indices);
            let rotation = Rotation { table: buffers[table], pairs };
            r.rope_and_store(buffers[rows], 6, (buffers[qkv], layout), rotation, &cache);
        })
    };
    [
        (4, 4, 16, 8, Heads::ByKind),
        (9, 3, 64, 32, Heads::ByKind),
        (2, 1, 8, 4, Heads::ByKind),
        (3, 1, 256, 128, Heads::ByKind),
        (2, 1, 80, 10, Heads::ByKind),
        (3, 3, 24, 3, Heads::ByHead),
        (2, 2, 32, 16, Heads::ByHead),
        (2, 1, 16, 0, Heads::ByKind),
    ]
    .map(case)
    .into()
}
