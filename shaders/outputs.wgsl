// What a product makes of its sums: themselves, or where GLU, whose rows of W are in turns a gate and what it lets through,
// act(gate) · up (arXiv:2002.05202). Expects: GLU; activation.wgsl.

const FOLD: u32 = select(1u, 2u, GLU); // rows of W of an output

// Of the sums of the first and the last row of an output.
fn output_of(first: f32, last: f32) -> f32 {
    if GLU {
        return act(first) * last;
    }
    return first;
}
