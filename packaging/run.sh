#!/usr/bin/env bash
# Installs what the system lacks (Debian and relatives), builds Ocelli and opens its window.
# Arguments go to Ocelli: `packaging/run.sh --model FOLDER`, `packaging/run.sh devices`.
# OCELLI_NO_SETUP=1 leaves the system's packages alone.
set -euo pipefail
started_in=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh

# A subcommand needs no display; options alone, or nothing, open the window.
opens_window=yes
for argument in "$@"; do
    case $argument in
        generate | batch | compare | convert | models | bench | profile | trace | licences | devices | synth | help | --help | -h | --version | -V) opens_window= ;;
    esac
done
if [ -n "$opens_window" ] && [ "$(uname -s)" = Linux ] &&
    [ -z "${DISPLAY:-}" ] && [ -z "${WAYLAND_DISPLAY:-}" ] && [ -z "${WAYLAND_SOCKET:-}" ]; then
    say "There is no display: neither DISPLAY nor WAYLAND_DISPLAY is set, so no window can open."
    say "  - Run this from a terminal inside the desktop."
    say "  - Without a desktop, use the command line: packaging/run.sh generate --model FOLDER --image FILE \"What is this?\""
    exit 1
fi

need_rust
# shellcheck disable=SC2119  # our arguments are Ocelli's
need_system_packages
need_runtime_dir
manifest=$PWD/Cargo.toml
# Relative paths in the arguments mean the folder this was called from.
cd "$started_in"
cargo run --release --locked --manifest-path "$manifest" -- "$@"
