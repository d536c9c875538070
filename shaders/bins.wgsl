// Counts and sums by all lanes of a workgroup: in 256 bins, and over all.

var<workgroup> bin_count: array<atomic<u32>, 256>;
var<workgroup> bin_low: array<atomic<u32>, 256>;
var<workgroup> bin_high: array<atomic<u32>, 256>;
var<workgroup> sum_low: atomic<u32>;
var<workgroup> sum_high: atomic<u32>;

fn clear_bins(lane: u32) {
    for (var bin = lane; bin < 256u; bin += WG) {
        atomicStore(&bin_count[bin], 0u);
        atomicStore(&bin_low[bin], 0u);
        atomicStore(&bin_high[bin], 0u);
    }
    workgroupBarrier();
}

// Halves of 12 bits: sums over a million logits still fit a word.
fn put_in_bin(bin: u32, amount: u32) {
    atomicAdd(&bin_low[bin], amount & 0xfffu);
    atomicAdd(&bin_high[bin], amount >> 12u);
}

fn mass_of_bin(bin: u32) -> vec2<u32> {
    return of_halves(atomicLoad(&bin_low[bin]), atomicLoad(&bin_high[bin]));
}

// The sum over all lanes, below 2^48, known to all.
fn sum_lanes(lane: u32, value: vec2<u32>) -> vec2<u32> {
    workgroupBarrier();
    if lane == 0u {
        atomicStore(&sum_low, 0u);
        atomicStore(&sum_high, 0u);
    }
    workgroupBarrier();
    atomicAdd(&sum_low, value.x & 0xffffu);
    atomicAdd(&sum_high, (value.x >> 16u) | (value.y << 16u));
    workgroupBarrier();
    let high = atomicLoad(&sum_high);
    return add64(vec2<u32>(high << 16u, high >> 16u), vec2<u32>(atomicLoad(&sum_low), 0u));
}
