#!/bin/sh
# Builds a fuzz target with coverage instrumentation by any toolchain and runs it.
#   fuzz/run.sh TARGET [libFuzzer options]
set -eu
cd "$(dirname "$0")"
target=$1
shift
# --target keeps the flags from build scripts and procedural macros, which do not link libFuzzer.
host=$(rustc -vV | sed -n 's/^host: //p')
flags="--cfg fuzzing -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1 -Cpasses=sancov-module
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="$flags" cargo build --release --bin "$target" --target "$host"
mkdir -p "corpus/$target" "artifacts/$target"
exec "${CARGO_TARGET_DIR:-target}/$host/release/$target" -artifact_prefix="artifacts/$target/" \
    "corpus/$target" "seeds/$target" "$@"
