"""Writes GGUF pairs (text file and vision file) of the checkpoints, with the keys, names and element types that llama.cpp's
converter gives them, and random blocks of each quantisation with what they decode to. The same bytes each time.

    python make_gguf.py                     the files under fixtures/gguf that the Rust tests read
    python make_gguf.py NAME TYPE FOLDER    one pair: TYPE is F32, F16, BF16 or Q8_0
"""

import json
import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
PAIRS = [("mono", "F32"), ("mono", "Q8_0"), ("ladder", "F16")]
TYPES = gguf.GGMLQuantizationType
FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7, "BF16": 32}

TEXT = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}
BLOCK = {"norm1": "ln1", "norm2": "ln2", "attn.qkv": "attn_qkv", "attn.proj": "attn_out",
         "mlp.linear_fc1": "ffn_up", "mlp.linear_fc2": "ffn_down"}
MERGER = {"norm": "v.post_ln", "linear_fc1": "mm.0", "linear_fc2": "mm.2"}
# The package has the new names of the mergers, and only the converter which of the hub's become which.
PARTS = gguf.MODEL_TENSOR
MERGER_TENSORS = {
    "merger.norm": (PARTS.V_POST_NORM, 0), "merger.linear_fc1": (PARTS.V_MMPROJ, 0),
    "merger.linear_fc2": (PARTS.V_MMPROJ, 2),
}
DEEPSTACK_TENSORS = {"norm": PARTS.V_DS_NORM, "linear_fc1": PARTS.V_DS_FC1, "linear_fc2": PARTS.V_DS_FC2}


def checked(hub: str, new: str, blocks: int) -> str:
    """The new name, which must be the public package's own where that has one."""
    vision = hub.startswith("model.visual.")
    arch = gguf.MODEL_ARCH.MMPROJ if vision else gguf.MODEL_ARCH.QWEN3VL
    # As the converter asks for them.
    asked = hub.removeprefix("model.") if vision else hub.replace("language_model.", "")
    part, which = asked.removeprefix("visual.").rsplit(".", 1)
    if part in MERGER_TENSORS:
        tensor, number = MERGER_TENSORS[part]
        theirs = f"{gguf.TENSOR_NAMES[tensor].format(bid=number)}.{which}"
    elif part.startswith("deepstack_merger_list."):
        tensor = DEEPSTACK_TENSORS[part.rsplit(".", 1)[1]]
        theirs = f"{gguf.TENSOR_NAMES[tensor].format(bid=new.split('.')[2])}.{which}"
    else:
        theirs = gguf.get_tensor_name_map(arch, blocks).get_name(asked, try_suffixes=(".weight", ".bias"))
    if theirs != new:
        raise SystemExit(f"{hub}: {new} here, and {theirs} in the package gguf")
    return new


def read(folder: Path) -> tuple[dict, dict]:
    """config.json and the weights in f32, by hub name."""
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    prefix = "" if any(name.startswith("model.") for name in tensors) else "model."
    weights = {}
    for name, tensor in tensors.items():
        full = name if name.startswith("lm_head") else prefix + name
        weights[full] = tensor.to(torch.float32).numpy()
    return json.loads((folder / "config.json").read_text()), weights


def element_type(name: str, shape: tuple[int, ...], kind: str) -> TYPES:
    """The element type a tensor gets in a file of a kind."""
    if len(shape) == 1 or "norm" in name:
        return TYPES.F32
    if kind == "Q8_0" and shape[-1] % 32:
        kind = "F16"
    # Convolutions are not quantised, and positions are added in f32.
    if name.startswith(("v.patch_embd", "v.position_embd")):
        kind = "F16" if kind == "F16" and name.startswith("v.patch_embd") else "F32"
    return TYPES[kind]


def put(writer: gguf.GGUFWriter, name: str, value: np.ndarray, kind: str) -> None:
    dtype = element_type(name, value.shape, kind)
    writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(value), dtype), raw_dtype=dtype)


def finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, folder: Path, rows: int) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    normal = {id: token for token, id in tokenizer["model"]["vocab"].items()}
    added = {token["id"]: token for token in tokenizer["added_tokens"]}
    tokens, types = [], []
    for id in range(rows):
        if id in added:
            text, special = added[id]["content"], added[id]["special"]
            # The converter takes whatever looks like a control token for one.
            control = special or (text.startswith("<|") and text.endswith("|>"))
            tokens.append(text)
            types.append(gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED)
        elif id in normal:
            tokens.append(normal[id])
            types.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[PAD{id}]")
            types.append(gguf.TokenType.UNUSED)
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    writer.add_eos_token_id(ids["<|im_end|>"])
    writer.add_pad_token_id(ids["<|endoftext|>"])
    writer.add_bos_token_id(ids["<|endoftext|>"])
    writer.add_add_bos_token(False)
    writer.add_chat_template(template(folder))


def template(folder: Path) -> str:
    jinja = folder / "chat_template.jinja"
    if jinja.exists():
        return jinja.read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = json.loads((folder / name).read_text(encoding="utf-8")) if (folder / name).exists() else {}
        if "chat_template" in found:
            return found["chat_template"]
    raise SystemExit(f"{folder} has no chat template")


