#!/bin/sh
# Makes sure of SwiftShader, Google's Vulkan driver for the CPU, and prints its manifest. It is a second
# opinion beside lavapipe: another compiler, another set of optional features. Debian ships it only as a
# part of Chromium, so that this takes the one file (5 MB) out of the package (32 MB) and leaves the rest.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

package=chromium-common
member=./usr/lib/chromium/libvk_swiftshader.so
dir=$root/target/swiftshader
library=$dir/libvk_swiftshader.so
icd=$dir/vk_swiftshader_icd.json

[ "$(uname -s)" = Linux ] || die "only Linux needs SwiftShader"

loads() { [ -s "$1" ] && found=$(ldd "$1" 2>&1) && ! printf '%s\n' "$found" | grep -F 'not found' >/dev/null; }

if ! loads "$library"; then
    { have apt-get && have dpkg-deb; } ||
        die "cannot get SwiftShader without apt-get and dpkg-deb; put its libvk_swiftshader.so into $dir"
    mkdir -p "$dir"
    work=$(mktemp -d "$dir/work.XXXXXX")
    trap 'rm -rf -- "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    say "downloading $package (32 MB) for SwiftShader"
    download() { (cd "$work" && apt-get download -qq -o APT::Sandbox::User=root "$package" >&2); }
    # A fresh container has no package lists, and old lists name packages that are gone.
    download 2>/dev/null || {
        can_install && as_root apt-get update -qq >&2
        download || die "cannot download Debian's package $package, which has SwiftShader"
    }
    dpkg-deb --fsys-tarfile "$work/$package"_*.deb | tar -x -C "$work" "$member" ||
        die "$package has no $member"
    loads "$work/$member" || die "SwiftShader does not load here: $found"
    mv -- "$work/$member" "$library"
fi

# The path is relative to the manifest.
cat >"$icd" <<'JSON'
{"file_format_version": "1.0.0", "ICD": {"library_path": "./libvk_swiftshader.so", "api_version": "1.0.5"}}
JSON
printf '%s\n' "$icd"
