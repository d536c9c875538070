// Weights as codes on evenly spaced grids, of the least squared error that a small search finds: what src/quantize/lanes.rs makes of
// them for zeros that are 16-bit floats, and of tiles as src/format/affine.rs packs them, to the bit. A lane has a group.
//
// To the bit on any device: products that are added to something, and sums whose order counts, go through a mask that nothing can be
// merged with, or drivers would round product and sum at once, or add up in another order; quotients and 16-bit floats are made of
// whole numbers. What could become infinite is not packed but told of.
// Expects: K (columns), GROUP (columns that share a grid), BITS (4 or 8), ENCODING (0: f32, 1: f16, 2: bf16), WG (a divisor of 64).
// Grid: (groups of a row times 64 / WG, tiles).

struct Batch {
    // The tile of the planes that comes first, and how many there are.
    first: u32,
    tiles: u32,
    // 0, which compilers must not know.
    nothing: u32,
    unused: u32,
}

@group(0) @binding(0) var<storage, read> batch: Batch;
@group(0) @binding(1) var<storage, read> weights: array<u32>;         // [tiles, 64, K], two in a word where they have 16 bits
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;     // [tiles, K * BITS / 32, 64]
@group(0) @binding(3) var<storage, read_write> constants: array<u32>; // [tiles, GROUPS, 64] pairs: scale, zero
// [2]: workgroups that are done; and 1 if anything could not be packed.
@group(0) @binding(4) var<storage, read_write> told: array<atomic<u32>>;

const GROUPS: u32 = (K + GROUP - 1u) / GROUP;
const TOP: f32 = f32((1u << BITS) - 1u);
const PER_WORD: u32 = 32u / BITS;

// Each lane's weights: [GROUP / 4, WG]
var<workgroup> numbers: array<vec4<f32>, GROUP / 4u * WG>;
var<private> nothing: u32;

// x, rounded before anything is done with it.
fn masked(x: f32) -> f32 {
    return bitcast<f32>(bitcast<u32>(x) ^ nothing);
}

fn all_masked(x: vec4<f32>) -> vec4<f32> {
    return bitcast<vec4<f32>>(bitcast<vec4<u32>>(x) ^ vec4<u32>(nothing));
}

// The numbers of `parts` added to `sum` one by one.
fn added(sum: f32, parts: vec4<f32>) -> f32 {
    return masked(masked(masked(masked(sum + parts.x) + parts.y) + parts.z) + parts.w);
}

// a / b, correctly rounded, where both are normal or a is 0. What is too small becomes 0, what is too large the greatest number.
fn quotient(a: f32, b: f32) -> f32 {
    let x = bitcast<u32>(a);
    let y = bitcast<u32>(b);
    let sign = (x ^ y) & 0x80000000u;
    if (x & 0x7fffffffu) == 0u {
        return bitcast<f32>(sign);
    }
    var m = (x & 0x7fffffu) | 0x800000u;
    let d = (y & 0x7fffffu) | 0x800000u;
    var exponent = i32((x >> 23u) & 255u) - i32((y >> 23u) & 255u) + 126;
    if m < d {
        m *= 2u;
        exponent--;
    }
    // The first 24 bits, nearly, and what is left, of which the low 32 bits tell all.
    var q = u32(f32(m) / f32(d) * 8388608.0);
    var left = bitcast<i32>((m << 23u) - q * d);
    for (var i = 0; i < 4; i++) {
        let step = select(select(0, 1, left >= i32(d)), -1, left < 0);
        q = bitcast<u32>(bitcast<i32>(q) + step);
        left -= step * i32(d);
    }
    // No quotient lies half way between two floats.
    q += select(0u, 1u, 2 * left > i32(d));
    if exponent < 0 {
        return bitcast<f32>(sign);
    }
    if exponent > 253 {
        return bitcast<f32>(sign | 0x7f7fffffu);
    }
    // With the first one bit of q, 1 more in the exponent.
    return bitcast<f32>(sign | ((u32(exponent) << 23u) + q));
}

