"""The demo model's shape, its files without the weights, and a fast way through transformers' own modules.

The model is transformers' `Qwen3VLForConditionalGeneration`; only its sizes are ours. `Fast` runs the same modules' weights
over many questions of one picture at once: the picture's tokens are computed once, every conversation is a branch behind them.
`python model.py` asserts that it gives what the model's own forward gives.
"""

import json
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "tests" / "oracle"))
import tokenizer_files  # noqa: E402
from corpus import training_text  # noqa: E402

import questions  # noqa: E402
import world  # noqa: E402

VOCABULARY = 2048
MERGES = VOCABULARY - 256 - len(tokenizer_files.ADDED)
TEMPLATE = (HERE.parents[1] / "chat_template.jinja").read_text(encoding="utf-8")
MIN_PIXELS, MAX_PIXELS = 160 * 160, 224 * 224

TEXT = {"attention_bias": False, "head_dim": 64, "hidden_act": "silu", "hidden_size": 192, "intermediate_size": 512,
        "max_position_embeddings": 4096, "num_attention_heads": 4, "num_hidden_layers": 6, "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06, "vocab_size": VOCABULARY, "initializer_range": 0.02}
MROPE = {"mrope_interleaved": True, "mrope_section": [12, 10, 10], "rope_type": "default"}
MIDDLE = 3  # the layer behind which the text side should know what a question is about
THETA = 5000000
VISION = {"deepstack_visual_indexes": [2, 4], "depth": 7, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 96,
          "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 288, "num_heads": 3,
          "num_position_embeddings": 256, "out_hidden_size": 192, "patch_size": 16, "spatial_merge_size": 2,
          "temporal_patch_size": 2}


def corpus_text() -> str:
    """What the tokenizer is trained on: the questions and answers, and some general text."""
    rng = random.Random(77)
    lines = []
    while len(lines) < 12000:
        kind = rng.choice(list(questions.FITTING))
        scene = world.make_scene(rng, kind, 192, 192, False)
        other = world.make_scene(rng, "few", 192, 192, False)
        skill = rng.choice([*questions.FITTING[kind], "two", "other"])
        for q, a in questions.ask(rng, skill, [scene, other]) or []:
            lines += [q, a]
    lines += ["system\nuser\nassistant\n"] * 3000
    return "\n".join(lines) + "\n" + training_text()


def write_files(folder: Path) -> None:
    """A hub checkpoint's folder without its weights."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = tokenizer_files.write(folder, MERGES, "pairs", None, corpus_text())

    def put(name: str, value: dict) -> None:
        (folder / name).write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    put("chat_template.json", {"chat_template": TEMPLATE})
    text = TEXT | {"attention_dropout": 0.0, "bos_token_id": ids["<|endoftext|>"], "dtype": "float32",
                   "eos_token_id": ids["<|im_end|>"], "model_type": "qwen3_vl_text", "rope_scaling": MROPE,
                   "rope_theta": THETA, "use_cache": True}
    put("config.json", {
        "architectures": ["Qwen3VLForConditionalGeneration"], "image_token_id": ids["<|image_pad|>"],
        "model_type": "qwen3_vl", "text_config": text, "tie_word_embeddings": False,
        "transformers_version": "4.57.0.dev0", "video_token_id": ids["<|video_pad|>"],
        "vision_config": VISION | {"model_type": "qwen3_vl"}, "vision_end_token_id": ids["<|vision_end|>"],
        "vision_start_token_id": ids["<|vision_start|>"]})
    put("generation_config.json", {
        "bos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"], "do_sample": False,
        "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]], "top_k": 20, "top_p": 0.8,
        "repetition_penalty": 1.0, "temperature": 0.7, "transformers_version": "4.56.0"})
    common = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
              "processor_class": "Qwen3VLProcessor"}
    put("preprocessor_config.json", {"size": {"longest_edge": MAX_PIXELS, "shortest_edge": MIN_PIXELS}} | common
        | {"image_processor_type": "Qwen2VLImageProcessorFast"})
    put("video_preprocessor_config.json", {"size": {"longest_edge": 8 * MAX_PIXELS, "shortest_edge": MIN_PIXELS}} | common
        | {"video_processor_type": "Qwen3VLVideoProcessor"})


def build(folder: Path) -> Qwen3VLForConditionalGeneration:
    """The model of the folder's config.json, with random weights."""
    config = Qwen3VLConfig.from_pretrained(folder)
    model = Qwen3VLForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2 and "embed" not in name:
                parameter.normal_(0, 0.6 / parameter[0].numel() ** 0.5)
        model.model.language_model.embed_tokens.weight.normal_(0, 0.5)
        model.model.visual.pos_embed.weight.normal_(0, 0.2)
        model.model.visual.patch_embed.proj.weight.normal_(0, 0.8 / 1536**0.5)
        model.lm_head.weight.normal_(0, 0.02)
        for name, parameter in model.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight")) or "blocks" in name and "fc2.weight" in name:
                parameter.mul_(0.3)
    return model


def patches(pixels: torch.Tensor) -> torch.Tensor:
    """[B, H, W, 3] u8 to [B, H/16 * W/16, 768], in 2 x 2 block order, one temporal slice (both are the same)."""
    b, h, w, _ = pixels.shape
    x = pixels.view(b, h // 32, 2, 16, w // 32, 2, 16, 3).permute(0, 1, 4, 2, 5, 7, 3, 6)
    return (x.reshape(b, (h // 16) * (w // 16), 768).float() - 127.5) / 127.5


def block_coordinates(gh: int, gw: int) -> torch.Tensor:
    """[patches, 2]: row and column of every patch, in 2 x 2 block order."""
    row, column = torch.meshgrid(torch.arange(gh), torch.arange(gw), indexing="ij")
    both = torch.stack([row, column], -1).view(gh // 2, 2, gw // 2, 2, 2).permute(0, 2, 1, 3, 4)
    return both.reshape(-1, 2)


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    f = x.float()
    return (f * torch.rsqrt(f.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype) * weight


# The pieces between attention and attention, each compiled once with free sizes.

def vision_in(x, nw, nb, w, b, cos, sin, heads: int):
    h = F.layer_norm(x, (x.shape[-1],), nw, nb, 1e-6)
    q, k, v = F.linear(h, w, b).view(*x.shape[:2], 3, heads, -1).unbind(2)
    return turn(q, cos, sin).transpose(1, 2), turn(k, cos, sin).transpose(1, 2), v.transpose(1, 2)


def vision_out(x, a, pw, pb, nw, nb, w1, b1, w2, b2):
    x = x + F.linear(a.transpose(1, 2).flatten(2), pw, pb)
    h = F.layer_norm(x, (x.shape[-1],), nw, nb, 1e-6)
    return x + F.linear(F.gelu(F.linear(h, w1, b1), approximate="tanh"), w2, b2)


def text_in(x, nw, qw, kw, vw, qn, kn, cos, sin):
    h = rms(x, nw)
    q, k, v = (F.linear(h, w).view(x.shape[0], -1, 64) for w in (qw, kw, vw))
    return turn(rms(q, qn), cos, sin), turn(rms(k, kn), cos, sin), v


def text_out(x, a, ow, nw, gw, uw, dw):
    x = x + F.linear(a, ow)
    h = rms(x, nw)
    return x + F.linear(F.silu(F.linear(h, gw)) * F.linear(h, uw), dw)


def attend(q, k, v, mask):
    """[..., L, d] each; `mask` is added to the scores. Plain products: at these sizes faster than the fused kernel's backward."""
    scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
    return (scores + mask).softmax(-1).to(v.dtype) @ v


class Fast:
    """The model's forward over one picture (or two) a row and groups of branches behind it.

    `groups` are ids [B, K, L]: K conversations of L tokens, each of which sees the prefix and itself only.
    """

    def __init__(self, model: Qwen3VLForConditionalGeneration, compiled: bool):
        self.model = model
        wrap = (lambda f: torch.compile(f, dynamic=True)) if compiled else (lambda f: f)
        self.vision_in, self.vision_out, self.text_in, self.text_out, self.attend = map(wrap, (vision_in, vision_out, text_in, text_out, attend))
        self.tables: dict = {}

    def grid(self, gh: int, gw: int, dtype) -> tuple:
        """Position-table rows and weights, and the rotation, of one grid of patches."""
        if (gh, gw) not in self.tables:
            at = block_coordinates(gh, gw)
            side = int(VISION["num_position_embeddings"] ** 0.5)
            y = at[:, 0] * (side - 1) / max(gh - 1, 1)
            x = at[:, 1] * (side - 1) / max(gw - 1, 1)
            y0, x0 = y.floor().long(), x.floor().long()
            y1, x1 = (y0 + 1).clamp(max=side - 1), (x0 + 1).clamp(max=side - 1)
            dy, dx = y - y0, x - x0
            index = torch.stack([y0 * side + x0, y0 * side + x1, y1 * side + x0, y1 * side + x1])
            weight = torch.stack([(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx])
            d = VISION["hidden_size"] // VISION["num_heads"]
            inverse = 10000.0 ** (-torch.arange(0, d // 2, 2).float() / (d // 2))
            angle = torch.cat([at[:, :1] * inverse, at[:, 1:] * inverse], -1)[None, :, None, :]
            self.tables[gh, gw] = index, weight.to(dtype)[..., None], angle.cos().to(dtype), angle.sin().to(dtype)
        return self.tables[gh, gw]

    def see(self, pixels: torch.Tensor) -> tuple:
        """[B, H, W, 3] u8 to merged tokens [B, N, H] and the list of DeepStack features."""
        v = self.model.model.visual
        weight = v.patch_embed.proj.weight
        dtype = weight.dtype
        b, h, w, _ = pixels.shape
        index, share, cos, sin = self.grid(h // 16, w // 16, dtype)
        one = weight.sum(2).flatten(1)
        x = F.linear(patches(pixels).to(dtype), one, v.patch_embed.proj.bias)
        x = x + (v.pos_embed.weight[index] * share).sum(0)
        features = []
        for n, block in enumerate(v.blocks):
            q, k, value = self.vision_in(x, block.norm1.weight, block.norm1.bias, block.attn.qkv.weight,
                                         block.attn.qkv.bias, cos, sin, VISION["num_heads"])
            a = self.attend(q, k, value, torch.zeros(1, 1))
            x = self.vision_out(x, a, block.attn.proj.weight, block.attn.proj.bias, block.norm2.weight, block.norm2.bias,
                                block.mlp.linear_fc1.weight, block.mlp.linear_fc1.bias, block.mlp.linear_fc2.weight,
                                block.mlp.linear_fc2.bias)
            if n in VISION["deepstack_visual_indexes"]:
                merger = v.deepstack_merger_list[VISION["deepstack_visual_indexes"].index(n)]
                features.append(merger(x).view(b, -1, TEXT["hidden_size"]))
        return v.merger(x).view(b, -1, TEXT["hidden_size"]), features

    def answer(self, head: torch.Tensor, seen: list, sizes: list, groups: list, vision_ids: tuple) -> tuple:
        """Of each group the hidden states [B, K, L, H] after the last norm, and those after layer `MIDDLE`; then the pictures'
        tokens [B, N, H] of each picture after the second layer.

        `head`: ids before the first picture. `seen`: per picture what `see` gave. `sizes`: per picture (rows, columns)
        of merged tokens. `vision_ids`: ids of vision_start and vision_end.
        """
        text = self.model.model.language_model
        dtype = text.embed_tokens.weight.dtype
        b = groups[0].shape[0]
        start, end = (text.embed_tokens.weight[i].expand(b, 1, -1) for i in vision_ids)
        parts, where, positions, at = [text.embed_tokens(head).expand(b, -1, -1)], [], [], 0
        positions.append(torch.arange(len(head)).expand(3, -1))
        length = at = len(head)
        for (merged, _), (rows, columns) in zip(seen, sizes):
            parts += [start, merged, end]
            where.append(length + 1)
            positions.append(torch.full((3, 1), at))
            r, c = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
            positions.append(torch.stack([torch.zeros_like(r), r, c]).view(3, -1) + at + 1)
            at += 1 + max(rows, columns)
            positions.append(torch.full((3, 1), at))
            at += 1
            length += merged.shape[1] + 2
        prefix = torch.cat(parts, 1)
        p, h = length, TEXT["hidden_size"]
        ids = [g.reshape(-1) for g in groups]
        x = torch.cat([prefix.reshape(b * p, h), text.embed_tokens(torch.cat(ids))])
        all_positions = [torch.cat(positions, 1).repeat(1, b)]
        for g in groups:
            all_positions.append((at + torch.arange(g.shape[2])).repeat(3, b * g.shape[1]))
        cos, sin = self.rotation(torch.cat(all_positions, 1), dtype)
        future = lambda n: torch.full((n, n), -1e4).triu(1)  # noqa: E731
        masks = [torch.cat([torch.zeros(g.shape[2], p), future(g.shape[2])], 1) for g in groups]
        bounds = [b * p, *(g.numel() for g in groups)]
        extra = []
        for level in range(len(seen[0][1]) if seen else 0):
            pieces, done = [], 0
            for (_, features), place in zip(seen, where):
                pieces += [torch.zeros(b, place - done, h, dtype=dtype), features[level]]
                done = place + features[level].shape[1]
            pieces.append(torch.zeros(b, p - done, h, dtype=dtype))
            extra.append(torch.cat(pieces, 1).reshape(b * p, h))
        for n, layer in enumerate(text.layers):
            a = layer.self_attn
            q, k, v = self.text_in(x, layer.input_layernorm.weight, a.q_proj.weight, a.k_proj.weight, a.v_proj.weight,
                                   a.q_norm.weight, a.k_norm.weight, cos, sin)
            q, k, v = q.split(bounds), k.split(bounds), v.split(bounds)
            qp, kp, vp = (t[0].view(b, p, -1, 64).transpose(1, 2) for t in (q, k, v))
            out = [self.attend(qp, kp, vp, future(p)).transpose(1, 2).reshape(b * p, -1)]
            for i, g in enumerate(groups, 1):
                _, kk, ll = g.shape
                qb, kb, vb = (t[i].view(b, kk, ll, -1, 64).transpose(2, 3) for t in (q, k, v))
                kb, vb = (torch.cat([t.unsqueeze(1).expand(-1, kk, -1, -1, -1), u], 3).flatten(0, 1) for t, u in ((kp, kb), (vp, vb)))
                o = self.attend(qb.flatten(0, 1), kb, vb, masks[i - 1])
                out.append(o.transpose(1, 2).reshape(b * kk * ll, -1))
            x = self.text_out(x, torch.cat(out), a.o_proj.weight, layer.post_attention_layernorm.weight,
                              layer.mlp.gate_proj.weight, layer.mlp.up_proj.weight, layer.mlp.down_proj.weight)
            if n < len(extra):
                x = torch.cat([x[:b * p] + extra[n], x[b * p:]])
            if n == 1:
                early = [x[:b * p].view(b, p, -1)[:, w:w + merged.shape[1]] for w, (merged, _) in zip(where, seen)]
            if n == MIDDLE:
                middle = [t.view(*g.shape, -1) for t, g in zip(x.split(bounds)[1:], groups)]
        return [rms(t, text.norm.weight).view(*g.shape, -1) for t, g in zip(x.split(bounds)[1:], groups)], middle, early

    def rotation(self, positions: torch.Tensor, dtype) -> tuple:
        """Interleaved M-RoPE: positions [3, T] to cos and sin [T, 1, 32]."""
        inverse = float(THETA) ** (-torch.arange(0, 64, 2).float() / 64)
        k = torch.arange(32)
        section = MROPE["mrope_section"]
        axis = torch.where((k % 3 == 1) & (k < 3 * section[1]), 1, torch.where((k % 3 == 2) & (k < 3 * section[2]), 2, 0))
        angle = (positions[axis].T.float() * inverse)[:, None, :]
        return angle.cos().to(dtype), angle.sin().to(dtype)


def check() -> None:
    """`Fast` against the model's own forward, in f32: one branch at a time, one and two pictures."""
    import tempfile

    from transformers import PreTrainedTokenizerFast

    torch.manual_seed(5)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_files(folder)
        model = build(folder).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    vs, ve, pad = tokenizer.convert_tokens_to_ids(["<|vision_start|>", "<|vision_end|>", "<|image_pad|>"])
    fast = Fast(model, compiled=False)
    head = torch.tensor(tokenizer("<|im_start|>user\n").input_ids)
    worst = 0.0
    for sizes in ([(5, 6)], [(6, 5), (4, 7)], []):
        pictures = [torch.randint(0, 256, (2, 32 * r, 32 * c, 3), dtype=torch.uint8) for r, c in sizes]
        groups = [torch.randint(300, 1000, (2, 3, 11)), torch.randint(300, 1000, (2, 2, 23))]
        with torch.no_grad():
            ours = [model.lm_head(x) for x in fast.answer(head, [fast.see(p) for p in pictures], sizes, groups, (vs, ve))[0]]
            for g, mine in zip(groups, ours):
                for row in range(2):
                    for branch in range(g.shape[1]):
                        ids = head.tolist()
                        for r, c in sizes:
                            ids += [vs, *[pad] * (r * c), ve]
                        ids = torch.tensor([ids + g[row, branch].tolist()])
                        extra = {}
                        if sizes:
                            rows = [patches(p[row:row + 1])[0].view(-1, 3, 1, 256).expand(-1, 3, 2, 256).reshape(-1, 1536) for p in pictures]
                            extra = {"pixel_values": torch.cat(rows), "mm_token_type_ids": (ids == pad).int(),
                                     "image_grid_thw": torch.tensor([[1, 2 * r, 2 * c] for r, c in sizes])}
                        model.model.rope_deltas = None
                        theirs = model(input_ids=ids, **extra).logits[0, -g.shape[2]:]
                        worst = max(worst, (theirs - mine[row, branch]).abs().max().item())
    print(f"largest difference to the model's own forward: {worst:.2e}; logits up to {theirs.abs().max():.1f}")
    if worst > 2e-4:
        raise SystemExit("the fast forward is not the model's")


if __name__ == "__main__":
    check()
