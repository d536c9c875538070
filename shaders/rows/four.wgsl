// What a lane of matmul_rows.wgsl has where four share 16 rows of x: four numbers.

const_assert T == 16u;

struct Mine { a: vec2<f32>, b: vec2<f32> }

fn sum_of(x: Mine, y: Mine) -> Mine {
    return Mine(x.a + y.a, x.b + y.b);
}

// Keeps four columns of a lane's rows, the first of which is `row`, from `at` on; none are behind the last one.
fn keep_columns(at: u32, row: u32, last: u32, block: u32, half: u32) {
    let a = columns(min(row, last), block, half);
    let b = columns(min(row + 4u, last), block, half);
    let c = columns(min(row + 8u, last), block, half);
    let d = columns(min(row + 12u, last), block, half);
    kept[at] = Mine(vec2(a.x, b.x), vec2(c.x, d.x));
    kept[at + 4u] = Mine(vec2(a.y, b.y), vec2(c.y, d.y));
    kept[at + 8u] = Mine(vec2(a.z, b.z), vec2(c.z, d.z));
    kept[at + 12u] = Mine(vec2(a.w, b.w), vec2(c.w, d.w));
}

// Keeps weights of block h.
fn keep_eight(h: u32, a: vec4<f32>, b: vec4<f32>) {
    kept[CHUNK + h * 2u] = Mine(a.xy, a.zw);
    kept[CHUNK + h * 2u + 1u] = Mine(b.xy, b.zw);
}

// One column of all four lanes.
fn add_column(own: f32, i: u32, s: Mine) -> Mine {
    let x = quadSwapX(own);
    let y = quadSwapY(own);
    let z = quadSwapDiagonal(own);
    let a0 = s.a.x + (two(kept[i].a.x, kept[i + 1u].a.x, own, x) + two(kept[i + 2u].a.x, kept[i + 3u].a.x, y, z));
    let a1 = s.a.y + (two(kept[i].a.y, kept[i + 1u].a.y, own, x) + two(kept[i + 2u].a.y, kept[i + 3u].a.y, y, z));
    let b0 = s.b.x + (two(kept[i].b.x, kept[i + 1u].b.x, own, x) + two(kept[i + 2u].b.x, kept[i + 3u].b.x, y, z));
    let b1 = s.b.y + (two(kept[i].b.y, kept[i + 1u].b.y, own, x) + two(kept[i + 2u].b.y, kept[i + 3u].b.y, y, z));
    return Mine(vec2(a0, a1), vec2(b0, b1));
}

// Block h of all four lanes.
fn add_block(h: u32, s: Mine) -> Mine {
    if h >= BLOCKS {
        return s;
    }
    let w = CHUNK + h * 2u;
    let i = h * 32u;
    let s0 = add_column(kept[w].a.x, i, s);
    let s1 = add_column(kept[w].a.y, i + 4u, s0);
    let s2 = add_column(kept[w].b.x, i + 8u, s1);
    let s3 = add_column(kept[w].b.y, i + 12u, s2);
    let s4 = add_column(kept[w + 1u].a.x, i + 16u, s3);
    let s5 = add_column(kept[w + 1u].a.y, i + 20u, s4);
    let s6 = add_column(kept[w + 1u].b.x, i + 24u, s5);
    return add_column(kept[w + 1u].b.y, i + 28u, s6);
}

// Puts sums of the lane's rows from the fifth on: there are none.
fn put_more(lane: u32, row: u32, end: u32, quad: u32, quads: u32) {}
