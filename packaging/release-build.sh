#!/usr/bin/env bash
# Builds the program as packages carry it, to target/release-packages/release, or with arguments as cargo is told:
# packaging/release-build.sh --target aarch64-apple-darwin. No path of this machine is in it, so that the same source and compiler
# give the same bytes in another folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh
need_rust

here=$PWD
cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
# The last one that fits counts. (Encoded: a folder may have a blank in its name.)
bar=$(printf '\037')
export CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$cargo_home=/cargo$bar--remap-path-prefix=$sysroot=/rust$bar--remap-path-prefix=$here=/ocelli"
case $(uname -s) in
    # C code in crates (SQLite, ring) names its files in messages.
    Linux | Darwin) export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$here=/ocelli" ;;
esac
export CARGO_INCREMENTAL=0
# A folder of its own: these flags would make cargo build everything anew at every turn.
cargo build --release --locked --bin ocelli --target-dir target/release-packages "$@"
