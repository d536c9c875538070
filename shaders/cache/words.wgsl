// Keys and values in buffers. Follows a kernel of attention, which says what Words of the cache are.

@group(0) @binding(3) var<storage, read> keys: array<Words>;    // [pages, KV_HEADS, HALF, PAGE]
@group(0) @binding(4) var<storage, read> values: array<Words>;  // [pages, KV_HEADS, PAGE, HALF]
