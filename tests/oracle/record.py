"""Runs a checkpoint with Hugging Face transformers in f32 on the CPU and records every stage."""

import copy
import hashlib
import json
import logging
import os
from dataclasses import dataclass, field

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, DynamicCache, Qwen3VLConfig, Qwen3VLForConditionalGeneration

import quantise

STEPS = 24
ROWS = 48
CLIP_FPS = 2.0
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)
logging.getLogger("transformers").setLevel(logging.ERROR)


def stored_weights(model_dir) -> dict[str, torch.Tensor]:
    """The checkpoint's tensors in f32, names with the leading "model."."""
    tensors = {}
    for path in sorted(model_dir.glob("*.safetensors")):
        for name, value in load_file(path).items():
            full = name if name.startswith(("model.", "lm_head.")) else "model." + name
            tensors[full] = value.to(torch.float32)
    return tensors


def digest(tensor: torch.Tensor) -> str:
    return hashlib.sha256(tensor.to(torch.float32).contiguous().numpy().astype("<f4").tobytes()).hexdigest()


def spread(count: int, at_most: int = ROWS) -> torch.Tensor:
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, at_most)).round().astype(np.int64)))


@dataclass
class Prompt:
    text: str
    ids: torch.Tensor
    image_grid: torch.Tensor | None = None
    video_grid: torch.Tensor | None = None
    pixels: torch.Tensor | None = None
    video_pixels: torch.Tensor | None = None
    positions: torch.Tensor | None = None
    delta: int = 0
    features: dict = field(default_factory=dict)  # recipe's vision weights -> (image outputs, video outputs)


