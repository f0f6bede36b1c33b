# shellcheck shell=bash
# What the scripts in this folder share; sourced, never run. Bash 3.2 is enough: macOS has no newer one.

# Everything these scripts say goes to standard error: standard output belongs to the program.
say() { printf '%s\n' "$*" >&2; }
fail() {
    say "$@"
    exit 1
}

# Finds cargo, also where rustup has put it but no shell has read its profile yet, and checks that it is new enough.
need_rust() {
    local wanted has rustup_bin="${CARGO_HOME:-${HOME:-}/.cargo}/bin"
    if ! command -v cargo >/dev/null && [ -x "$rustup_bin/cargo" ]; then
        PATH="$rustup_bin:$PATH"
    fi
    wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    command -v cargo >/dev/null || fail "Rust is missing: install $wanted or newer from https://rustup.rs, then run this again."
    has=$(cargo --version | cut -d ' ' -f 2)
    if [ "$(oldest "$wanted" "$has")" != "$wanted" ]; then
        fail "Rust $has is too old: $wanted or newer is needed (with rustup: rustup update stable)."
    fi
}

# The older of two versions.
oldest() {
    printf '%s\n' "$@" | sort -t . -k 1,1n -k 2,2n -k 3,3n | head -n 1
}

# Installs what the system lacks, where we know how: on Debian and its relatives. Takes debian-setup.sh's options.
need_system_packages() {
    if [ -n "${OCELLI_NO_SETUP:-}" ] || [ "$(uname -s)" != Linux ]; then
        return 0
    fi
    if command -v dpkg-query >/dev/null; then
        packaging/debian-setup.sh "$@"
    else
        say "This is not a Debian: if something is missing, README.md says what to install."
    fi
}

# Sets XDG_RUNTIME_DIR if it is not: to the login session's folder if there is one, otherwise to a private temporary
# folder that goes away with the script. Without it some Vulkan drivers complain and Wayland does not work.
need_runtime_dir() {
    if [ -n "${XDG_RUNTIME_DIR:-}" ] || [ "$(uname -s)" != Linux ]; then
        return 0
    fi
    XDG_RUNTIME_DIR="/run/user/$(id -u)"
    if [ ! -d "$XDG_RUNTIME_DIR" ] || [ ! -w "$XDG_RUNTIME_DIR" ]; then
        XDG_RUNTIME_DIR=$(mktemp -d "${TMPDIR:-/tmp}/ocelli-runtime.XXXXXX")
        # shellcheck disable=SC2064  # the folder of now
        trap "rm -rf '$XDG_RUNTIME_DIR'" EXIT
    fi
    export XDG_RUNTIME_DIR
}
