// Keys and values in buffers, as attention that stores them loads them. Follows a kernel of attention, which says what Words of the
// cache are, and how one is put among others. Expects: HALF, PAGE.

@group(0) @binding(4) var<storage, read_write> keys: array<Words>;    // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(5) var<storage, read_write> values: array<Words>;  // [pages, KV_HEADS, PAGE, HALF]

// Puts four words of a key, from word i on, into a head's part of a page.
fn store_key(part: u32, token: u32, i: u32, words: vec4<u32>) {
    for (var j = 0u; j < 4u; j++) {
        let at = (part * HALF + i + j) * PAGE + token;
        keys[place_of_word(at)] = with_word(keys[place_of_word(at)], at, words[j]);
    }
}

fn store_value(part: u32, token: u32, i: u32, words: vec4<u32>) {
    for (var j = 0u; j < 4u; j++) {
        let at = (part * PAGE + token) * HALF + i + j;
        values[place_of_word(at)] = with_word(values[place_of_word(at)], at, words[j]);
    }
}
