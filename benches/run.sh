#!/usr/bin/env bash
# Everything there is to measure on a device, in one go: benches/run.sh [DEVICE] > results.md
# Needs a built `infer` (cargo build --release). Known shapes with random weights: nothing is downloaded.
# SHAPES="1b" for fewer. Kernels are measured first, and the choice kept for all that follows.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/.."
infer=${CARGO_TARGET_DIR:-target}/release/infer
device=(${1:+--device "$1"})
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

run() {
    printf '\n`infer %s`\n\n```\n' "$*"
    "$infer" "$@" ${device[@]+"${device[@]}"} || echo "(failed with $?)"
    printf '```\n'
}

# Kernels by themselves, and what the driver makes of them, where there is a compiler. They take the first device.
kernels() {
    printf '\n`cargo bench --bench %s`\n\n```\n' "$1"
    cargo bench --locked --quiet --bench "$1" 2>&1 | grep -E '^on |^(attention|sample)\/|^(q4|q8|f16) |time:|thrpt:' || echo "(failed)"
    printf '```\n'
}

printf '# %s, commit %s\n' "$(date -u +%F)" "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
printf '\n`%s`\n' "$(uname -srm)"
run devices --check
for shape in ${SHAPES:-135m 1b 8b}; do
    run bench --shape "$shape" -b 4,16 -p 512 -n 128 -r 5 --no-tune
    run bench --shape "$shape" -b 4,16 -p 512 -n 128 -r 5 --tune
    run bench --shape "$shape" -b 4 -p 512 -n 128 -r 5 --tune --activations q8
    run bench --shape "$shape" -b 4 -p 0 -n 64 -B 1,8,16,32 -r 3 --tune
    run bench --shape "$shape" -b 4 -p 512 -n 64 -D 0,4096 -r 3
    run bench --shape "$shape" -b 4 -p 4096 -n 0 -r 1 --profile "$out/$shape-4096.json"
    run bench --shape "$shape" -b 4 -p 512 -n 32 -r 1 --profile "$out/$shape.json"
done
if [ $# = 0 ] && command -v cargo > /dev/null; then
    kernels code
    kernels attention
    kernels sample
fi