class Oracle:
    def __init__(self, spec, fixtures):
        self.spec, self.fixtures = spec, fixtures
        self.model_dir = fixtures / spec.name / "model"
        self.processor = AutoProcessor.from_pretrained(self.model_dir)
        self.tokenizer = self.processor.tokenizer
        if self.processor.chat_template is None:  # transformers finds one in tokenizer_config.json for the tokenizer only
            self.processor.chat_template = self.tokenizer.chat_template
        config = Qwen3VLConfig.from_pretrained(self.model_dir)
        config._attn_implementation = "eager"
        config.tie_word_embeddings = False  # the head is loaded separately, so that a recipe can give it other values
        config.text_config.tie_word_embeddings = False
        config.dtype = torch.float32
        self.config = config
        self.original = stored_weights(self.model_dir)
        self.models = {}
        for recipe in (None, *quantise.RECIPES):
            model = Qwen3VLForConditionalGeneration._from_config(copy.deepcopy(config), dtype=torch.float32).eval()
            quantise.apply(model, self.original, recipe, spec.tied)
            self.models[recipe] = model
        self.image_id, self.video_id = config.image_token_id, config.video_token_id

    # ---- from messages to ids ----

    def render(self, messages, options, generate=True) -> str:
        extra = {k: options[k] for k in ("tools", "add_vision_id") if k in options}
        return self.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=generate, **extra)

    def count_tokens(self, messages) -> int:
        return len(self.tokenizer(self.render(messages, {}))["input_ids"])

    def load(self, name: str) -> torch.Tensor:
        """A picture as the processor reads it when it is given a path."""
        return self.processor.image_processor.fetch_images(str(self.fixtures / name))

    def prompt(self, messages, options) -> Prompt:
        parts = [p for m in messages if isinstance(m.get("content"), list) for p in m["content"]]
        images = [self.load(p["image"]) for p in parts if p["type"] == "image"]
        clips = [(torch.stack([self.load(f) for f in p["video"]]), p.get("fps", CLIP_FPS))
                 for p in parts if p["type"] == "video"]
        text = rendered = self.render(messages, options)
        out = Prompt("", torch.empty(0))
        if images:
            got = self.processor.image_processor(images=images, return_tensors="pt")
            out.pixels, out.image_grid = got["pixel_values"], got["image_grid_thw"]
            text = self.fill(text, IMAGE_PAD, [IMAGE_PAD * int(g.prod() // 4) for g in out.image_grid])
        metadata = [{"fps": fps, "total_num_frames": len(c), "frames_indices": list(range(len(c)))}
                    for c, fps in clips]
        if clips:
            got = self.processor.video_processor(
                videos=[c for c, _ in clips], do_sample_frames=False, video_metadata=copy.deepcopy(metadata),
                return_tensors="pt")
            out.video_pixels, out.video_grid = got["pixel_values_videos"], got["video_grid_thw"]
            spans = [self.span(g, m) for g, m in zip(out.video_grid, metadata)]
            both = self.fill(text, VIDEO_PAD, spans)
            self.check_processor(rendered, both, images, [c for c, _ in clips], metadata, out)
            if options.get("video_form", "4.57") == "4.57":
                text = self.fill(text, f"<|vision_start|>{VIDEO_PAD}<|vision_end|>", spans)
            else:
                text = both
        elif images:
            self.check_processor(rendered, text, images, None, None, out)
        out.text = text
        out.ids = torch.tensor([self.tokenizer(text)["input_ids"]])
        out.positions, delta = self.walk(out.ids, out)
        out.delta = delta
        return out

    @staticmethod
    def fill(text: str, mark: str, values: list[str]) -> str:
        pieces = text.split(mark)
        assert len(pieces) == len(values) + 1
        return "".join(p + v for p, v in zip(pieces, [*values, ""]))

    def span(self, grid, metadata) -> str:
        """`<t seconds><|vision_start|>pads<|vision_end|>` for each pair of frames."""
        times = self.processor._calculate_timestamps(list(metadata["frames_indices"]), metadata["fps"])
        pads = VIDEO_PAD * int(grid[1] * grid[2] // 4)
        return "".join(f"<{t:.1f} seconds><|vision_start|>{pads}<|vision_end|>" for t in times)

    def check_processor(self, rendered, text, images, clips, metadata, out) -> None:
        """The processor, called as a whole, must give the same ids and pixels (its video form is the 5.x one)."""
        got = self.processor(text=[rendered], images=images or None, videos=clips, do_sample_frames=False,
                             video_metadata=copy.deepcopy(metadata), return_tensors="pt")
        assert got["input_ids"][0].tolist() == self.tokenizer(text)["input_ids"]
        for key, mine in (("pixel_values", out.pixels), ("pixel_values_videos", out.video_pixels),
                          ("image_grid_thw", out.image_grid), ("video_grid_thw", out.video_grid)):
            assert (key in got) == (mine is not None) and (mine is None or torch.equal(got[key], mine)), key

    def walk(self, ids, prompt):
        """position_ids [3, 1, S] and rope_delta."""
        kinds = (ids == self.image_id).int() + 2 * (ids == self.video_id).int()
        if not kinds.any():
            return torch.arange(ids.shape[1]).expand(3, 1, -1).clone(), 0
        positions, delta = self.models[None].model.get_rope_index(
            ids, kinds, image_grid_thw=prompt.image_grid, video_grid_thw=prompt.video_grid)
        return positions, int(delta.item())

    # ---- running ----

    def features(self, recipe, prompt: Prompt) -> dict:
        key = recipe is not None  # every recipe has the same vision weights: f16
        if key not in prompt.features:
            model, got = self.models[recipe].model, {}
            if prompt.pixels is not None:
                got["image"] = model.get_image_features(prompt.pixels, prompt.image_grid, return_dict=True)
            if prompt.video_pixels is not None:
                got["video"] = model.get_video_features(prompt.video_pixels, prompt.video_grid, return_dict=True)
            prompt.features[key] = got
        return prompt.features[key]

    def forward(self, recipe, prompt: Prompt, ids, positions, cache=None):
        """Logits [S, V] of ids that begin with the whole prompt."""
        return self.models[recipe](
            input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=cache is not None,
            mm_encoder_outputs=dict(self.features(recipe, prompt))).logits[0]

    def greedy(self, recipe, prompt: Prompt, steps: int = STEPS, floor: float = -1.0):
        """(ids, margins, top five per step, logits of the prompt's last position); stops early below `floor`."""
        cache = DynamicCache(config=self.config.text_config)
        logits = first = self.forward(recipe, prompt, prompt.ids, prompt.positions, cache)[-1]
        ids, margins, five = [], [], []
        for step in range(steps):
            top = logits.topk(2).values
            token = int(logits.argmax())
            ids.append(token)
            margins.append(float(top[0] - top[1]))
            best = logits.log_softmax(-1).topk(5)
            five.append([[int(i), round(float(p), 5)] for i, p in zip(best.indices, best.values)])
            if margins[-1] < floor or step == steps - 1:
                break
            at = prompt.ids.shape[1] + step + prompt.delta
            logits = self.models[recipe](
                input_ids=torch.tensor([[token]]), position_ids=torch.full((3, 1, 1), at), past_key_values=cache,
                use_cache=True).logits[0, -1]
        return ids, margins, five, first

    def teacher_forced(self, recipe, prompt: Prompt, answer: list[int]) -> dict:
        ids = torch.cat([prompt.ids, torch.tensor([answer])], dim=1)
        positions, delta = self.walk(ids, prompt)
        assert delta == prompt.delta and torch.equal(positions[..., : prompt.ids.shape[1]], prompt.positions)
        logits = self.forward(recipe, prompt, ids, positions)
        top = logits.topk(2).values
        return {"top1": logits.argmax(-1).tolist(),
                "margin": [round(m, 4) for m in (top[:, 0] - top[:, 1]).tolist()]}

    def record(self, messages, options) -> tuple[dict, dict]:
        """The case as (JSON object, tensors)."""
        prompt = self.prompt(messages, options)
        story = self.prompt_record(messages, options, prompt)
        tensors = self.layers(prompt)
        ids, margins, five, logits = self.greedy(None, prompt)
        assert torch.allclose(logits, tensors["logits"], atol=1e-4)
        assert not {self.image_id, self.video_id} & set(ids)
        story |= {"greedy": ids, "greedy_margins": [round(m, 5) for m in margins], "top5_logprobs": five,
                  "teacher_forced": self.teacher_forced(None, prompt, ids), "recipes": {}}
        for recipe in quantise.RECIPES:
            ids, margins, _, logits = self.greedy(recipe, prompt)
            tensors[f"logits_{recipe}"] = logits
            story["recipes"][recipe] = {"greedy": ids, "greedy_margins": [round(m, 5) for m in margins],
                                        "teacher_forced": self.teacher_forced(recipe, prompt, ids)}
        for kind, got in self.features(None, prompt).items():
            embeds = torch.cat(list(got.pooler_output))
            rows = spread(len(embeds))
            tensors[f"{kind}_rows"] = rows
            tensors[f"{kind}_embeds"] = embeds[rows]
            for i, feature in enumerate(got.deepstack_features):
                tensors[f"{kind}_deepstack_{i}"] = torch.cat(list(feature))[rows]
        return story, {k: v.detach().clone().contiguous() for k, v in sorted(tensors.items())}

    def prompt_record(self, messages, options, prompt: Prompt) -> dict:
        def rows(grid):
            return None if grid is None else grid.tolist()

        story = {"messages": messages, "options": options, "prompt_text": prompt.text,
                 "input_ids": prompt.ids[0].tolist(), "image_grid_thw": rows(prompt.image_grid),
                 "video_grid_thw": rows(prompt.video_grid), "position_ids": prompt.positions[:, 0].tolist(),
                 "rope_delta": prompt.delta}
        for name, pixels in (("pixel_values", prompt.pixels), ("pixel_values_videos", prompt.video_pixels)):
            story[f"{name}_shape"] = None if pixels is None else list(pixels.shape)
            story[f"{name}_sha256"] = None if pixels is None else digest(pixels)
        return story

    def layers(self, prompt: Prompt) -> dict:
        """One pass straight from the pixels, as a user of transformers would run it, with every layer listened to."""
        model = self.models[None]
        text, entered, left, hooks = model.model.language_model, [], [], []

        def listen(into):
            return lambda module, args, kwargs: into.append((args[0] if args else kwargs["hidden_states"])[0, -1])

        for layer in text.layers:
            hooks.append(layer.register_forward_pre_hook(listen(entered), with_kwargs=True))
        hooks.append(text.norm.register_forward_pre_hook(listen(left), with_kwargs=True))
        normed = []
        hooks.append(text.norm.register_forward_hook(lambda module, args, output: normed.append(output[0, -1])))
        kinds = (prompt.ids == self.image_id).int() + 2 * (prompt.ids == self.video_id).int()
        model.model.rope_deltas = None
        got = model(input_ids=prompt.ids, attention_mask=torch.ones_like(prompt.ids), pixel_values=prompt.pixels,
                    pixel_values_videos=prompt.video_pixels, image_grid_thw=prompt.image_grid,
                    video_grid_thw=prompt.video_grid, mm_token_type_ids=kinds, use_cache=False)
        for hook in hooks:
            hook.remove()
        return {"layer_inputs_last": torch.stack(entered), "layer_outputs_last": torch.stack(entered[1:] + left),
                "final_norm_last": normed[0], "logits": got.logits[0, -1]}


def write_json(path, value: dict) -> None:
    """One key a line."""
    lines = [f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False, separators=(',', ':'))}" for k, v in value.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_case(folder, name: str, story: dict, tensors: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", story)
    if tensors:
        path = folder / f"{name}.safetensors"
        save_file(tensors, path)
        os.chmod(path, 0o644)
