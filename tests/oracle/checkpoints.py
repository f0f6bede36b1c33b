"""The checkpoints: their shapes, their random weights, and their files, laid out as a hub repository's."""

import json
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from safetensors.torch import save_file

import tokenizer_files
from template import CHAT_TEMPLATE

PIECE = 1_000_000  # no weight file grows past this


@dataclass(frozen=True)
class Spec:
    name: str
    seed: int
    dtype: str            # storage: bfloat16, float16, float32
    style: str            # config.json: "4.57" or "5.x"
    tied: bool
    prefix: bool          # tensor names begin with "model."
    single: bool
    vocab: int
    merges: int
    merge_style: str      # "strings" or "pairs"
    template_in: str      # "chat_template.json", "chat_template.jinja" or "tokenizer_config.json"
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    section: tuple
    v_hidden: int
    v_heads: int
    v_mlp: int
    v_depth: int
    deepstack: tuple
    positions: int
    embed: float = 0.8    # standard deviation of an embedding that is not the head as well
    image_size: tuple = (65536, 16777216)
    video_size: tuple = (4096, 25165824)


SPECS = [
    Spec("mono", 101, "bfloat16", "4.57", True, True, True, 704, 400, "strings", "chat_template.json",
         hidden=64, mlp=96, layers=2, heads=4, kv_heads=2, head_dim=64, section=(12, 10, 10),
         v_hidden=64, v_heads=2, v_mlp=96, v_depth=2, deepstack=(0,), positions=64),
    Spec("ladder", 202, "float16", "5.x", False, True, False, 1536, 1200, "pairs", "chat_template.jinja",
         hidden=96, mlp=128, layers=3, heads=8, kv_heads=2, head_dim=64, section=(12, 10, 10),
         v_hidden=144, v_heads=2, v_mlp=152, v_depth=2, deepstack=(1,), positions=144, embed=0.03,
         image_size=(4096, 1048576)),
    Spec("plain", 303, "float32", "4.57", False, True, False, 1000, 650, "strings", "tokenizer_config.json",
         hidden=64, mlp=160, layers=3, heads=2, kv_heads=2, head_dim=128, section=(24, 20, 20),
         v_hidden=64, v_heads=2, v_mlp=128, v_depth=4, deepstack=(0, 1, 3), positions=100,
         image_size=(16384, 262144)),
    Spec("deep", 404, "bfloat16", "5.x", True, False, False, 4864, 4200, "pairs", "chat_template.json",
         hidden=64, mlp=96, layers=5, heads=4, kv_heads=2, head_dim=128, section=(24, 20, 20),
         v_hidden=128, v_heads=2, v_mlp=192, v_depth=4, deepstack=(1, 2), positions=256),
]


def spec(name: str) -> Spec:
    return next(s for s in SPECS if s.name == name)


