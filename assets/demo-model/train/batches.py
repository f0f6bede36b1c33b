"""Batches: pictures of one grid, what a tower should see in them, and conversations as ids, made in a process of its own.

A batch is known by its number, its plan and the weights of the skills, so a run can be taken up again anywhere.
"""

import random
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import questions
import world

SHORT, LONG = 22, 62     # tokens of a branch in the two groups
IGNORE = -100
# Rows and columns of merged tokens between 160 x 160 and 224 x 224 pixels; HELD_OUT ones are never trained on.
GRIDS = [(5, 5), (5, 6), (6, 5), (6, 6), (4, 7), (7, 4), (4, 8), (8, 4), (5, 7), (7, 5), (5, 8), (8, 5), (6, 7), (7, 6),
         (7, 7), (4, 9), (9, 4), (6, 8), (8, 6), (3, 9), (9, 3), (5, 9), (9, 5)]
KINDS = {"one": 2, "few": 4, "many": 3, "inside": 2, "text": 1.5, "word": 1.5}

IN_PAIRS = {"one": 5, "few": 3, "many": 1.5, "inside": 0.5, "text": 0.5, "word": 0.3}


def choose(rng: random.Random, weights: dict) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


class Maker:
    def __init__(self, folder: Path, pictures: int, short: int, long: int):
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.pictures, self.short, self.long = pictures, short, long
        self.reply = self.ids("<|im_end|>\n<|im_start|>assistant\n")
        self.next_turn = self.ids("\n<|im_start|>user\n")
        self.end = self.ids("<|im_end|>")
        self.head = self.ids("<|im_start|>user\n")
        self.cache: dict = {}

    def ids(self, text: str) -> list:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def known(self, text: str) -> list:
        if text not in self.cache:
            if len(self.cache) > 50000:
                self.cache.clear()
            self.cache[text] = self.ids(text)
        return self.cache[text]

    def conversation(self, turns: list) -> tuple:
        """ids and labels; only answers and their ends have labels."""
        ids, labels = [], []
        for i, (question, answer) in enumerate(turns):
            asked = ([] if i == 0 else self.next_turn) + self.known(question) + self.reply
            said = self.known(answer) + self.end
            ids += asked + said
            labels += [IGNORE] * len(asked) + said
        return ids, labels

    def make(self, number: int, plan: dict) -> dict:
        """`plan`: seed, held_out, pictures (0, 1 or 2 a row), weights (skill: factor), kinds, dense_only."""
        rng = random.Random(f"{plan['seed']} {number}")
        held_out = plan["held_out"]
        count = plan["pictures"]
        b = plan.get("rows", self.pictures)
        grids = [rng.choice(GRIDS) for _ in range(count)]
        rows = []
        for _ in range(b):
            scenes = []
            for r, c in grids:
                kinds = plan["kinds"] if count == 1 else IN_PAIRS
                scenes.append(world.make_scene(rng, choose(rng, kinds), 32 * c, 32 * r, held_out))
            rows.append(scenes)
        batch = {"grids": grids, "number": number, "head": np.array(self.head)}
        batch["pixels"] = [np.stack([world.draw(row[i]) for row in rows]) for i in range(count)]
        targets = [[world.cells(row[i]) for row in rows] for i in range(count)]
        batch["cells"] = [{key: np.stack([t[key] for t in one]) for key in one[0]} for one in targets]
        if plan.get("dense_only"):
            return batch
        k = [self.short, self.long if count < 2 else 1]
        sizes = [SHORT, LONG]
        ids = [np.zeros((b, k[i], sizes[i]), np.int64) for i in range(2)]
        labels = [np.full((b, k[i], sizes[i]), IGNORE, np.int64) for i in range(2)]
        skills = [np.full((b, k[i]), -1, np.int64) for i in range(2)]
        about = [np.full((b, k[i], 8), -1, np.float32) for i in range(2)]  # see questions.about
        maps = [np.full((b, k[i], 64), -1, np.float32) for i in range(2)]  # see questions.picked: 8 x 8 over the picture
        for row, scenes in enumerate(rows):
            free = [list(range(k[0])), list(range(k[1]))]
            asked = set()
            for _ in range(60):
                if not free[0] and not free[1]:
                    break
                if count == 2:
                    skill = "other" if rng.random() < 0.04 else "two"
                elif count == 0:
                    skill = "other"
                else:
                    fitting = questions.FITTING[scenes[0].kind] | {"other": 0.35}
                    skill = choose(rng, {s: w * plan["weights"].get(s, 1) for s, w in fitting.items()})
                if count == 0 and rng.random() < 0.4:  # a question about a picture, and no picture
                    made = world.make_scene(rng, choose(rng, plan["kinds"]), 192, 192, held_out)
                    turns = questions.ask(rng, choose(rng, questions.FITTING[made.kind]), [made])
                    turns = turns and [(turns[0][0], questions.DEMO)]
                else:
                    turns = questions.ask(rng, skill, scenes, held_out)
                if not turns or turns[0][0] in asked and len(turns) == 1:
                    continue
                i, l = self.conversation(turns)
                if skill == "other" and free[0]:  # the beginning of that long answer decides; the rest is learned soon
                    i, l = (i[:SHORT], l[:SHORT]) if not free[1] or rng.random() < 0.8 else (i, l)
                group = 0 if len(i) <= SHORT and free[0] else 1 if free[1] and len(i) > SHORT else 1 if free[1] and not free[0] else None
                if group is None:
                    continue
                size = sizes[group]
                at = free[group].pop()
                asked.add(turns[0][0])
                i, l = i[:size], l[:size]
                ids[group][row, at, :len(i)] = i
                labels[group][row, at, :len(l)] = l
                skills[group][row, at] = questions.SKILLS.index(skill)
                if count == 1 and len(turns) == 1 and questions.picked is not None:
                    maps[group][row, at] = 0
                    for thing in questions.picked:
                        maps[group][row, at, int(8 * thing.y / scenes[0].height) * 8 + int(8 * thing.x / scenes[0].width)] = 1
                if count == 1 and len(turns) == 1 and 0 < len(questions.about) <= 2:
                    boxes = np.clip(np.array(questions.about, np.float32).reshape(-1), 0, 1)
                    about[group][row, at, :len(boxes)] = boxes
        keep = [i for i in range(2) if k[i]]
        batch |= {"ids": [ids[i] for i in keep], "labels": [labels[i] for i in keep], "skills": [skills[i] for i in keep], "about": [about[i] for i in keep],
                  "maps": [maps[i] for i in keep]}
        return batch


def serve(folder: Path, sizes: tuple, requests, results) -> None:
    """The process: takes (number, plan), gives batches, until it gets None."""
    maker = Maker(folder, *sizes)
    while (request := requests.get()) is not None:
        results.put(maker.make(*request))
