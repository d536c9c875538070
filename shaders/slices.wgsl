// How attention shares a row's keys out to SPLITS workgroups or lanes, in slices of whole pages; those of a short row
// are fewer. What a slice leaves is put together by attention_merge.wgsl.
// Expects: PAGE, WINDOW, SPLITS, HEADS, HALF.

struct Slice {
    first: u32, // keys first .. end
    end: u32,
    count: u32, // slices of the row
}

fn slice_of(position: u32, split: u32) -> Slice {
    let end = position + 1u;
    let first = select(0u, end - min(end, WINDOW), WINDOW > 0u);
    if SPLITS == 1u {
        return Slice(first, end, 1u);
    }
    let start = first / PAGE;
    let pages = (end + PAGE - 1u) / PAGE - start;
    let each = (pages + SPLITS - 1u) / SPLITS;
    let from_ = (start + split * each) * PAGE;
    return Slice(max(first, from_), min(end, from_ + each * PAGE), (pages + each - 1u) / each);
}

// Where a slice leaves its sums of 2·HALF, the total of its weights and its greatest score; or, where there is but one,
// its result.
fn place_of(row: u32, head: u32, split: u32) -> u32 {
    if SPLITS == 1u {
        return (row * HEADS + head) * 2u * HALF;
    }
    return ((row * HEADS + head) * SPLITS + split) * (2u * HALF + 2u);
}