def config_json(s: Spec, ids: dict[str, int]) -> dict:
    """config.json as a dictionary, in the style of 4.57 or of 5.x."""
    text = {"attention_bias": False, "attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"],
            "dtype": s.dtype, "eos_token_id": ids["<|im_end|>"], "head_dim": s.head_dim, "hidden_act": "silu",
            "hidden_size": s.hidden, "initializer_range": 0.02, "intermediate_size": s.mlp,
            "max_position_embeddings": 262144, "model_type": "qwen3_vl_text", "num_attention_heads": s.heads,
            "num_hidden_layers": s.layers, "num_key_value_heads": s.kv_heads, "rms_norm_eps": 1e-06}
    mrope = {"mrope_interleaved": True, "mrope_section": list(s.section)}
    if s.style == "4.57":
        text |= {"rope_scaling": mrope | {"rope_type": "default"}, "rope_theta": 5000000}
        if s.tied:
            text["tie_word_embeddings"] = True
    else:
        text |= {"pad_token_id": None, "rope_parameters": mrope | {"rope_theta": 5000000, "rope_type": "default"}}
    text |= {"use_cache": True, "vocab_size": s.vocab}
    vision = {"deepstack_visual_indexes": list(s.deepstack), "depth": s.v_depth, "hidden_act": "gelu_pytorch_tanh",
              "hidden_size": s.v_hidden, "in_channels": 3, "initializer_range": 0.02, "intermediate_size": s.v_mlp,
              "model_type": "qwen3_vl" if s.style == "4.57" else "qwen3_vl_vision", "num_heads": s.v_heads,
              "num_position_embeddings": s.positions, "out_hidden_size": s.hidden, "patch_size": 16,
              "spatial_merge_size": 2, "temporal_patch_size": 2}
    top = {"architectures": ["Qwen3VLForConditionalGeneration"]}
    if s.style == "5.x":
        top["dtype"] = s.dtype
    return top | {"image_token_id": ids["<|image_pad|>"], "model_type": "qwen3_vl", "text_config": text,
                  "tie_word_embeddings": s.tied,
                  "transformers_version": "4.57.0.dev0" if s.style == "4.57" else "5.23.0",
                  "video_token_id": ids["<|video_pad|>"], "vision_config": vision,
                  "vision_end_token_id": ids["<|vision_end|>"], "vision_start_token_id": ids["<|vision_start|>"]}


def shapes(s: Spec) -> dict[str, tuple]:
    """Every tensor of the checkpoint with its shape, names with the leading "model."."""
    h, d, four = s.hidden, s.v_hidden, 4 * s.v_hidden
    q, kv = s.heads * s.head_dim, s.kv_heads * s.head_dim
    out = {"model.language_model.embed_tokens.weight": (s.vocab, h)}
    for n in range(s.layers):
        p = f"model.language_model.layers.{n}."
        out |= {p + "input_layernorm.weight": (h,), p + "self_attn.q_proj.weight": (q, h),
                p + "self_attn.k_proj.weight": (kv, h), p + "self_attn.v_proj.weight": (kv, h),
                p + "self_attn.q_norm.weight": (s.head_dim,), p + "self_attn.k_norm.weight": (s.head_dim,),
                p + "self_attn.o_proj.weight": (h, q), p + "post_attention_layernorm.weight": (h,),
                p + "mlp.gate_proj.weight": (s.mlp, h), p + "mlp.up_proj.weight": (s.mlp, h),
                p + "mlp.down_proj.weight": (h, s.mlp)}
    out["model.language_model.norm.weight"] = (h,)
    if not s.tied:
        out["lm_head.weight"] = (s.vocab, h)

    def both(name: str, *shape: int) -> dict:
        return {name + ".weight": shape, name + ".bias": shape[:1]}

    out |= both("model.visual.patch_embed.proj", d, 3, 2, 16, 16)
    out["model.visual.pos_embed.weight"] = (s.positions, d)
    for n in range(s.v_depth):
        p = f"model.visual.blocks.{n}."
        out |= (both(p + "norm1", d) | both(p + "norm2", d) | both(p + "attn.qkv", 3 * d, d)
                | both(p + "attn.proj", d, d) | both(p + "mlp.linear_fc1", s.v_mlp, d)
                | both(p + "mlp.linear_fc2", d, s.v_mlp))
    mergers = [("merger", d)] + [(f"deepstack_merger_list.{i}", four) for i in range(len(s.deepstack))]
    for name, norm in mergers:
        p = f"model.visual.{name}."
        out |= both(p + "norm", norm) | both(p + "linear_fc1", four, four) | both(p + "linear_fc2", h, four)
    return out


def weights(s: Spec, tokens: int) -> dict[str, np.ndarray]:
    """Random weights with lively activations: see README.md. `tokens` is the number of ids the tokenizer has."""
    return {name: one_weight(s, name, shape, tokens) for name, shape in shapes(s).items()}


