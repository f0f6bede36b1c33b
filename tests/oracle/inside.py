"""Looking inside: what transformers says of single steps: attentions, hidden states and the logit lens of every layer.

    python inside.py                  fixtures/<checkpoint>/inside, from the checkpoints and cases that are there
"""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import record

HERE = Path(__file__).resolve().parent
FIXTURES = HERE / "fixtures"
TOP = 10

# Checkpoint, case, and the answer's tokens that are looked into in f32; together: GQA by 1, 2 and 4, both head sizes, one, two
# and three DeepStack levels, several pictures, clips, and prompts longer than a page and than a piece of decode attention.
STEPS = {
    "mono": {"wide": (0, 7), "long_text": (0, 20)},
    "ladder": {"wide": (0, 1, 23)},
    "plain": {"mixed": (0, 5, 23)},
    "deep": {"two_pictures": (0, 12)},
}
# In the recipes' weights, one token of each picture case.
RECIPES, RECIPE_TOKEN = ("int8hu", "f16"), 3


def step(oracle: record.Oracle, recipe, prompt: record.Prompt, before: list[int], chosen: int) -> dict:
    """The last position of prompt + before, which chose `chosen`, in one pass over all of them."""
    model = oracle.models[recipe]
    text = model.model.language_model
    ids = torch.cat([prompt.ids, torch.tensor([before], dtype=prompt.ids.dtype)], dim=1)
    positions, delta = oracle.walk(ids, prompt)
    assert delta == prompt.delta
    entered, left = [], []

    def listen(into):
        return lambda module, args, kwargs: into.append((args[0] if args else kwargs["hidden_states"])[0, -1])

    hooks = [layer.register_forward_pre_hook(listen(entered), with_kwargs=True) for layer in text.layers]
    hooks.append(text.norm.register_forward_pre_hook(listen(left), with_kwargs=True))
    got = model(input_ids=ids, position_ids=positions, use_cache=False, output_attentions=True,
                output_hidden_states=True, mm_encoder_outputs=dict(oracle.features(recipe, prompt)))
    for hook in hooks:
        hook.remove()
    # [layers, heads, length]: the last query of each.
    attention = torch.stack([a[0, :, -1] for a in got.attentions])
    # After each layer, DeepStack included. transformers' own list has what leaves a layer before DeepStack is added, which
    # is the same in a row of text, and in the last place what the final norm made of it.
    hidden = torch.stack(entered[1:] + left)
    assert len(got.hidden_states) == len(hidden) + 1
    for mine, theirs in zip(hidden[:-1], got.hidden_states[1:-1]):
        assert torch.equal(mine, theirs[0, -1])
    lens = model.lm_head(text.norm(hidden))
    assert torch.allclose(lens[-1], got.logits[0, -1], atol=1e-4)
    logprobs = lens.double().log_softmax(-1)
    top = logprobs.topk(TOP)
    own = logprobs[:, chosen]
    out = {"attention": attention, "hidden": hidden, "top_logprobs": top.values, "chosen_logprob": own,
           "entropy": -(logprobs.exp() * logprobs).sum(-1)}
    out = {k: v.to(torch.float32) for k, v in out.items()}
    return out | {"top_ids": top.indices, "chosen_rank": (logprobs > own[:, None]).sum(-1)}


def write(oracle: record.Oracle) -> None:
    """fixtures/<checkpoint>/inside/<case>.safetensors: `<recipe>.<token>.<what>`."""
    name = oracle.spec.name
    folder = oracle.fixtures / name / "inside"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for case, tokens in STEPS[name].items():
        story = json.loads((oracle.fixtures / name / "cases" / f"{case}.json").read_text())
        prompt, greedy = oracle.prompt(story["messages"], story["options"]), story["greedy"]
        assert prompt.ids[0].tolist() == story["input_ids"]
        recipes = RECIPES if prompt.pixels is not None else ()
        tensors = {}
        for recipe, token in [(None, t) for t in tokens] + [(r, RECIPE_TOKEN) for r in recipes]:
            got = step(oracle, recipe, prompt, greedy[:token], greedy[token])
            assert recipe or int(got["top_ids"][-1, 0]) == greedy[token]
            tensors |= {f"{recipe or 'f32'}.{token}.{what}": value for what, value in got.items()}
        path = folder / f"{case}.safetensors"
        save_file({k: v.detach().clone().contiguous() for k, v in sorted(tensors.items())}, path)
        os.chmod(path, 0o644)
        print(f"{name}/inside/{case}", flush=True)


def main() -> None:
    import checkpoints

    for spec in checkpoints.SPECS:
        write(record.Oracle(spec, FIXTURES))


if __name__ == "__main__":
    main()
