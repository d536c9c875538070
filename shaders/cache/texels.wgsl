// Keys and values in textures. Follows texels.wgsl.

@group(0) @binding(3) var keys: Texels;   // [pages, KV_HEADS, PAGE, HALF]
@group(0) @binding(4) var values: Texels; // [pages, KV_HEADS, PAGE, HALF]