GAINS = {  # standard deviation times the square root of the number of inputs
    "self_attn.q_proj": 1.0, "self_attn.k_proj": 1.0, "self_attn.v_proj": 1.4, "self_attn.o_proj": 2.0,
    "gate_proj": 1.6, "up_proj": 1.3, "down_proj": 1.6,
    "patch_embed.proj": 2.5, "attn.qkv": 1.35, "attn.proj": 1.3, "mlp.linear_fc1": 1.7, "mlp.linear_fc2": 2.4,
    "merger.linear_fc1": 1.7, "merger.linear_fc2": 1.7, "deepstack_merger_list": 1.7,
}


def one_weight(s: Spec, name: str, shape: tuple, tokens: int) -> np.ndarray:
    rng = np.random.default_rng([s.seed, zlib.crc32(name.encode())])
    noise = rng.standard_normal(shape)
    if name.endswith(("embed_tokens.weight", "lm_head.weight")):
        is_head = s.tied or name.startswith("lm_head")
        noise *= 4 / s.hidden**0.5 if is_head else s.embed
        noise[tokens:] *= 0.25  # the padding rows
        return noise
    if name.endswith("pos_embed.weight"):
        return 0.6 * noise
    if name.endswith(("q_norm.weight", "k_norm.weight")):
        return 1.3 * (1 + 0.25 * np.clip(noise, -2.5, 2.5))
    if name == "model.language_model.norm.weight":  # both signs: a tied head would repeat the last token for ever
        return np.where(rng.random(shape) < 0.5, -1, 1) * (1 + 0.2 * np.clip(noise, -2.5, 2.5))
    if "norm" in name:
        return 0.2 * noise if name.endswith("bias") else 1 + 0.2 * np.clip(noise, -2.5, 2.5)
    if name.endswith("bias"):
        return 0.25 * noise
    inputs = int(np.prod(shape[1:]))
    gain = next(g for key, g in GAINS.items() if key in name)
    return gain / inputs**0.5 * noise


def write(s: Spec, folder) -> None:
    """Makes fixtures/<name>/model."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    in_config = CHAT_TEMPLATE if s.template_in == "tokenizer_config.json" else None
    ids = tokenizer_files.write(folder, s.merges, s.merge_style, in_config)

    def put(name: str, value: dict) -> None:
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    if s.template_in == "chat_template.json":
        put("chat_template.json", {"chat_template": CHAT_TEMPLATE})
    elif s.template_in == "chat_template.jinja":
        (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    put("config.json", config_json(s, ids))
    put("generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"], "do_sample": True,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "top_k": 20, "top_p": 0.8,
        "repetition_penalty": 1.0, "temperature": 0.7, "transformers_version": "4.56.0"})
    common = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2,
              "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}

    def size(pair: tuple) -> dict:
        return {"size": {"longest_edge": pair[1], "shortest_edge": pair[0]}}

    put("preprocessor_config.json", size(s.image_size) | common | {
        "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast"})
    put("video_preprocessor_config.json", size(s.video_size) | common | {
        "processor_class": "Qwen3VLProcessor", "video_processor_type": "Qwen3VLVideoProcessor"})

    dtype = getattr(torch, s.dtype)
    tensors = {}
    for name, value in weights(s, 256 + s.merges + len(ids)).items():
        stored = name if s.prefix else name.removeprefix("model.")
        tensors[stored] = torch.from_numpy(value.astype(np.float32)).to(dtype).contiguous()
    write_weights(tensors, folder, s.single)


def save(tensors: dict, path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o644)


def write_weights(tensors: dict, folder, single: bool) -> None:
    if single:
        save(tensors, folder / "model.safetensors")
        return
    shards, room = [], 0
    for name, tensor in tensors.items():
        if tensor.nbytes > room:
            shards.append({})
            room = PIECE
        shards[-1][name] = tensor
        room -= tensor.nbytes
    index = {}
    for i, shard in enumerate(shards, 1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors"
        save(shard, folder / file)
        index |= dict.fromkeys(shard, file)
    total = sum(t.nbytes for t in tensors.values())
    text = json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2)
    (folder / "model.safetensors.index.json").write_text(text + "\n", encoding="utf-8")
