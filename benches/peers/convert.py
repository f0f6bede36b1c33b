"""Writes a Qwen3-VL checkpoint as hubs give it (a folder with config.json, tokenizer.json and safetensors) as the two GGUF
files that llama.cpp reads: the text model and the vision tower. One tensor at a time, so memory stays far below the model's
size. Keys, names and element types are those of tests/oracle/make_gguf.py.

    python convert.py CHECKPOINT FOLDER [--text Q8_0] [--vision F16]
"""

import argparse
import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "oracle"))
import make_gguf  # noqa: E402

# So many elements are converted at a time.
PIECE = 1 << 25


class Checkpoint:
    """The tensors of all safetensors files of a folder, by the names that hubs use now."""

    def __init__(self, folder: Path):
        self.files = [safe_open(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
        names = [(name, file) for file in self.files for name in file.keys()]
        prefix = "" if any(name.startswith("model.") for name, _ in names) else "model."
        self.where = {
            name if name.startswith("lm_head") else prefix + name: (file, name) for name, file in names
        }

    def shape(self, hub: str) -> tuple[int, ...]:
        file, name = self.where[hub]
        return tuple(file.get_slice(name).get_shape())

    def pieces(self, hub: str):
        """The tensor in f32, some rows at a time."""
        file, name = self.where[hub]
        view = file.get_slice(name)
        rows, *rest = view.get_shape()
        step = max(1, PIECE // int(np.prod(rest)))
        for start in range(0, rows, step):
            yield view[start:min(start + step, rows)].to(torch.float32).numpy()


def write(writer: gguf.GGUFWriter, weights: Checkpoint, kind: str, tensors: list[tuple[str, str, int | None]]) -> None:
    """Tensors are (hub name, new name, temporal slice or none)."""
    types = []
    for hub, new, slice in tensors:
        shape = weights.shape(hub)
        if slice is not None:
            shape = shape[:2] + shape[3:]
        dtype = make_gguf.element_type(new, shape, kind)
        types.append(dtype)
        stored, size = gguf.quants.quantize(np.zeros((1, 32), np.float32), dtype), gguf.GGML_QUANT_SIZES[dtype]
        elements = int(np.prod(shape))
        if stored.dtype == np.uint8:
            shape = gguf.quant_shape_to_byte_shape(shape, dtype)
        writer.add_tensor_info(new, shape, stored.dtype, elements // size[0] * size[1], raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for (hub, _, slice), dtype in zip(tensors, types):
        parts = []
        for piece in weights.pieces(hub):
            piece = piece if slice is None else piece[:, :, slice]
            parts.append(gguf.quants.quantize(np.ascontiguousarray(piece), dtype))
        writer.write_tensor_data(np.concatenate(parts))
    writer.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", default="Q8_0", choices=make_gguf.FILE_TYPES)
    parser.add_argument("--vision", default="F16", choices=make_gguf.FILE_TYPES)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((args.checkpoint / "config.json").read_text())
    weights = Checkpoint(args.checkpoint)
    name = args.checkpoint.resolve().name
    vision = "model.visual."
    path = args.folder / f"{name}-{args.text}.gguf"
    writer = make_gguf.text_writer(path, name, args.checkpoint, config, args.text)
    tensors = [(hub, make_gguf.text_name(hub, config), None) for hub in weights.where if not hub.startswith(vision)]
    write(writer, weights, args.text, tensors)
    print(path)
    path = args.folder / f"mmproj-{name}-{args.vision}.gguf"
    writer = make_gguf.vision_writer(path, name, args.checkpoint, config, args.vision)
    tensors = []
    for hub in weights.where:
        if hub.startswith(vision):
            news = make_gguf.vision_names(hub, config)
            tensors += [(hub, new, slice if len(news) > 1 else None) for slice, new in enumerate(news)]
    write(writer, weights, args.vision, tensors)
    print(path)


if __name__ == "__main__":
    main()
