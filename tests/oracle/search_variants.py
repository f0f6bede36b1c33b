"""Finds, for each case, the wording whose greedy answers are far from ties under every recipe, and writes variants.json.

    python search_variants.py [CHECKPOINT ...]

Run it after a change of seeds, gains or wordings, then run make_fixtures.py.
"""

import json
import sys

import checkpoints
import pictures
import quantise
import record
from cases import WORDINGS, cases
from make_fixtures import FIXTURES, HERE, wordings

WANTED = {None: 0.1, "f16": 0.08, "int8lin": 0.06, "int8hu": 0.06}
LEAST_DISTINCT = 10


def score(oracle, messages, options, best: float) -> float:
    """The smallest of margin minus WANTED over the recipes; stops as soon as it cannot beat `best`."""
    prompt, worst = oracle.prompt(messages, options), 1.0
    for recipe in (None, *quantise.RECIPES):
        ids, margins, _, _ = oracle.greedy(recipe, prompt, floor=WANTED[recipe] + min(best, 0.0))
        worst = min(worst, min(margins) - WANTED[recipe])
        if worst <= best:
            return -1.0
        if len(set(ids)) < LEAST_DISTINCT or {oracle.image_id, oracle.video_id} & set(ids):
            return -1.0
    return worst


def search(name: str) -> dict[str, int]:
    spec = checkpoints.spec(name)
    checkpoints.write(spec, FIXTURES / name / "model")
    oracle = record.Oracle(spec, FIXTURES)
    best: dict[str, tuple[float, int]] = {}
    for number in range(WORDINGS):
        for case, messages, options in cases(name, lambda _: number, oracle.count_tokens):
            at = best.get(case, (-0.99, 0))
            if at[0] < 0:
                best[case] = max(at, (score(oracle, messages, options, at[0]), number), key=lambda pair: pair[0])
        if all(value >= 0 for value, _ in best.values()):
            break
    for case, (value, number) in best.items():
        print(f"{name}/{case}: wording {number}, {value:+.3f}", flush=True)
    return {case: number for case, (_, number) in best.items()}


def main() -> None:
    pictures.make(FIXTURES / "pictures")
    for name in sys.argv[1:] or [s.name for s in checkpoints.SPECS]:
        found = wordings() | {name: search(name)}
        (HERE / "variants.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