// The nearest 16-bit float, of two as near the even one.
fn half_of(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let size = bits & 0x7fffffffu;
    var half = (size + 0xfffu + ((size >> 13u) & 1u) - 0x38000000u) >> 13u;
    if size < 0x38800000u {
        half = u32(round(bitcast<f32>(size) * 0x1p24f));
    }
    if size >= 0x477ff000u {
        half = 0x7c00u;
    }
    return half | ((bits >> 16u) & 0x8000u);
}

// The number of 16 bits.
fn float_of(half: u32) -> f32 {
    let size = half & 0x7fffu;
    let normal = bitcast<f32>((size << 13u) + 0x38000000u);
    let magnitude = select(normal, f32(size) * 0x1p-24f, size < 0x400u);
    return bitcast<f32>(bitcast<u32>(magnitude) | ((half & 0x8000u) << 16u));
}

// A weight of the batch.
fn weight(i: u32) -> f32 {
    if ENCODING == 0u {
        return bitcast<f32>(weights[i]);
    }
    let bits = (weights[i / 2u] >> (16u * (i % 2u))) & 0xffffu;
    if ENCODING == 1u {
        // Infinity and what is no number become large.
        return float_of(bits);
    }
    return bitcast<f32>(bits << 16u);
}

// A grid: its scale, and the code that stands for 0.
struct Grid {
    scale: f32,
    zero: f32,
}

// The grid that reaches from low to high.
fn spanning(low: f32, high: f32) -> Grid {
    let narrow = (high - low) * 16384.0 <= max(abs(low), abs(high)) * TOP;
    let start = select(low, min(low, 0.0), narrow);
    let end = select(high, max(high, 0.0), narrow);
    let scale = quotient(end - start, TOP);
    if scale > 0.0 {
        return Grid(scale, quotient(-start, scale));
    }
    return Grid(0.0, 0.0);
}

// What is left of a grid once its numbers are 16-bit floats.
struct Held {
    scale: f32,
    zero: f32,
    // 1 / scale, or 0.
    inverse: f32,
    // A pair: scale, zero.
    bits: u32,
    finite: bool,
}

fn held(grid: Grid) -> Held {
    let scale_bits = half_of(grid.scale);
    let scale = float_of(scale_bits);
    var zero_bits = 0u;
    var inverse = 0.0;
    if scale != 0.0 {
        inverse = quotient(1.0, scale);
        zero_bits = half_of(grid.zero);
        // Not −0.
        zero_bits = select(zero_bits, 0u, zero_bits == 0x8000u);
    }
    let finite = (scale_bits & 0x7fffu) < 0x7c00u && (zero_bits & 0x7fffu) < 0x7c00u;
    return Held(scale, float_of(zero_bits), inverse, scale_bits | (zero_bits << 16u), finite);
}

fn codes_of(w: vec4<f32>, grid: Held) -> vec4<f32> {
    let place = all_masked(w * grid.inverse) + grid.zero;
    return round(clamp(place, vec4<f32>(0.0), vec4<f32>(TOP)));
}

// What a grid does to a group, with sums for the best line through (code, weight).
struct Fit {
    error: f32,
    codes: f32,
    squares: f32,
    products: f32,
}

// Of blocks of eight numbers. Sums are of every eighth number first, and then of those.
fn fit_of(lane: u32, blocks: u32, grid: Held) -> Fit {
    var fit = Fit(0.0, 0.0, 0.0, 0.0);
    for (var half = 0u; half < 2u; half++) {
        var error = vec4<f32>();
        var sum = vec4<f32>();
        var squares = vec4<f32>();
        var mixed = vec4<f32>();
        for (var block = 0u; block < blocks; block++) {
            let w = numbers[(block * 2u + half) * WG + lane];
            let code = codes_of(w, grid);
            let off = all_masked(grid.scale * (code - grid.zero)) - w;
            error = all_masked(error + all_masked(off * off));
            // Whole numbers, and not so large that they would be rounded.
            sum += code;
            squares += code * code;
            mixed = all_masked(mixed + all_masked(code * w));
        }
        fit.error = added(fit.error, error);
        fit.codes += (sum.x + sum.y) + (sum.z + sum.w);
        fit.squares += (squares.x + squares.y) + (squares.z + squares.w);
        fit.products = added(fit.products, mixed);
    }
    return fit;
}

