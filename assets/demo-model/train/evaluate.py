"""Scores a model on held-out pictures through Ocelli's own engine.

    python evaluate.py --ocelli target/release/ocelli --model assets/demo-model --questions 500 --out scores.json

Pictures: shades from bands that training leaves out, any size from 160 to 900 pixels a side, aspect ratios up to 1:2, seeds of
their own; refusals also by words and forms that training leaves out. Answers are greedy unless `--sampled`. An answer counts when
it is the expected text to the letter; a box when it is the JSON asked for, its label is right and IoU >= 0.5; a description
when the things it names are exactly the things there, in any order; a follow-up when every turn after the first is right.
"""

import argparse
import json
import random
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from PIL import Image

import questions
import world

KINDS = {"name": ["one", "few", "few", "inside"], "exists": ["one", "few", "many", "inside"], "count": ["few", "many", "many", "many"],
         "relation": ["few", "few", "inside"], "two": ["few", "many"], "follow": ["one", "few", "many", "inside", "text"],
         "describe": ["one", "few", "many", "inside", "text"], "box": ["one", "few", "inside"], "read": ["text"], "word": ["word"],
         "other": ["one", "few", "many", "inside", "text"]}

# Different questions of one picture, at most: its tokens are computed once for all of them.
A_PICTURE = {"name": 2, "exists": 3, "count": 3, "relation": 3, "two": 3, "follow": 2}
SAMPLED = ["--temperature", "0.7", "--top-p", "0.8", "--top-k", "20", "--seed", "1"]


def any_size(rng: random.Random) -> tuple:
    ratio = rng.uniform(-1, 1)
    area = rng.uniform(160, 640) ** 2
    width, height = (area * 2**ratio) ** 0.5, (area / 2**ratio) ** 0.5
    return max(160, round(width)), max(160, round(height))


def make_set(rng: random.Random, skill: str, count: int, folder: Path) -> list:
    """Rows {id, messages} for the program, with `turns` and `scenes` for the scoring."""
    rows: list = []
    scenes: list = []
    left = 0
    asked: set = set()
    while len(rows) < count:
        if left == 0:
            scenes = [world.make_scene(rng, rng.choice(KINDS[skill]), *any_size(rng), True) for _ in range(2 if skill == "two" else 1)]
            left = 4 * A_PICTURE.get(skill, 1)  # tries
            asked.clear()
        left -= 1
        turns = questions.ask(rng, skill, scenes, held_out=True)
        if not turns or turns[-1][0].lower().strip("?.") in asked:
            continue
        asked.add(turns[-1][0].lower().strip("?."))
        if len(asked) >= A_PICTURE.get(skill, 1):
            left = 0
        name = f"{skill}-{len(rows)}"
        content = []
        if skill != "other" or rng.random() < 0.7:  # refusals with pictures and without
            for i, scene in enumerate(scenes):
                file = folder / f"{name}-{i}.png"
                Image.fromarray(world.draw(scene)).save(file, compress_level=1)
                content.append({"type": "image", "image": str(file)})
        content.append({"type": "text", "text": turns[0][0]})
        messages = [{"role": "user", "content": content}, *({"role": "user", "content": q} for q, _ in turns[1:])]
        rows.append({"id": name, "messages": messages, "turns": turns, "skill": skill})
    return rows


def parse_box(text: str) -> tuple | None:
    match = re.fullmatch(r"```json\n(.*)\n```", text, re.S)
    try:
        found = json.loads(match.group(1))
        (entry,) = found
        box = [float(v) for v in entry["bbox_2d"]]
        return (box, entry["label"]) if len(box) == 4 else None
    except (AttributeError, ValueError, KeyError, TypeError):
        return None


def overlap(a: list, b: list) -> float:
    w = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    h = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - w * h
    return w * h / union if union > 0 else 0.0


def named(text: str) -> Counter:
    return Counter(re.findall(r"(?:letter|digit|word) \w+ in \w+|\w+ (?:" + "|".join(world.SHAPES) + r")\b", text.lower()))


def right(row: dict, answers: list) -> bool:
    if len(answers) != len(row["turns"]):
        return False
    expected = [a for _, a in row["turns"]]
    if row["skill"] == "box":
        said, wanted = parse_box(answers[0]), parse_box(expected[0])
        return said is not None and said[1] == wanted[1] and overlap(said[0], wanted[0]) >= 0.5
    if row["skill"] == "describe":
        return named(answers[0]) == named(expected[0]) and ("inside" in answers[0]) == ("inside" in expected[0])
    if row["skill"] == "follow":
        return answers[1:] == expected[1:]
    return answers == expected


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ocelli", type=Path, required=True)
    arguments.add_argument("--model", required=True)
    arguments.add_argument("--questions", type=int, default=500, help="a skill")
    arguments.add_argument("--skills", nargs="*", default=questions.SKILLS)
    arguments.add_argument("--seed", default="evaluation 1")
    arguments.add_argument("--sampled", action="store_true", help="drawn, with Qwen's own settings, instead of greedy")
    arguments.add_argument("--out", type=Path, help="scores as JSON")
    arguments.add_argument("--wrong", type=int, default=0, help="wrong answers of each skill to print")
    options = arguments.parse_args()
    scores: dict = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [r for s in options.skills for r in make_set(random.Random(f"{options.seed} {s}"), s, options.questions, folder)]
        asked = folder / "questions.jsonl"
        asked.write_text("".join(json.dumps({"id": r["id"], "messages": r["messages"]}) + "\n" for r in rows))
        command = [options.ocelli, "batch", asked, "--out", folder / "answers.jsonl", "--model", options.model, "--max-tokens", "96"]
        subprocess.run([*command, *(SAMPLED if options.sampled else ["--greedy"])], check=True)
        answers = {a["id"]: a["answers"] for a in map(json.loads, (folder / "answers.jsonl").read_text().splitlines())}
    for skill in options.skills:
        mine = [r for r in rows if r["skill"] == skill]
        good = [right(r, answers[r["id"]]) for r in mine]
        last = Counter(r["turns"][-1][1] for r in mine)
        scores[skill] = {"questions": len(mine), "right": round(sum(good) / len(mine), 4),
                         "most_frequent_answer": round(last.most_common(1)[0][1] / len(mine), 4)}
        if skill in ("count", "relation", "two", "exists", "read"):
            table: dict = {}
            for r, g in zip(mine, good):
                entry = table.setdefault(r["turns"][-1][1], [0, 0])
                entry[0] += g
                entry[1] += 1
            scores[skill]["by_answer"] = {k: f"{a}/{n}" for k, (a, n) in sorted(table.items())} if len(table) < 45 else {}
        shown = 0
        for r, g in zip(mine, good):
            if not g and shown < options.wrong:
                print(skill, [q for q, _ in r["turns"]], "expected", [a for _, a in r["turns"]], "said", answers[r["id"]])
                shown += 1
        print(f"{skill:9} {scores[skill]['right']:7.1%} of {len(mine)}   (always the most frequent answer: {scores[skill]['most_frequent_answer']:.1%})", flush=True)
    if options.out:
        options.out.write_text(json.dumps({"seed": options.seed, "sampled": options.sampled, "skills": scores}, indent=2) + "\n")


if __name__ == "__main__":
    main()
