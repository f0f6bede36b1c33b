"""Weights as the recipes store them, brought back to f32. All arithmetic of the model stays f32."""

import torch

BLOCK = 32
BODY = ("q_proj.weight", "k_proj.weight", "v_proj.weight", "o_proj.weight",
        "gate_proj.weight", "up_proj.weight", "down_proj.weight")
RECIPES = ("int8hu", "int8lin", "f16")


def f16(weight: torch.Tensor) -> torch.Tensor:
    return weight.to(torch.float16).to(torch.float32)


def int8(weight: torch.Tensor) -> torch.Tensor:
    """Symmetric, blocks of 32 along the input, scale f16(absmax/127), halves to even."""
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // BLOCK, BLOCK)
    scale = f16(blocks.abs().amax(dim=-1, keepdim=True) / 127.0)
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    q = torch.round(blocks / safe).clamp(-127, 127)
    q = torch.where(scale == 0, torch.zeros_like(q), q)
    return (q * scale).reshape(rows, columns)


def apply(model, original: dict[str, torch.Tensor], recipe: str | None, tied: bool) -> None:
    """Loads `original` into the model under the recipe (None: as it is). Unties the head so both can differ."""
    state = {name: one(name, value, recipe) for name, value in original.items()}
    embedding = original["model.language_model.embed_tokens.weight"]
    head = embedding if tied else original["lm_head.weight"]
    state["lm_head.weight"] = int8(head) if recipe == "int8hu" else head if recipe is None else f16(head)
    model.load_state_dict(state, strict=True)


def one(name: str, value: torch.Tensor, recipe: str | None) -> torch.Tensor:
    if recipe is None or value.dim() == 1 or name.endswith("pos_embed.weight"):
        return value
    if recipe != "f16" and ".language_model." in name and name.endswith(BODY):
        return int8(value)
    return f16(value)
