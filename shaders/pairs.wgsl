// Pairs of a head's dimensions, of queries, keys and values as a product left them, with rotary position embedding
// (arXiv:2104.09864).
//
// Of a head of queries or keys the first 2·TURNS dimensions rotate: i and i + TURNS form the pair that is rotated by
// position · frequency[i]; cosine and sine come from a table, since the built-in ones promise no accuracy at large angles. In the
// cache, and in q, which is multiplied with keys alone, pair i is one that rotates together, and past those what is left, in
// order. Of values, pairs are i and i + HALF.
//
// Expects: HEADS, KV_HEADS, HALF (half a head), TURNS, BY_HEAD (each head's q, k and v lie together; else all of q, of k, of v);
// and rows, rotation (array<vec4<f32>>: [context, TURNS] cos, sin), qkv (array<vec4<f32>>: [rows, (HEADS + 2·KV_HEADS) · 2·HALF]).

// Pairs that are made together, where that comes out even.
const EACH: u32 = select(1u, 4u, HALF % 4u == 0u);

fn number(i: u32) -> f32 {
    return qkv[i / 4u][i % 4u];
}

// One pair of the head that begins at `base`.
fn one_pair(base: u32, turns: bool, position: u32, i: u32) -> vec2<f32> {
    if !turns {
        return vec2<f32>(number(base + i), number(base + i + HALF));
    }
    if i >= TURNS {
        return vec2<f32>(number(base + i + TURNS), number(base + i + HALF));
    }
    let a = number(base + i);
    let b = number(base + i + TURNS);
    let at = position * TURNS + i;
    let turn = select(rotation[at / 2u].xy, rotation[at / 2u].zw, at % 2u == 1u);
    return vec2<f32>(a * turn.x - b * turn.y, b * turn.x + a * turn.y);
}

// What the cache has of four pairs, the first of each and the second.
fn words_of_pairs(made: array<vec4<f32>, 2>) -> vec4<u32> {
    return vec4<u32>(
        pack2x16float(vec2<f32>(made[0].x, made[1].x)), pack2x16float(vec2<f32>(made[0].y, made[1].y)),
        pack2x16float(vec2<f32>(made[0].z, made[1].z)), pack2x16float(vec2<f32>(made[0].w, made[1].w)));
}

// EACH pairs of a head, counted over queries, keys and values, from pair i on (a multiple of EACH): the first of each, and the
// second.
fn pairs(r: u32, head: u32, i: u32) -> array<vec4<f32>, 2> {
    var place = head;
    if BY_HEAD {
        place = head % HEADS * 3u + head / HEADS;
    }
    let base = (r * (HEADS + 2u * KV_HEADS) + place) * 2u * HALF;
    let turns = head < HEADS + KV_HEADS;
    let position = rows[r].position;
    if EACH == 1u || TURNS % 4u != 0u {
        var some: array<vec4<f32>, 2>;
        for (var j = 0u; j < EACH; j++) {
            let pair = one_pair(base, turns, position, i + j);
            some[0][j] = pair.x;
            some[1][j] = pair.y;
        }
        return some;
    }
    if !turns {
        return array<vec4<f32>, 2>(qkv[(base + i) / 4u], qkv[(base + i + HALF) / 4u]);
    }
    if i >= TURNS {
        return array<vec4<f32>, 2>(qkv[(base + i + TURNS) / 4u], qkv[(base + i + HALF) / 4u]);
    }
    let a = qkv[(base + i) / 4u];
    let b = qkv[(base + i + TURNS) / 4u];
    let at = (position * TURNS + i) / 2u;
    let near = rotation[at];
    let far = rotation[at + 1u];
    let cos_ = vec4<f32>(near.x, near.z, far.x, far.z);
    let sin_ = vec4<f32>(near.y, near.w, far.y, far.w);
    return array<vec4<f32>, 2>(a * cos_ - b * sin_, b * cos_ + a * sin_);
}
