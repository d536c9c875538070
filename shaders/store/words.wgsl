// Keys and values in buffers. Follows pairs.wgsl.

@group(0) @binding(4) var<storage, read_write> keys: array<u32>;      // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(5) var<storage, read_write> values: array<u32>;    // [pages, KV_HEADS, PAGE, HALF]

// Puts EACH words of a key, from word i on, into a head's part of a page.
fn store_key(part: u32, token: u32, i: u32, words: vec4<u32>) {
    for (var j = 0u; j < EACH; j++) {
        keys[(part * HALF + i + j) * PAGE + token] = words[j];
    }
}

fn store_value(part: u32, token: u32, i: u32, words: vec4<u32>) {
    for (var j = 0u; j < EACH; j++) {
        values[(part * PAGE + token) * HALF + i + j] = words[j];
    }
}
