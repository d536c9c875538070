//! Attention that turns queries and keys, and puts keys and values into the cache, itself: for rows each of which is the last of
//! a sequence of its own.

use super::attention::{LANE_STEP, Queries, Way, attend};
use super::attention_cases::{test_cache, worth_checking};
use super::case::{Builder, Compare, F32};
use super::rope_store::{access, store, test_rotation};
use super::{Access, Cache, Case, Heads, Invocation, Kernel, NONE, Needs, Rotation, Scale, wgsl};
use crate::recording::{Buffer, Recorder};

/// Queries in workgroup memory: for GPUs.
pub const SHARED: Kernel = Kernel {
    name: "attention_shared_append",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("pairs.wgsl"),
        wgsl!("store/vectors.wgsl"),
        wgsl!("query/made.wgsl"),
        wgsl!("attention_shared.wgsl"),
    ],
    access: &access(Access::ReadWrite),
    needs: Needs::Reduction,
    twin: |call| twin(call, false),
    cases: || cases(Way::Shared),
};

/// A lane a team of query heads: for devices whose workgroups are threads of a processor.
pub const LANE: Kernel = Kernel {
    name: "attention_lane_append",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("pairs.wgsl"),
        wgsl!("store/vectors.wgsl"),
        wgsl!("query/made.wgsl"),
        wgsl!("attention_lane.wgsl"),
    ],
    access: &access(Access::ReadWrite),
    needs: Needs::Nothing,
    twin: |call| twin(call, false),
    cases: || cases(Way::Lane),
};

/// The same with keys and values in textures.
pub const TEXELS: Kernel = Kernel {
    name: "attention_texels_append",
    wgsl: &[
        wgsl!("soft_cap.wgsl"),
        wgsl!("slices.wgsl"),
        wgsl!("pairs.wgsl"),
        wgsl!("store/texels.wgsl"),
        wgsl!("query/made.wgsl"),
        wgsl!("attention_texels.wgsl"),
    ],
    access: &access(Access::TextureReadWrite),
    needs: Needs::Sharing,
    twin: |call| twin(call, true),
    cases: || cases(Way::Texels),
};

impl Recorder<'_> {
    /// [`rope_and_store`](Recorder::rope_and_store) and [`attention`](Recorder::attention) at once, of rows that are of
    /// different sequences: `[capacity, heads · head_dim]`. None where it cannot be done.
    pub fn attention_and_store(
        &mut self,
        (rows, capacity): (Buffer, usize),
        (qkv, heads): (Buffer, Heads),
        rotation: Rotation,
        scores: Scale,
        cache: &Cache,
    ) -> Option<Buffer> {
        let way = self.attention_way(capacity, false, cache);
        // Four pairs are loaded at a time, and who puts a key into the cache serves all queries that want it.
        let fours = (cache.head_dim / 2).is_multiple_of(4) && rotation.pairs.is_multiple_of(4);
        let alone = cache.team() == cache.heads / cache.kv_heads;
        let both = cache.way != Way::Texels || self.capabilities.texture_read_write;
        if !fours || !alone || !both {
            return None;
        }
        let out = self.temporary(capacity * cache.heads * cache.head_dim, "attention");
        let queries = Queries::Made { qkv, heads, rotation };
        self.attention_as(way, (rows, capacity, false), (queries, scores), cache, out);
        Some(out)
    }
}

fn twin(mut call: Invocation<'_>, by_token: bool) {
    let [rows, pages, rotation, qkv, keys, values, out] = call.take();
    let (rows, pages, rotation, qkv) = (rows.words(), pages.words(), rotation.floats(), qkv.floats());
    let (keys, values) = (keys.words_mut(), values.words_mut());
    let [heads, kv_heads] = ["HEADS", "KV_HEADS"].map(|c| call.consts.get(c));
    let mut q = vec![0.0; qkv.len() / (heads + 2 * kv_heads) * heads];
    store(call.consts, by_token, (rows, pages, rotation, qkv), (keys, values, &mut q));
    attend(call.consts, by_token, rows, &q, (pages, keys, values), out.floats_mut());
}

/// A shape of attention, and where its rows are.
#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    pairs: usize,
    layout: Heads,
    window: usize,
    cap: f32,
    splits: usize,
    positions: [u32; 2],
}

fn cases(way: Way) -> Vec<Case> {
    let plain = Shape {
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        pairs: 32,
        layout: Heads::ByKind,
        window: 0,
        cap: 0.0,
        splits: 1,
        positions: [37, 64],
    };
    let small = Shape { head_dim: 32, pairs: 16, ..plain };
    let case = |shape: Shape| {
        let Shape { heads, kv_heads, head_dim, pairs, layout, window, cap, splits, positions } = shape;
        let name = format!(
            "{heads} heads, {kv_heads} kv heads of {head_dim}, {pairs} pairs, {layout:?}, window {window}, cap {cap}, \
             {splits} slices, at {positions:?}"
        );
        let mut b = Builder::new(&name);
        let [first, second] = positions;
        let rows = b.rows(4, &[(0, first, 0, NONE), (0, 0, NONE, NONE), (0, second, 1, NONE)]);
        let (cache, indices) = test_cache(&mut b, heads, kv_heads, head_dim, window, way);
        let qkv = b.normals("qkv", 4 * (heads + 2 * kv_heads) * head_dim);
        let table = test_rotation(&mut b, pairs);
        let out = b.output("attention", 4 * heads * head_dim, F32);
        b.compare(indices[1], Compare::Halves(1e-6));
        b.compare(indices[2], Compare::Halves(1e-6));
        b.case(name, move |r, buffers| {
            let scores = Scale { scale: 1.0 / (head_dim as f32).sqrt(), cap };
            if !worth_checking(way, head_dim, r.capabilities)
                || (way == Way::Texels && !TEXELS.possible(r.capabilities))
            {
                return;
            }
            let cache = cache.on(buffers, indices);
            let rotation = Rotation { table: buffers[table], pairs };
            let queries = Queries::Made { qkv: buffers[qkv], heads: layout, rotation };
            let given = (buffers[rows], 4, false);
            r.attention_as((1, splits), given, (queries, scores), &cache, buffers[out]);
        })
    };
    [
        plain,
        Shape { positions: [0, 95], ..plain },
        Shape { positions: [31, 32], splits: 3, ..small },
        Shape { positions: [94, 63], splits: 2, window: 33, ..small },
        Shape { heads: 2, kv_heads: 1, head_dim: 80, pairs: 20, cap: 1.5, ..plain },
        Shape { heads: 2, kv_heads: 1, head_dim: 24, pairs: 4, ..plain },
        Shape { heads: 3, kv_heads: 3, head_dim: 32, pairs: 16, layout: Heads::ByHead, ..plain },
        Shape { heads: 4, kv_heads: 1, head_dim: 48, pairs: 24, splits: 8, ..plain },
        Shape { heads: 2, kv_heads: 2, head_dim: 16, pairs: 0, ..plain },
    ]
    .into_iter()
    .filter(|shape| way == Way::Shared || shape.head_dim.is_multiple_of(LANE_STEP))
    .map(case)
    .collect()
}
