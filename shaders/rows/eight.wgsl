// What a lane of matmul_rows.wgsl has where four share 32 rows of x: eight numbers.

const_assert T == 32u;

struct Mine { a: vec2<f32>, b: vec2<f32>, c: vec2<f32>, d: vec2<f32> }

fn sum_of(x: Mine, y: Mine) -> Mine {
    return Mine(x.a + y.a, x.b + y.b, x.c + y.c, x.d + y.d);
}

// Keeps four columns of a lane's rows, the first of which is `row`, from `at` on; none are behind the last one.
fn keep_columns(at: u32, row: u32, last: u32, block: u32, half: u32) {
    let a = columns(min(row, last), block, half);
    let b = columns(min(row + 4u, last), block, half);
    let c = columns(min(row + 8u, last), block, half);
    let d = columns(min(row + 12u, last), block, half);
    let e = columns(min(row + 16u, last), block, half);
    let f = columns(min(row + 20u, last), block, half);
    let g = columns(min(row + 24u, last), block, half);
    let h = columns(min(row + 28u, last), block, half);
    kept[at] = Mine(vec2(a.x, b.x), vec2(c.x, d.x), vec2(e.x, f.x), vec2(g.x, h.x));
    kept[at + 4u] = Mine(vec2(a.y, b.y), vec2(c.y, d.y), vec2(e.y, f.y), vec2(g.y, h.y));
    kept[at + 8u] = Mine(vec2(a.z, b.z), vec2(c.z, d.z), vec2(e.z, f.z), vec2(g.z, h.z));
    kept[at + 12u] = Mine(vec2(a.w, b.w), vec2(c.w, d.w), vec2(e.w, f.w), vec2(g.w, h.w));
}

// Keeps weights of block h.
fn keep_eight(h: u32, a: vec4<f32>, b: vec4<f32>) {
    kept[CHUNK + h] = Mine(a.xy, a.zw, b.xy, b.zw);
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
    let c0 = s.c.x + (two(kept[i].c.x, kept[i + 1u].c.x, own, x) + two(kept[i + 2u].c.x, kept[i + 3u].c.x, y, z));
    let c1 = s.c.y + (two(kept[i].c.y, kept[i + 1u].c.y, own, x) + two(kept[i + 2u].c.y, kept[i + 3u].c.y, y, z));
    let d0 = s.d.x + (two(kept[i].d.x, kept[i + 1u].d.x, own, x) + two(kept[i + 2u].d.x, kept[i + 3u].d.x, y, z));
    let d1 = s.d.y + (two(kept[i].d.y, kept[i + 1u].d.y, own, x) + two(kept[i + 2u].d.y, kept[i + 3u].d.y, y, z));
    return Mine(vec2(a0, a1), vec2(b0, b1), vec2(c0, c1), vec2(d0, d1));
}

// Block h of all four lanes.
fn add_block(h: u32, s: Mine) -> Mine {
    if h >= BLOCKS {
        return s;
    }
    let w = CHUNK + h;
    let i = h * 32u;
    let s0 = add_column(kept[w].a.x, i, s);
    let s1 = add_column(kept[w].a.y, i + 4u, s0);
    let s2 = add_column(kept[w].b.x, i + 8u, s1);
    let s3 = add_column(kept[w].b.y, i + 12u, s2);
    let s4 = add_column(kept[w].c.x, i + 16u, s3);
    let s5 = add_column(kept[w].c.y, i + 20u, s4);
    let s6 = add_column(kept[w].d.x, i + 24u, s5);
    return add_column(kept[w].d.y, i + 28u, s6);
}

// Puts sums of the lane's rows from the fifth on.
fn put_more(lane: u32, row: u32, end: u32, quad: u32, quads: u32) {
    for (var q = 0u; q < quads; q++) {
        let i = q * 16u + lane;
        put_two(row + 16u, end, quad + q, sums[i].c, sums[i + 4u].c, sums[i + 8u].c, sums[i + 12u].c);
    }
    for (var q = 0u; q < quads; q++) {
        let i = q * 16u + lane;
        put_two(row + 24u, end, quad + q, sums[i].d, sums[i + 4u].d, sums[i + 8u].d, sums[i + 12u].d);
    }
}
