//! What kernels of attention are checked on.

use super::attention::{Cache, LANE_PAIRS, LANE_STEP, PAGE, Queries, TEXELS, Way, team};
use super::case::{Builder, F32};
use super::{Case, NONE, Scale, attention_rows};
use crate::capabilities::Capabilities;
use crate::format::pair;
use crate::recording::Buffer;
use half::f16;

/// Two sequences of up to three pages each, scattered over eight; the indices of page table, keys, values.
pub(super) fn test_cache(
    b: &mut Builder,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    window: usize,
    way: Way,
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
        Cache { heads, kv_heads, head_dim, window, max_pages: 3, pages: none, way, keys: none, values: none },
        indices,
    )
}

/// Whether a case is for the device: one that prefers another kernel takes long to compile large heads, and has enough with small.
pub(super) fn worth_checking(way: Way, head_dim: usize, device: &Capabilities) -> bool {
    match way {
        Way::Shared => true,
        Way::Lane => head_dim <= 32 || Cache::way(head_dim, device) != Way::Texels,
        Way::Texels => TEXELS.possible(device),
    }
}

/// Rows of the cases: positions in two sequences, and rows that are not in use.
const TEST_POSITIONS: [(u32, u32); 11] =
    [(0, 0), (1, 0), (95, 1), (31, 0), (32, 1), (70, 0), (63, 1), (0, 0), (62, 0), (63, 0), (64, 0)];

fn test_rows(b: &mut Builder) -> usize {
    let used: Vec<_> = TEST_POSITIONS.iter().map(|&(p, s)| (0, p, s, NONE)).collect();
    b.rows(16, &used)
}

/// Heads, heads of keys and values, their size, window and cap of a case.
type Asked = (usize, usize, usize, usize, f32);

fn case(
    way: Way,
    (heads, kv_heads, head_dim, window, cap): Asked,
    (tile, splits): (usize, usize),
    by_rows: bool,
) -> Case {
    let name = format!(
        "{heads} heads, {kv_heads} kv heads of {head_dim}, window {window}, cap {cap}, {tile} rows, {splits} slices"
    );
    let mut b = Builder::new(&name);
    let rows = test_rows(&mut b);
    let (cache, indices) = test_cache(&mut b, heads, kv_heads, head_dim, window, way);
    let q = b.normals("q", 16 * heads * head_dim);
    let out = b.output("attention", 16 * heads * head_dim, F32);
    b.case(name, move |r, buffers| {
        let scores = Scale { scale: 1.0 / (head_dim as f32).sqrt(), cap };
        if !worth_checking(way, head_dim, r.capabilities) {
            return;
        }
        let cache = cache.on(buffers, indices);
        if by_rows && !attention_rows::fits(&cache, r.capabilities) {
            return;
        }
        r.attention_as(
            (tile, splits),
            (buffers[rows], 16, tile > 1 || splits == 1),
            (Queries::Given(buffers[q]), scores),
            &cache,
            buffers[out],
        );
    })
}

/// Cases of `attention_rows`: of as many query heads a lane as there may be, and of heads of several sizes.
pub(super) fn cases_by_rows() -> Vec<Case> {
    let all = [
        (9, 3, 64, 0, 0.0),
        (9, 3, 32, 33, 0.0),
        (4, 4, 16, 0, 0.0),
        (12, 1, 48, 0, 0.0),
        (4, 2, 32, 5, 1.5),
    ];
    all.map(|asked| case(Way::Lane, asked, (attention_rows::TILE, 1), true)).into()
}

pub(super) fn cases(way: Way) -> Vec<Case> {
    let whole = [
        (4, 4, 16, 0, 0.0),
        (9, 3, 64, 0, 0.0),
        (9, 3, 32, 33, 0.0),
        (2, 1, 8, 5, 0.0),
        (3, 1, 80, 0, 0.0),
        (12, 1, 24, 0, 0.0),
        (12, 1, 48, 0, 0.0),
        (11, 1, 256, 40, 0.5),
        (16, 2, 128, 0, 0.0),
        (8, 2, 96, 20, 0.0),
        (4, 2, 32, 0, 1.5),
        (16, 2, 256, 0, 0.0),
    ];
    let sliced = [((9, 3, 64, 0, 0.0), 1, 2), ((9, 3, 32, 33, 0.0), 1, 3), ((8, 2, 128, 0, 1.5), 1, 8)];
    // Rows of several sequences in a tile, and rows that are not in use.
    let tiled = [
        ((9, 3, 64, 0, 0.0), 2, 1),
        ((9, 3, 32, 33, 0.0), 2, 2),
        ((2, 1, 128, 40, 1.5), 4, 1),
        ((4, 4, 16, 0, 0.0), 8, 3),
    ];
    // A lane with many pairs takes long to compile, and is made of the same loops as one with few.
    let fits = |&((heads, kv_heads, head_dim, ..), tile, _): &(Asked, usize, usize)| {
        let queries = tile * team(heads / kv_heads, way);
        way == Way::Shared
            || (head_dim.is_multiple_of(LANE_STEP) && queries * head_dim / 2 <= LANE_PAIRS * 3 / 4)
    };
    let case = |(asked, tile, splits)| case(way, asked, (tile, splits), false);
    // In several dispatches: enough heads that few rows keep a GPU busy.
    let parts = [((64, 64, 16, 0, 0.0), 2, 1), ((64, 64, 8, 5, 0.0), 1, 1)].map(case).map(Case::in_parts);
    let parts = parts.into_iter().filter(|_| way == Way::Shared);
    let all = whole.map(|shape| (shape, 1, 1)).into_iter().chain(sliced).chain(tiled);
    all.filter(fits).map(case).chain(parts).collect()
}

pub(super) fn merge_cases() -> Vec<Case> {
    [(0, 3), (40, 2), (0, 32)]
        .map(|(window, splits)| {
            let name = format!("{splits} slices, window {window}");
            let mut b = Builder::new(&name);
            let rows = test_rows(&mut b);
            let (heads, head_dim) = (5, 16);
            let (cache, indices) = test_cache(&mut b, heads, 1, head_dim, window, Way::Shared);
            // Totals of weights are above 0.
            let floats: Vec<f32> =
                (0..16 * heads * splits * (head_dim + 2)).map(|_| b.normal().abs() + 0.1).collect();
            let partial = b.floats("slices", &floats);
            let out = b.output("attention", 16 * heads * head_dim, F32);
            b.case(name, move |r, buffers| {
                let cache = cache.on(buffers, indices);
                r.merge((buffers[rows], 16), buffers[partial], splits, &cache, buffers[out]);
            })
        })
        .into()
}