// The line of least squares, n weights that add up to sum, as a grid; the same grid where codes do not tell one.
fn refined(grid: Grid, fit: Fit, sum: f32, n: f32) -> Grid {
    let spread = masked(fit.squares * n) - masked(fit.codes * fit.codes);
    if spread <= 0.0 {
        return grid;
    }
    let scale = quotient(masked(fit.products * n) - masked(fit.codes * sum), spread);
    if scale <= 0.0 {
        return grid;
    }
    let offset = quotient(sum - masked(scale * fit.codes), n);
    return Grid(scale, quotient(-offset, scale));
}

@compute @workgroup_size(WG)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    nothing = batch.nothing;
    let group = workgroup.x / (64u / WG);
    let row = workgroup.x % (64u / WG) * WG + lane;
    let tile = workgroup.y;
    if tile >= batch.tiles {
        return;
    }
    let n = min(GROUP, K - group * GROUP);
    let first = (tile * 64u + row) * K + group * GROUP;
    var flawed = false;
    var low = vec4<f32>(0x1p100f);
    var high = vec4<f32>(-0x1p100f);
    for (var i = 0u; i < n / 4u; i++) {
        let at = first + i * 4u;
        let w = vec4<f32>(weight(at), weight(at + 1u), weight(at + 2u), weight(at + 3u));
        // 2^15 or more, infinite, or no number.
        flawed = flawed || any((bitcast<vec4<u32>>(w) & vec4<u32>(0x7fffffffu)) >= vec4<u32>(0x47000000u));
        low = min(low, w);
        high = max(high, w);
        numbers[i * WG + lane] = w;
    }
    var best = 0u;
    if !flawed {
        let least = min(min(low.x, low.y), min(low.z, low.w));
        let most = max(max(high.x, high.y), max(high.z, high.w));
        var sum = 0.0;
        for (var half = 0u; half < 2u; half++) {
            var part = vec4<f32>();
            for (var block = 0u; block < n / 8u; block++) {
                part = all_masked(part + numbers[(block * 2u + half) * WG + lane]);
            }
            sum = added(sum, part);
        }
        // Shares of the range, after the range itself.
        var shares = array<f32, 8>(1.0, 1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7);
        let middle = masked((least + most) * 0.5);
        let half_range = masked((most - least) * 0.5);
        var error = 0.0;
        for (var i = 0u; i < 8u; i++) {
            let reach = masked(half_range * shares[i]);
            var grid = spanning(masked(middle - reach), masked(middle + reach));
            if i == 0u {
                grid = spanning(least, most);
            }
            for (var attempt = 0u; attempt < 3u; attempt++) {
                let stored = held(grid);
                // The same grid again, which was not refined, would end like this one: no better.
                if !stored.finite {
                    break;
                }
                let fit = fit_of(lane, n / 8u, stored);
                if i == 0u || fit.error < error {
                    error = fit.error;
                    best = stored.bits;
                }
                if i == 0u || attempt == 2u {
                    break;
                }
                grid = refined(grid, fit, sum, f32(n));
            }
        }
    } else {
        atomicStore(&told[1], 1u);
    }
    let scale = float_of(best & 0xffffu);
    var inverse = 0.0;
    if scale != 0.0 {
        inverse = quotient(1.0, scale);
    }
    let grid = Held(scale, float_of(best >> 16u), inverse, best, true);
    let place = batch.first + tile;
    constants[(place * GROUPS + group) * 64u + row] = best;
    for (var i = 0u; i < n / PER_WORD; i++) {
        var word = 0u;
        for (var j = 0u; j < PER_WORD / 4u; j++) {
            var four = vec4<u32>();
            if !flawed {
                four = vec4<u32>(codes_of(numbers[(i * (PER_WORD / 4u) + j) * WG + lane], grid));
            }
            four <<= vec4<u32>(0u, BITS, 2u * BITS, 3u * BITS);
            word |= (four.x | four.y | four.z | four.w) << (j * 4u * BITS % 32u);
        }
        codes[(place * (K / PER_WORD) + group * GROUP / PER_WORD + i) * 64u + row] = word;
    }
    if lane == 0u {
        atomicAdd(&told[0], 1u);
    }
}
