#!/usr/bin/env bash
# Installs the system packages that Ocelli needs on Debian 12 or newer (and relatives such as Ubuntu).
# Says what it will install before it does, asks nothing, and does nothing if everything is there.
#
#   packaging/debian-setup.sh [--tests] [--dry-run]
#     --tests     also what the tests need
#     --dry-run   only say what is missing
#
# Nothing here is a library to link against: the window's and the GPU's libraries are all opened at run time, so no -dev
# package of theirs is needed. Rust itself comes from https://rustup.rs (Debian 12's own is too old).
set -euo pipefail

tests=
dry_run=
for argument in "$@"; do
    case $argument in
        --tests) tests=yes ;;
        --dry-run) dry_run=yes ;;
        *)
            echo "usage: $0 [--tests] [--dry-run]" >&2
            exit 1
            ;;
    esac
done

# The Vulkan loader, and Mesa's drivers: AMD, Intel, and a software device for machines without a GPU. NVIDIA's own
# driver brings its own.
wanted="libvulkan1 mesa-vulkan-drivers"
# The window, on X11 and on Wayland.
wanted="$wanted libx11-xcb1 libxcursor1 libxi6 libxrender1 libxkbcommon0 libxkbcommon-x11-0 libwayland-client0"
# Models come over an encrypted connection, whose other end the system knows by these.
wanted="$wanted ca-certificates"
# The file dialogs ask the desktop for them over D-Bus (see "File dialogs" in README.md).
wanted="$wanted libdbus-1-3"
# A display for the tests where there is none, a hand on its keyboard, and an eye on its sockets.
[ -z "$tests" ] || wanted="$wanted xvfb xauth xdotool strace"

# Rust links with the C compiler. Any that works will do, so try it rather than look for a package.
can_link() {
    local folder status=0
    command -v cc >/dev/null || return 1
    folder=$(mktemp -d)
    echo 'int main(void) { return 0; }' | cc -x c - -o "$folder/program" 2>/dev/null || status=1
    rm -rf "$folder"
    return $status
}
can_link || wanted="$wanted gcc libc6-dev"

missing=
for package in $wanted; do
    state=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || true)
    # Where two architectures are installed there are two answers.
    case $state in
        installed*) ;;
        *) missing="$missing $package" ;;
    esac
done
if [ -z "$missing" ]; then
    echo "Every system package that Ocelli needs is installed." >&2
    exit 0
fi

echo "These system packages are missing and will be installed:$missing" >&2
[ -z "$dry_run" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "This needs root and there is no sudo. As root, run: apt-get install$missing" >&2
        echo "(To go on without them, set OCELLI_NO_SETUP=1.)" >&2
        exit 1
    fi
    # sudo may ask for a password, but only where somebody can answer.
    if [ -t 0 ]; then as_root="sudo"; else as_root="sudo -n"; fi
fi
# Another apt may be at work, as on a machine that has just started: wait for it.
apt="$as_root env DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes -o DPkg::Lock::Timeout=300"
# apt talks on standard output, which is not ours to use.
$apt update >&2 || echo "The package lists could not be updated; going on with those that are here." >&2
# shellcheck disable=SC2086  # a list of words
$apt install --no-install-recommends $missing >&2 || {
    echo "The packages could not be installed. Install them by hand:$missing" >&2
    echo "(To go on without them, set OCELLI_NO_SETUP=1.)" >&2
    exit 1
}
