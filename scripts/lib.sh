# Shared by the scripts beside it, which source it.
# shellcheck shell=sh

# shellcheck disable=SC2034 # for the scripts
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { say "$*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# As root, or as someone who may become root without a password; fails for anyone else.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        have sudo && sudo -n "$@"
    fi
}

can_install() { have apt-get && as_root true 2>/dev/null; }

# install WHAT PACKAGE…: installs Debian packages, or stops and says that WHAT is missing.
install() {
    what=$1
    shift
    can_install || die "$what is missing; install it (Debian and Ubuntu: sudo apt-get install $*) and try again"
    say "installing $*"
    [ -n "${updated-}" ] || as_root apt-get update -qq >&2
    updated=yes
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null </dev/null
}

# The first Vulkan driver manifest whose file name matches a pattern, where the loader looks for it.
manifest() {
    for dir in "${XDG_CONFIG_HOME:-${HOME-}/.config}" /etc/xdg /etc "${XDG_DATA_HOME:-${HOME-}/.local/share}" \
        /usr/local/share /usr/share; do
        for file in "$dir/vulkan/icd.d/"*.json; do
            # shellcheck disable=SC2254 # a pattern, on purpose
            case ${file##*/} in
            $1) [ ! -e "$file" ] || { printf '%s\n' "$file"; return; } ;;
            esac
        done
    done
    return 1
}
