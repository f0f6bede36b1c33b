"""Draws the sample pictures that the window offers, and the pictures and questions of tests/all/demo.

    python samples.py --pictures assets/pictures
    python samples.py --tests tests/all/demo --ocelli target/release/ocelli --model assets/demo-model

The test's questions are held-out ones that the model answers right: they prove that every kernel variant and recipe means the
same, not how good the model is (evaluate.py does that). Their mixture is fixed here, four a skill.
"""

import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import evaluate
import questions
import world
from world import Scene, Thing

A_SKILL = 4


def thing(shape: str, colour: str, rgb: tuple, x: float, y: float, size: float, **more) -> Thing:
    made = Thing(shape, colour, rgb, x, y, size, **more)
    world.place(made)
    return made


def sample_scenes() -> list:
    """(file, title, scene, questions)"""
    red, blue, green, yellow = (214, 40, 40), (38, 84, 200), (40, 140, 70), (250, 214, 50)
    purple, orange, black = (128, 64, 176), (244, 140, 30), (24, 24, 26)
    return [
        ("shapes.png", "Three shapes", Scene(448, 336, (245, 242, 235), [
            thing("circle", "red", red, 92, 110, 118), thing("star", "blue", blue, 232, 226, 140, turn=6),
            thing("triangle", "green", green, 364, 112, 124, turn=-5)]),
         ["Describe the picture.", "What colour is the star?", "Where is the star relative to the circle?", "Give the box of the blue star."]),
        ("count.png", "Hearts and squares", Scene(400, 400, (255, 255, 255), [
            thing("heart", "red", red, 92, 92, 112), thing("heart", "red", red, 300, 84, 104, turn=8),
            thing("square", "yellow", yellow, 204, 204, 104, turn=-7), thing("heart", "red", (196, 30, 44), 96, 312, 108, turn=-6),
            thing("square", "yellow", yellow, 312, 312, 112, turn=5)]),
         ["How many hearts are there?", "How many things are there?", "Is there a blue heart?", "Count the squares."]),
        ("inside.png", "One in another", Scene(360, 440, (228, 234, 240), [
            thing("square", "purple", purple, 172, 170, 248, turn=4), thing("heart", "yellow", yellow, 172, 172, 102, inside=True),
            thing("cross", "orange", orange, 262, 372, 92)]),
         ["What is inside the square?", "Where is the cross?", "Is the cross inside the square?", "Describe the picture."]),
        ("letter.png", "A letter", Scene(384, 288, (40, 46, 58), [thing("letter", "orange", orange, 190, 146, 150, text="K")]),
         ["What letter is this?", "What colour is the letter?"]),
        ("cross.png", "A cross", Scene(320, 320, (250, 244, 246), [thing("cross", "black", black, 168, 152, 170, turn=-8)]),
         ["What is this?", "Is there a circle?", "Locate the cross, output its bbox coordinates in JSON format.", "Who are you?"]),
    ]


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for file, title, scene, asked in sample_scenes():
        Image.fromarray(world.draw(scene, over=3)).save(folder / file, optimize=True)
        entries.append({"file": file, "title": title, "questions": asked})
    (folder / "samples.json").write_text(json.dumps(entries, indent=2) + "\n")


def write_tests(folder: Path, ocelli: Path, model: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    entries = []
    with tempfile.TemporaryDirectory() as name:
        rows = [r for s in questions.SKILLS for r in evaluate.make_set(random.Random(f"tests {s}"), s, 5 * A_SKILL, Path(name))]
        asked = Path(name) / "questions.jsonl"
        asked.write_text("".join(json.dumps({"id": r["id"], "messages": r["messages"]}) + "\n" for r in rows))
        subprocess.run([ocelli, "batch", asked, "--out", Path(name) / "answers.jsonl", "--model", model, "--max-tokens", "96", "--greedy"], check=True)
        answers = {a["id"]: a["answers"] for a in map(json.loads, (Path(name) / "answers.jsonl").read_text().splitlines())}
        for skill in questions.SKILLS:
            good = [r for r in rows if r["skill"] == skill and answers[r["id"]][0] and evaluate.right(r, answers[r["id"]])
                    and (skill == "box" or answers[r["id"]] == [a for _, a in r["turns"]])]
            if len(good) < A_SKILL:
                raise SystemExit(f"{skill}: only {len(good)} of {5 * A_SKILL} are right, {A_SKILL} wanted")
            for row in good[:A_SKILL]:
                files = []
                for part in row["messages"][0]["content"]:
                    if part["type"] == "image":
                        files.append(f"{len(entries):02}-{skill}-{len(files)}.png")
                        picture = Image.open(part["image"])
                        picture.quantize(64, dither=Image.Dither.NONE).save(folder / files[-1], optimize=True)
                turns = []
                for (question, answer) in row["turns"]:
                    if skill == "box":
                        box, label = evaluate.parse_box(answer)
                        turns.append({"question": question, "box": {"label": label, "bbox_2d": [int(v) for v in box]}, "iou": 0.5})
                    else:
                        turns.append({"question": question, "answer": answer})
                entries.append({"picture": files, "turns": turns})
    (folder / "questions.json").write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--pictures", type=Path)
    arguments.add_argument("--tests", type=Path)
    arguments.add_argument("--ocelli", type=Path)
    arguments.add_argument("--model")
    options = arguments.parse_args()
    if options.pictures:
        write_pictures(options.pictures)
    if options.tests:
        write_tests(options.tests, options.ocelli, options.model)


if __name__ == "__main__":
    main()
