#!/bin/sh
# Makes sure of what a build needs besides Rust: a C compiler and linker, and for the test model
# Python with its venv module. Installs them with apt-get where it may.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

have cargo || die "cargo is missing; install Rust from https://rustup.rs and try again"

# Elsewhere, Rust itself does not work without a linker.
[ "$(uname -s)" = Linux ] || exit 0
packages=
have cc || packages="gcc libc6-dev"
# Debian keeps what venv needs in a package of its own.
[ -n "${PYTHON-}" ] || python3 -c 'import ensurepip, venv' 2>/dev/null || packages="$packages python3 python3-venv"
# shellcheck disable=SC2086 # words, on purpose
[ -z "$packages" ] || install "a C compiler or Python with its venv module" $packages
