// What every kernel may count on.

const NONE: u32 = 0xffffffffu;

// One unit of work: a token of a sequence at a position. Rows in use come first; the others carry
// sequence == NONE and are skipped. Eight words, so that a window of eight rows is aligned to 256 bytes.
struct Row {
    token: u32,
    position: u32,
    sequence: u32,
    // The token that should come next, where a prediction is scored; else NONE.
    expected: u32,
    // Where the row stands in the row table, so that sampling can put the next row in its place.
    slot: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
