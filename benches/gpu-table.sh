#!/usr/bin/env bash
# The whole table for a graphics card in one call: random weights with the shapes of 2B, 4B and 8B, decoding at batch 1 and 8, prefill
# (on matrix units where the card has them), and the first token of a 211-token picture prompt. Takes
# the folder for the checkpoints (about 35 GB) and what to run.
#
#     benches/gpu-table.sh FOLDER [target/release/ocelli]
#
# With LLAMA_PYTHON and VISION_PYTHON (the two environments of benches/peers/README.md, with npm's packages installed there)
# llama.cpp runs the same shapes beside it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${1:?the folder for the checkpoints}
ocelli=${2:-target/release/ocelli}
mkdir -p "$folder"
"$ocelli" devices
for preset in 2b 4b 8b; do
    model=$folder/$preset-int8hu
    gguf=$folder/$preset-gguf
    if [ ! -d "$model" ] || [ -n "${LLAMA_PYTHON:-}" -a ! -d "$gguf" ]; then
        "$ocelli" synth --preset "$preset" "$folder/$preset"
        [ -d "$model" ] || "$ocelli" convert "$folder/$preset" "$model" --recipe int8hu
        [ -z "${LLAMA_PYTHON:-}" ] || "$LLAMA_PYTHON" "$here/peers/convert.py" "$folder/$preset" "$gguf"
        rm -r "${folder:?}/$preset"
    fi
    bench() { "$ocelli" bench --model "$model" --repeat 5 --new-tokens 128 "$@"; }
    # What is the fastest here, measured anew for the first model and kept for the others; then 15 tokens of text and the 196 of
    # a 448x448 picture.
    tune=
    [ "$preset" != 2b ] || tune=--tune
    bench --context 8192 --prompt-tokens 15 --profile $tune
    bench --context 8192 --prompt-tokens 512 --image-size 0x0
    bench --context 8192 --prompt-tokens 64 --image-size 0x0 --batch 8
    "$ocelli" bench --model "$model" --context 36864 --new-tokens 32 --sweep
    if [ -n "${LLAMA_PYTHON:-}" ]; then
        python3 "$here/peers/compare.py" --ocelli "$ocelli" --gguf "$gguf/$preset-Q8_0.gguf" \
            --mmproj "$gguf/mmproj-$preset-F16.gguf" --vision-python "$VISION_PYTHON" --long 4096
    fi
done
