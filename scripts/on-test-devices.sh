#!/bin/sh
# Runs a command with the devices to test on. Those are the machine's own; with CI=true on Linux, they are
# lavapipe and SwiftShader, so that every machine tests the same. VK_DRIVER_FILES and VK_ICD_FILENAMES,
# where they are set, have the last word.
set -eu
# shellcheck source=scripts/lib.sh
. "$(dirname -- "$0")/lib.sh"

if [ "${CI-}" = true ] && [ "$(uname -s)" = Linux ] && [ -z "${VK_DRIVER_FILES-}${VK_ICD_FILENAMES-}" ]; then
    lavapipe=$("$root/scripts/vulkan.sh" --lavapipe)
    swiftshader=$("$root/scripts/swiftshader.sh")
    export VK_ICD_FILENAMES="$lavapipe:$swiftshader"
    say "testing on $VK_ICD_FILENAMES"
else
    "$root/scripts/vulkan.sh"
fi
exec "$@"
