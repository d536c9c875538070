// What every kernel may count on.

const NONE: u32 = 0xffffffffu;

// One unit of work: a token of a sequence at a position. Rows that are not in use carry sequence == NONE and
// are skipped. Eight words, so that a window of eight rows is aligned to 256 bytes.
struct Row {
    token: u32,
    position: u32,
    sequence: u32,
    // The token that should come next, where a prediction is scored; else NONE.
    expected: u32,
    // The row of the decode table into which sampling puts the token and position that follow.
    slot: u32,
    unused0: u32,
    unused1: u32,
    unused2: u32,
}