def text_writer(path: Path, name: str, folder: Path, config: dict, kind: str) -> gguf.GGUFWriter:
    """A text file's writer with all its keys."""
    text = config["text_config"]
    rope = text.get("rope_parameters") or text["rope_scaling"]
    writer = gguf.GGUFWriter(path, "qwen3vl")
    writer.add_type("model")
    writer.add_name(name)
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_feed_forward_length(text["intermediate_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_rope_freq_base(float(text.get("rope_theta") or rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(text["rms_norm_eps"])
    writer.add_key_length(text["head_dim"])
    writer.add_value_length(text["head_dim"])
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_rope_dimension_sections(rope["mrope_section"] + [0])
    writer.add_num_deepstack_layers(len(config["vision_config"]["deepstack_visual_indexes"]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, folder, text["vocab_size"])
    return writer


def text_name(hub: str, config: dict) -> str:
    """The name of a text tensor of the hub."""
    if hub == "model.language_model.embed_tokens.weight":
        new = "token_embd.weight"
    elif hub == "model.language_model.norm.weight":
        new = "output_norm.weight"
    elif hub == "lm_head.weight":
        new = "output.weight"
    else:
        layer, rest = hub.removeprefix("model.language_model.layers.").split(".", 1)
        part, which = rest.rsplit(".", 1)
        new = f"blk.{layer}.{TEXT[part]}.{which}"
    return checked(hub, new, config["text_config"]["num_hidden_layers"])


def write_text(name: str, kind: str, path: Path) -> None:
    folder = FIXTURES / name / "model"
    config, weights = read(folder)
    writer = text_writer(path, f"Ocelli oracle {name}", folder, config, kind)
    for hub, value in weights.items():
        if not hub.startswith("model.visual."):
            put(writer, text_name(hub, config), value, kind)
    finish(writer)


def vision_writer(path: Path, name: str, folder: Path, config: dict, kind: str) -> gguf.GGUFWriter:
    """A vision file's writer with all its keys."""
    vision = config["vision_config"]
    deepstack = vision["deepstack_visual_indexes"]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    writer.add_clip_has_vision_encoder(True)
    writer.add_vision_projection_dim(vision["out_hidden_size"])
    writer.add_vision_image_size(int(vision["num_position_embeddings"] ** 0.5) * vision["patch_size"])
    writer.add_vision_patch_size(vision["patch_size"])
    writer.add_vision_embedding_length(vision["hidden_size"])
    writer.add_vision_feed_forward_length(vision["intermediate_size"])
    writer.add_vision_block_count(vision["depth"])
    writer.add_vision_head_count(vision["num_heads"])
    preprocessor = json.loads((folder / "preprocessor_config.json").read_text())
    writer.add_vision_image_mean(preprocessor["image_mean"])
    writer.add_vision_image_std(preprocessor["image_std"])
    writer.add_clip_projector_type(gguf.VisionProjectorType.QWEN3VL)
    writer.add_vision_use_gelu(True)
    writer.add_vision_spatial_merge_size(vision["spatial_merge_size"])
    writer.add_vision_attention_layernorm_eps(config["text_config"]["rms_norm_eps"])
    writer.add_vision_is_deepstack_layers([n in deepstack for n in range(vision["depth"])])
    return writer


def vision_names(hub: str, config: dict) -> list[str]:
    """The name of a vision tensor of the hub; two for the patch kernel, one of each temporal slice."""
    vision = config["vision_config"]
    deepstack = vision["deepstack_visual_indexes"]
    part, which = hub.removeprefix("model.visual.").rsplit(".", 1)
    if part == "patch_embed.proj":
        new = "v.patch_embd"
    elif part == "pos_embed":
        new = "v.position_embd"
    elif part.startswith("blocks."):
        _, block, rest = part.split(".", 2)
        new = f"v.blk.{block}.{BLOCK[rest]}"
    elif part.startswith("deepstack_merger_list."):
        _, index, rest = part.split(".", 2)
        new = f"v.deepstack.{deepstack[int(index)]}.{rest.removeprefix('linear_')}"
    else:
        new = MERGER[part.removeprefix("merger.")]
    new = checked(hub, f"{new}.{which}", vision["depth"])
    return [new, f"{new}.1"] if new == "v.patch_embd.weight" else [new]


def write_vision(name: str, kind: str, path: Path) -> None:
    folder = FIXTURES / name / "model"
    config, weights = read(folder)
    writer = vision_writer(path, f"Ocelli oracle {name}", folder, config, kind)
    for hub, value in weights.items():
        if hub.startswith("model.visual."):
            names = vision_names(hub, config)
            for slice, new in enumerate(names):
                put(writer, new, value[:, :, slice] if len(names) > 1 else value, kind)
    finish(writer)


def write_pair(name: str, kind: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(name, kind, folder / f"{name}-{kind}.gguf")
    write_vision(name, kind, folder / f"mmproj-{name}-{kind}.gguf")


def write_blocks(path: Path) -> None:
    """Random blocks of each type, every bit pattern that has a meaning, and what the public package makes of them."""
    rng = np.random.default_rng(505)
    out = {}
    for kind, scales in [("Q8_0", [0]), ("Q4_K", [0, 2]), ("Q5_K", [0, 2]), ("Q6_K", [208])]:
        _, size = gguf.GGML_QUANT_SIZES[TYPES[kind]]
        blocks = rng.integers(0, 256, (24, size), dtype=np.uint8)
        for at in scales:
            values = (rng.standard_normal(24) * 0.02).astype(np.float16)
            if kind == "Q8_0":
                values = np.abs(values)
                blocks[0, 2:] = 128  # -128 throughout
            blocks[:, at:at + 2] = values.view(np.uint8).reshape(24, 2)
        decoded = gguf.quants.dequantize(blocks, TYPES[kind]).astype("<f4")
        out[kind] = {"type": int(TYPES[kind]), "blocks": blocks.tobytes().hex(), "f32": decoded.tobytes().hex()}
    path.write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    if len(sys.argv) == 4:
        write_pair(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
        return
    folder = FIXTURES / "gguf"
    for name, kind in PAIRS:
        write_pair(name, kind, folder / f"{name}-{kind}")
    write_blocks(folder / "blocks.json")


if __name__ == "__main__":
    main()
