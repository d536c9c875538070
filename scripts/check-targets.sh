#!/bin/sh
# Type-checks the crate for systems other than this one, so that the code behind DirectX 12 and Metal keeps
# compiling. With --if-available, passes over a target whose standard library cannot be had, and says so.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"
cd "$root"

# The one build script that wants a C compiler for the target is ring's. A check links nothing, so that it
# can do without what that script makes. Its name to Cargo has the version in it.
ring=$(sed -n '/^name = "ring"$/{n;s/^version = "\(.*\)"$/\1/p;}' Cargo.lock | tr . _)
[ -n "$ring" ] || die "Cargo.lock has no ring any more: this script need not care for it either"

for target in x86_64-pc-windows-gnu aarch64-apple-darwin; do
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]; then
        say "adding the target $target"
        if ! { have rustup && rustup target add "$target" >&2; }; then
            [ "${1-}" = --if-available ] || die "cannot add the target $target: rustup is needed for that"
            say "NOT CHECKED: $target, whose standard library cannot be had here"
            continue
        fi
    fi
    say "checking for $target"
    RUSTFLAGS="${RUSTFLAGS-} -D warnings" cargo check --release --all-targets --target "$target" \
        --config "target.$target.ring_core_${ring}_.rustc-link-lib = []"
done
