#!/usr/bin/env bash
# Draws the pictures in docs/screenshots anew: the window on the real engine with the demo model, without a display.
# A software Vulkan device will do. OCELLI_NO_SETUP=1 leaves the system's packages alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh

need_rust
need_system_packages --tests
need_runtime_dir
cargo test --locked --test all -- --ignored --exact screenshots::screenshots
ls -l docs/screenshots >&2
