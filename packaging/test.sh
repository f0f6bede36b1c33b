#!/usr/bin/env bash
# Installs what the system lacks (Debian and relatives) and runs all tests: unit tests, the tests in tests/, and the
# documentation's examples. Arguments go to `cargo test`: `packaging/test.sh parity`.
# The tests run the model on the first adapter that `ocelli devices` lists; a software one will do.
# OCELLI_NO_SETUP=1 leaves the system's packages alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh

need_rust
need_system_packages --tests
need_runtime_dir

# A display of their own for tests that open the window.
display=
if [ "$(uname -s)" = Linux ] && [ -z "${DISPLAY:-}" ] && [ -z "${WAYLAND_DISPLAY:-}" ] && command -v xvfb-run >/dev/null; then
    display="xvfb-run --auto-servernum"
fi
# Not --all-targets: that would leave out the documentation's examples. One failure must not hide the others.
$display cargo test --locked --no-fail-fast "$@"
