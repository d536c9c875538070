// Integer arithmetic that every device does alike, so that all of them draw the same token from the same
// logits: 64-bit sums as (low, high) words, a fixed-point exponential, and a counter-based generator.

fn add64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn less64(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn subtract64(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return vec2<u32>(a.x - b.x, a.y - b.y - select(0u, 1u, a.x < b.x));
}

// Of sums of the lower 12 bits of numbers, and of what is above those.
fn of_halves(low: u32, high: u32) -> vec2<u32> {
    return add64(vec2<u32>(high << 12u, high >> 20u), vec2<u32>(low, 0u));
}

// The whole product of two words.
fn multiply(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (middle >> 16u) + (other >> 16u));
}

// floor(a · b / 2^32), for a product that fits 96 bits and a result that fits 64.
fn scale64(a: vec2<u32>, b: u32) -> vec2<u32> {
    return add64(multiply(a.y, b), vec2<u32>(multiply(a.x, b).y, 0u));
}

// e^−x in units of 2^−24, for x ≥ 0 in units of 2^−20, x < 32. The fraction of x·log2(e) goes through the
// Taylor series of 2^−f in units of 2^−31, whose rest after ten terms is below 2^−31.
fn exp_fixed(x: u32) -> u32 {
    // 3098164009 = log2(e) · 2^31: the product is x·log2(e) in units of 2^−51.
    let product = multiply(x, 3098164009u);
    let whole = product.y >> 19u;
    let fraction = (product.y << 13u) | (product.x >> 19u);
    if whole > 24u {
        return 0u;
    }
    var sum = 0u;
    for (var i = 0u; i < 11u; i++) {
        sum = SERIES[i] - multiply(sum, fraction).y;
    }
    return min(sum >> 7u, 16777216u) >> whole;
}

// ln(2)^i / i! · 2^31, i = 10 … 0.
const SERIES = array<u32, 11>(
    15u, 219u, 2838u, 32755u, 330788u, 2863360u, 20654775u, 119194166u, 515882496u, 1488522236u, 2147483648u);

// Philox2x32-10 (Salmon et al., SC 2011): random words from a counter and a key.
fn philox(counter: vec2<u32>, key: u32) -> vec2<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let product = multiply(0xd256d193u, c.x);
        c = vec2<u32>(product.y ^ k ^ c.y, product.x);
        k += 0x9e3779b9u;
    }
    return c;
}
