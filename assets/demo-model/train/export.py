"""Writes the trained weights: a hub checkpoint in f32, and from it, by `ocelli convert`, the int8hu model that ships.

    python export.py --run RUN --ocelli target/release/ocelli --to assets/demo-model

RUN/hub becomes the checkpoint (transformers loads it); what training alone needed is left out.
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file


def write_hub(run: Path) -> Path:
    state = torch.load(run / "state.pt", weights_only=True)
    tensors = {n: t.contiguous() for n, t in state["optimiser"]["master"].items() if not n.startswith("head.")}
    save_file(tensors, run / "hub" / "model.safetensors", metadata={"format": "pt"})
    print(json.dumps({"steps": state["done"], "seconds": round(state["seconds"]), "parameters": sum(t.numel() for t in tensors.values())}))
    return run / "hub"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--run", type=Path, required=True)
    arguments.add_argument("--ocelli", type=Path, help="the program, to convert with")
    arguments.add_argument("--to", type=Path, help="folder of the converted model; its other files stay")
    options = arguments.parse_args()
    hub = write_hub(options.run)
    if not options.to:
        return
    with tempfile.TemporaryDirectory() as name:
        made = Path(name) / "int8hu"
        subprocess.run([options.ocelli, "convert", hub, made, "--recipe", "int8hu"], check=True)
        options.to.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.copyfile(file, options.to / file.name)
    size = sum(f.stat().st_size for f in options.to.iterdir() if f.is_file() and f.suffix != ".md")
    print(f"{options.to}: {size:,} bytes")


if __name__ == "__main__":
    main()
