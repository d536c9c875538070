#!/bin/sh
# Makes sure that there is a Vulkan device: on Linux, where no driver is found, installs Mesa's with
# apt-get, whose lavapipe needs no GPU. With --lavapipe, makes sure of that one whatever else there is,
# and prints its manifest.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

case $(uname -s) in
Linux) ;;
*) exit 0 ;; # macOS has Metal, Windows DirectX 12
esac

if [ "${1-}" = --lavapipe ]; then
    manifest 'lvp_icd*.json' >/dev/null || install lavapipe mesa-vulkan-drivers
elif [ -z "${VK_DRIVER_FILES-}${VK_ICD_FILENAMES-}" ]; then
    manifest '*.json' >/dev/null || install "a Vulkan driver" mesa-vulkan-drivers
fi

# The loader, which finds the drivers. ldconfig is in no user's PATH on Debian.
PATH=$PATH:/sbin:/usr/sbin
if have ldconfig && ! ldconfig -p | grep -F libvulkan.so.1 >/dev/null; then
    install "the Vulkan loader, libvulkan.so.1," libvulkan1
fi

[ "${1-}" != --lavapipe ] || manifest 'lvp_icd*.json' || die "mesa-vulkan-drivers came without lavapipe"
