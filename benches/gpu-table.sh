#!/usr/bin/env bash
# The whole table for a graphics card in one call: random weights with the shapes of 2B, 4B and 8B, decoding at batch 1 and 8, prefill,
# and the first token of a 211-token picture prompt. Takes the folder for the checkpoints (about 35 GB) and what to run.
#
#     benches/gpu-table.sh FOLDER [target/release/ocelli]
set -euo pipefail
folder=${1:?the folder for the checkpoints}
ocelli=${2:-target/release/ocelli}
mkdir -p "$folder"
"$ocelli" devices
for preset in 2b 4b 8b; do
    model=$folder/$preset-int8hu
    if [ ! -d "$model" ]; then
        "$ocelli" synth --preset "$preset" "$folder/$preset"
        "$ocelli" convert "$folder/$preset" "$model" --recipe int8hu
        rm -r "${folder:?}/$preset"
    fi
    # 15 tokens of text and the 196 of a 448x448 picture.
    "$ocelli" bench --model "$model" --context 8192 --prompt-tokens 15 --new-tokens 128 --repeat 5 --profile
    "$ocelli" bench --model "$model" --context 8192 --prompt-tokens 512 --new-tokens 128 --image-size 0x0 --repeat 5
    "$ocelli" bench --model "$model" --context 8192 --prompt-tokens 64 --new-tokens 128 --image-size 0x0 --batch 8 --repeat 5
    "$ocelli" bench --model "$model" --context 36864 --new-tokens 32 --sweep
done
