#!/bin/sh
# Runs the fuzz targets one after the other, each for so many minutes: fuzz/run.sh MINUTES [TARGET...]
# cargo-fuzz works on a stable compiler as it is called here; what it finds lies in fuzz/artifacts/TARGET.
set -eu
cd "$(dirname "$0")/.."
minutes=${1:?give the minutes for each target}
shift
[ $# -gt 0 ] || set -- $(ls fuzz/fuzz_targets | sed 's/\.rs$//')
cargo fuzz build --sanitizer none --debug-assertions
failed=
for target in "$@"; do
    echo "== $target, $minutes min"
    # Readers of paths get files in memory, if there is such a place; they are taken away even if the run ends badly.
    folder=$(mktemp -d -p /dev/shm 2>/dev/null || mktemp -d)
    dictionary=
    [ -f "fuzz/dictionaries/$target" ] && dictionary="-dict=fuzz/dictionaries/$target"
    TMPDIR=$folder cargo fuzz run --sanitizer none --debug-assertions "$target" -- \
        -max_total_time=$((minutes * 60)) -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -max_len=65536 \
        $dictionary -print_final_stats=1 || failed="$failed $target"
    rm -rf "$folder"
done
[ -z "$failed" ] || { echo "something was found in:$failed"; exit 1; }
