"""How far known mistakes move the results: a fixture in which a mistake does not show is of no use.

    python sensitivity.py [CHECKPOINT ...]
"""

import sys
from contextlib import contextmanager
from pathlib import Path

import torch

import checkpoints
import record
from cases import cases
from make_fixtures import FIXTURES, wordings

PICTURES = ("square", "wide", "two_turns", "video", "mixed")


@contextmanager
def swapped(owner, name: str, value):
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


def blocked(rotary):
    """T, H, W frequencies in blocks instead of interleaved."""
    def recompose(freq):
        parts = torch.split(freq, list(rotary.mrope_section), dim=-1)
        mixed = torch.cat([part[i] for i, part in enumerate(parts)], dim=-1)
        return torch.cat((mixed, mixed), dim=-1)
    return recompose


def text_only(rotary):
    """The T position for every frequency."""
    return lambda freq: torch.cat((freq[0], freq[0]), dim=-1)


def run(oracle, prompt):
    prompt.features.clear()
    logits = oracle.forward(None, prompt, prompt.ids, prompt.positions)
    got = oracle.features(None, prompt)
    embeds = torch.cat([torch.cat(list(g.pooler_output)) for g in got.values()])
    deep = torch.cat([torch.cat(list(f)) for g in got.values() for f in g.deepstack_features])
    return logits[-1], embeds, deep


def mistakes(oracle):
    model = oracle.models[None].model
    visual, text = model.visual, model.language_model
    erf, tanh = torch.nn.GELU(), torch.nn.GELU(approximate="tanh")
    yield "blocked M-RoPE", [(text.rotary_emb, "recomposition_frequencies", blocked(text.rotary_emb))]
    yield "no M-RoPE (T only)", [(text.rotary_emb, "recomposition_frequencies", text_only(text.rotary_emb))]
    yield "erf GELU in the blocks", [(b.mlp, "act_fn", erf) for b in visual.blocks]
    yield "tanh GELU in the mergers", [(m, "act_fn", tanh) for m in (visual.merger, *visual.deepstack_merger_list)]
    yield "align_corners off", [(visual, "interpolation_align_corners", False)]
    yield "no DeepStack", [(text, "_deepstack_process", lambda hidden, mask, features: hidden)]
    yield "no vision RoPE", [(visual.rotary_pos_emb, "forward", lambda x, ids: no_rope(visual, ids))]
    yield "text attention scale off by 2", [(l.self_attn, "scaling", l.self_attn.scaling / 2) for l in text.layers]
    yield "RMS eps 1e-5", [(n, "variance_epsilon", 1e-5) for l in text.layers
                           for n in (l.input_layernorm, l.self_attn.q_norm, l.self_attn.k_norm)]


def no_rope(visual, ids):
    cos = torch.ones(ids.shape[0], visual.blocks[0].attn.head_dim)
    return cos, torch.zeros_like(cos)


def main() -> None:
    names = sys.argv[1:] or [s.name for s in checkpoints.SPECS]
    for name in names:
        oracle = record.Oracle(checkpoints.spec(name), Path(FIXTURES))
        chosen = wordings().get(name, {})
        for case, messages, options in cases(name, lambda c: chosen.get(c, 0), oracle.count_tokens):
            if case not in PICTURES:
                continue
            prompt = oracle.prompt(messages, options)
            right = run(oracle, prompt)
            print(f"\n{name}/{case}: largest change of logits (last position), merged rows, DeepStack rows")
            for what, swaps in mistakes(oracle):
                stack = [swapped(*swap) for swap in swaps]
                for s in stack:
                    s.__enter__()
                wrong = run(oracle, prompt)
                for s in reversed(stack):
                    s.__exit__(None, None, None)
                print(f"  {what:32}" + "".join(f"{(a - b).abs().max():12.2e}" for a, b in zip(right, wrong)))
            stale_delta(oracle, prompt)


def stale_delta(oracle, prompt) -> None:
    prompt.features.clear()
    ids, _, _, _ = oracle.greedy(None, prompt, steps=6)
    delta = prompt.delta
    prompt.delta = 0
    stale, _, _, _ = oracle.greedy(None, prompt, steps=6)
    prompt.delta = delta
    right, wrong = (teacher(oracle, prompt, ids, shift) for shift in (0, -delta))
    print(f"  {'decode without rope_delta':32}{(right - wrong).abs().max():12.2e}   greedy {ids} or {stale}")


def teacher(oracle, prompt, ids, shift):
    """Logits of the answer's positions when these are moved by `shift`."""
    whole = torch.cat([prompt.ids, torch.tensor([ids])], dim=1)
    positions, _ = oracle.walk(whole, prompt)
    positions[..., prompt.ids.shape[1]:] += shift
    return oracle.forward(None, prompt, whole, positions)[-len(ids):]


if __name__ == "__main__":
    main()
