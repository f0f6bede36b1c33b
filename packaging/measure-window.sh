#!/usr/bin/env bash
# Measures the window with the demo model, on X11: starting, memory, idling, drawing while the engine works, and scrolling
# a conversation of 5000 messages. Builds the release binary, or takes the one that is named:
#
#   packaging/measure-window.sh [PROGRAM]
#
# Without a display it brings its own (xvfb-run). It types and moves the mouse, so leave both alone. Needs xdotool
# (packaging/debian-setup.sh --tests). The frames' times are what the program logs when its window is closed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. packaging/common.sh

need_rust
need_runtime_dir
command -v xdotool >/dev/null || fail "xdotool is missing: packaging/debian-setup.sh --tests installs it."
if [ -z "${DISPLAY:-}" ]; then
    exec xvfb-run --auto-servernum --server-args="-screen 0 1280x800x24" "$0" "$@"
fi
unset WAYLAND_DISPLAY WAYLAND_SOCKET OCELLI_MODEL

program=${1:-target/release/ocelli}
[ -n "${1:-}" ] || cargo build --release --locked
folder=$(mktemp -d)
pid=
cleanup() {
    [ "$1" = 0 ] || tail -n 20 "$folder/log" >&2 || true
    [ -z "$pid" ] || kill -9 "$pid" 2>/dev/null || true
    rm -rf "$folder"
}
trap 'cleanup $?' EXIT

# Waits until the log has a number of lines with these words, two minutes at most.
wait_for() {
    local n
    for n in $(seq 1200); do
        [ "$(grep -c "$1" "$folder/log")" -lt "$2" ] || return 0
        sleep 0.1
    done
    fail "After two minutes there is still no line with '$1'."
}

# Opens the window on a folder of conversations and takes the keyboard.
open_window() {
    : >"$folder/log"
    OCELLI_DATA=$1 OCELLI_CACHE=$folder/cache OCELLI_LOG=ocelli::app=debug "$program" 2>"$folder/log" &
    pid=$!
    wait_for "the model is ready" 1
    window=$(timeout 60 xdotool search --sync --all --onlyvisible --pid "$pid" --name "Ocelli demo" | head -n 1)
    xdotool windowfocus --sync "$window"
}

# Closes it and prints what it says of its frames; $1: of which.
close_window() {
    xdotool key ctrl+q
    wait "$pid" || true
    pid=
    sed -n "s/^.*frame_meter: \(engine $1\)/  \1/p" "$folder/log"
}

ticks() { sed 's/^.*) //' "/proc/$pid/stat" | awk '{ print $12 + $13 }'; }
resident() { awk '/^VmRSS/ { printf "%.0f MB", $2 / 1024 }' "/proc/$pid/status"; }

echo "program: $program; display: $(xdotool getdisplaygeometry); load: $(cut -d ' ' -f 1-3 /proc/loadavg)"
echo "starting, three times (the first one may have to make caches)"
for n in 1 2 3; do
    open_window "$folder/empty"
    sed -n 's/^.*window: \(first frame\|the model is ready\)/  \1/p' "$folder/log"
    [ "$n" = 3 ] || close_window none
done

sleep 2
before=$(ticks)
sleep 60
after=$(ticks)
echo "idle for 60 s: $(awk -v t=$((after - before)) -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f s", t / hz }') of processor time, $(resident) resident"

echo "three questions of 1700 letters, each stopped after 15 s, the mouse moving"
moves=()
for n in $(seq 100); do
    moves+=(mousemove $((200 + n * 7)) $((150 + n * 3)) sleep 0.01)
done
question=$(printf 'a red circle, %.0s' $(seq 120))
for n in 1 2 3; do
    # Typed without the mouse: what is typed is drawn with the engine idle. In a conversation of its own: three such
    # questions and their answers do not fit into the context.
    xdotool key ctrl+n
    xdotool type --delay 2 "$question"
    xdotool key Return
    end=$((SECONDS + 15))
    while [ "$SECONDS" -lt "$end" ]; do
        xdotool "${moves[@]}"
    done
    xdotool key Escape
    wait_for "an answer has ended" "$n"
done
echo "  $(resident) resident"
close_window busy

echo "5000 messages, opened, Page Up for 10 s"
OCELLI_DATA=$folder/long cargo test --locked --quiet --test all -- --ignored make_long_conversation >/dev/null
open_window "$folder/long"
xdotool key ctrl+Next
sleep 3
# Away from the question, whose own keys these are.
xdotool key Escape
sleep 0.5
xdotool key --delay 50 --repeat 200 Prior
echo "  $(resident) resident"
close_window idle
