// What a product makes of its sums: themselves, or where GLU, whose rows of W are in turns a gate and what it lets through,
// act(gate) · up (arXiv:2002.05202); and where that goes.
// Expects: GLU, N (rows of this shard of W), FIRST (where they stand in out), STRIDE (of out), ADD; activation.wgsl; `out` [rows, STRIDE].

const FOLD: u32 = select(1u, 2u, GLU); // rows of W of an output

// Of the sums of the first and the last row of an output.
fn output_of(first: f32, last: f32) -> f32 {
    if GLU {
        return act(first) * last;
    }
    return first;
}

// Where that goes which row n of W, whose output begins with it, makes of a row of x.
fn place_of_output(row: u32, n: u32) -> u32 {
    return row * STRIDE + FIRST + n / FOLD;
}

// Puts it there, or adds it to what is there.
fn put_output(row: u32, n: u32, first: f32, last: f32) {
    if n < N {
        let i = place_of_output(row, n);
        let made = output_of(first, last);
        out[i] = select(made, out[i] + made, ADD);
    }
}

// The same for a quad of rows of W from n on.
fn put_quad(row: u32, n: u32, sums: vec4<f32>) {
    for (var j = 0u; j < 4u; j += FOLD) {
        put_output(row, n + j, sums[j], sums[j + FOLD - 1u]);
    }
}

// That for GPUs: side by side outputs are asked for and put at once, since each for itself would be waited for.
fn put_vector(row: u32, n: u32, sums: vec4<f32>) {
    if GLU || N % 4u != 0u {
        put_quad(row, n, sums);
    } else if n < N {
        let i = place_of_output(row, n);
        var made = sums;
        if ADD {
            made += vec4<f32>(out[i], out[i + 1u], out[i + 2u], out[i + 3u]);
        }
        out[i] = made.x;
        out[i + 1u] = made.y;
        out[i + 2u] = made.z;
        out[i + 3u] = made.w;
    }
}
