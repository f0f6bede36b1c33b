#!/usr/bin/env bash
# Builds the program as packages carry it, to target/release-packages/release, or with arguments as cargo is told:
# packaging/release-build.sh --target aarch64-apple-darwin. No path of this machine is in it, so that the same source and compiler
# give the same bytes in another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh
need_rust

# Each word as a shell reads it back.
quoted() {
    local word
    for word in "$@"; do printf " '%s'" "$(printf '%s' "$word" | sed "s/'/'\\\\''/g")"; done
}

here=$PWD
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
# The last one that fits counts. (Encoded: a folder may have a blank in its name.)
bar=$(printf '\037')
export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$cargo_home=/cargo$bar--remap-path-prefix=$sysroot=/rust$bar--remap-path-prefix=$here=/ocelli"
case $(uname -s) in
    # C code in crates (SQLite, ring) names its files in messages.
    Linux | Darwin)
        flags=
        set -f
        # shellcheck disable=SC2086  # words that the caller has not quoted are divided at blanks
        if [ -n "${CC_SHELL_ESCAPED_FLAGS:-}" ]; then flags=${CFLAGS:-}; else flags=$(quoted ${CFLAGS:-}); fi
        set +f
        CFLAGS="$flags $(quoted "-ffile-prefix-map=$cargo_home=/cargo" "-ffile-prefix-map=$here=/ocelli")"
        # The crates' builder (cc) reads them as a shell does, if told so; otherwise a folder with a blank in its name is two flags.
        export CFLAGS CC_SHELL_ESCAPED_FLAGS=1
        ;;
esac
export CARGO_INCREMENTAL=0
# A folder of its own: these flags would make cargo build everything anew at every turn.
cargo build --release --locked --bin ocelli --target-dir target/release-packages "$@"
