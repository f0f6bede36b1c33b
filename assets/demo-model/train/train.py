"""Trains the demo model. Two stages: `see` (the tower alone, dense loss), then `talk` (everything).

    python train.py --out RUN --see-steps 3000 --steps 9000

Goes on where RUN/state.pt ends; writes it every few minutes, RUN/log.jsonl every 50 steps, and at each score the share of
held-out conversations whose every answer token is the most likely one (teacher forcing).
"""

import argparse
import json
import signal
import time
from pathlib import Path

import torch
import torch.multiprocessing as processes
import torch.nn.functional as F

import batches
import model as demo
import questions
import world
from optimiser import Optimiser

WIDTHS = {"shape": len(world.SHAPE_CLASSES), "colour": len(world.COLOUR_CLASSES), "character": len(world.CHARACTERS),
          "owner": 1, "box": 4 * world.BINS}


class DenseHead(torch.nn.Module):
    """Only for training: what each merged token says of the thing it covers. Dropped at export."""

    def __init__(self):
        super().__init__()
        self.dense = torch.nn.Linear(demo.TEXT["hidden_size"], sum(WIDTHS.values()))
        self.dense_about = torch.nn.Linear(demo.TEXT["hidden_size"], 8 * world.BINS)
        self.dense_map = torch.nn.Linear(demo.TEXT["hidden_size"], 64)
        self.dense_picture = torch.nn.Linear(demo.TEXT["hidden_size"], 1)

    def map(self, middle: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Side loss: there it also knows where the things are that the question picks out. [n, H], [n, 64]."""
        x = middle / (middle.float().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt().to(middle.dtype)
        loss = F.binary_cross_entropy_with_logits(self.dense_map(x).float(), wanted.clamp(min=0), reduction="none")
        return (loss * (wanted >= 0)).sum() / max(1, (wanted[:, 0] >= 0).sum()) / 8

    def picture(self, early: list) -> torch.Tensor:
        """Side loss: a picture's tokens know early whether it is the first or the second."""
        loss = torch.zeros(())
        for number, tokens in enumerate(early):
            x = tokens / (tokens.float().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt().to(tokens.dtype)
            said = self.dense_picture(x).float()
            loss = loss + F.binary_cross_entropy_with_logits(said, torch.full_like(said, float(number))) / len(early)
        return loss

    def about(self, middle: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Side loss: behind the middle layer, the last token of a question knows the boxes it is about. [n, H], [n, 8]."""
        x = middle / (middle.float().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt().to(middle.dtype)
        logs = self.dense_about(x).float().view(-1, 8, world.BINS).log_softmax(-1)
        return -(soft(logs, wanted.clamp(min=0)) * (wanted >= 0)).sum() / max(1, (wanted >= 0).sum())

    def forward(self, merged: torch.Tensor) -> dict:
        x = merged / (merged.float().pow(2).mean(-1, keepdim=True) + 1e-6).sqrt().to(merged.dtype)
        return dict(zip(WIDTHS, self.dense(x).float().split(list(WIDTHS.values()), -1)))


def soft(logs: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Log-probability [...] of places in 0..1 between two bins of logs [..., BINS], shared by both."""
    at = place * (world.BINS - 1)
    low = at.floor().long().clamp(max=world.BINS - 2)
    share = at - low
    return logs.gather(-1, low[..., None])[..., 0] * (1 - share) + logs.gather(-1, low[..., None] + 1)[..., 0] * share


def dense_loss(said: dict, cells: dict) -> tuple:
    shape, colour, character = (cells[k].flatten() for k in ("shape", "colour", "character"))
    has = shape > 0
    # Most cells show nothing: they weigh less.
    weight = torch.where(has, 1.0, torch.where(shape == 0, 0.25, 0.0))
    total = weight.sum()
    s = said["shape"].flatten(0, 1)
    c = said["colour"].flatten(0, 1)
    loss = (F.cross_entropy(s, shape.clamp(min=0), reduction="none") * weight).sum() / total
    loss = loss + (F.cross_entropy(c, colour.clamp(min=0), reduction="none") * weight).sum() / total
    owner = said["owner"].flatten()
    loss = loss + 0.5 * (F.binary_cross_entropy_with_logits(owner, cells["owner"].flatten(), reduction="none") * (0.3 + has)).mean()
    place = cells["box"].flatten(0, 1)[has].clamp(0, 1)
    logs = said["box"].flatten(0, 1)[has].view(-1, 4, world.BINS).log_softmax(-1)
    loss = loss - 0.5 * soft(logs, place).mean()
    read = character >= 0
    figures = {"shape": (s.argmax(-1) == shape)[has].float().mean().item(), "colour": (c.argmax(-1) == colour)[has].float().mean().item(),
               "owner": ((owner > 0) == (cells["owner"].flatten() > 0))[has].float().mean().item(),
               "box": (logs.exp() @ torch.linspace(0, 1, world.BINS) - place).abs().mean().item()}
    if read.any():
        letters = said["character"].flatten(0, 1)[read]
        loss = loss + F.cross_entropy(letters, character[read]) * min(1.0, 4 * read.float().mean().item())
        figures["character"] = (letters.argmax(-1) == character[read]).float().mean().item()
    return loss, figures


class Source:
    """Batches made ahead of their use by one process."""

    def __init__(self, folder: Path, sizes: tuple, plan, start: int, ahead: int = 4):
        context = processes.get_context("spawn")
        self.requests, self.results = context.Queue(), context.Queue()
        self.process = context.Process(target=batches.serve, args=(folder, sizes, self.requests, self.results), daemon=True)
        self.process.start()
        self.plan, self.next = plan, start
        for _ in range(ahead):
            self.request()

    def request(self) -> None:
        self.requests.put((self.next, self.plan(self.next)))
        self.next += 1

    def take(self) -> dict:
        self.request()
        return tensors(self.results.get())


def tensors(batch: dict) -> dict:
    turn = torch.from_numpy
    return batch | {"head": turn(batch["head"]), "pixels": [turn(p) for p in batch["pixels"]],
                    "cells": [{k: turn(v) for k, v in c.items()} for c in batch["cells"]],
                    **({k: [turn(x) for x in batch[k]] for k in ("ids", "labels", "skills", "about", "maps")} if "ids" in batch else {})}


class Run:
    def __init__(self, out: Path, compiled: bool):
        self.out, self.folder = out, out / "hub"
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(1)
        if not (self.folder / "config.json").exists():
            demo.write_files(self.folder)
        self.model = demo.build(self.folder).to(torch.bfloat16)
        self.head = DenseHead().to(torch.bfloat16)
        self.fast = demo.Fast(self.model, compiled)
        named = dict(self.model.named_parameters()) | {f"head.{n}": p for n, p in self.head.named_parameters()}
        self.optimiser = Optimiser(named)
        tokens = batches.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.vision_ids = tuple(tokens.token_to_id(t) for t in ("<|vision_start|>", "<|vision_end|>"))
        self.done = {"see": 0, "talk": 0}
        self.weights = dict.fromkeys(questions.SKILLS, 1.0)
        self.seconds = 0.0
        if (out / "state.pt").exists():
            state = torch.load(out / "state.pt", weights_only=True)
            self.optimiser.load(state["optimiser"])
            self.done, self.seconds = state["done"], state["seconds"]
            self.weights |= state["weights"]

    def save(self) -> None:
        state = {"optimiser": self.optimiser.state(), "done": self.done, "weights": self.weights, "seconds": self.seconds}
        torch.save(state, self.out / "state.new")
        (self.out / "state.new").replace(self.out / "state.pt")

    def log(self, **values) -> None:
        line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()})
        print(line, flush=True)
        with (self.out / "log.jsonl").open("a") as f:
            f.write(line + "\n")

    def losses(self, batch: dict) -> tuple:
        """(dense loss, text loss, dense figures, per skill [right, asked])."""
        dense, figures, seen = torch.zeros(()), {}, []
        for pixels, cells in zip(batch["pixels"], batch["cells"]):
            seen.append(self.fast.see(pixels))
            loss, figures = dense_loss(self.head(seen[-1][0]), cells)
            dense = dense + loss / len(batch["pixels"])
        if "ids" not in batch:
            return dense, None, figures, {}
        hidden, middle, early = self.fast.answer(batch["head"], seen, batch["grids"], batch["ids"], self.vision_ids)
        talk, right = torch.zeros(()), {}
        if len(batch["pixels"]) == 1:
            last = [(labels != batches.IGNORE).int().argmax(-1) - 1 for labels in batch["labels"]]
            ends = [m.gather(2, i.clamp(min=0)[..., None, None].expand(-1, -1, 1, m.shape[-1])).flatten(0, 2) for m, i in zip(middle, last)]
            about = self.head.about(torch.cat(ends), torch.cat([a.flatten(0, 1) for a in batch["about"]]))
            mapped = self.head.map(torch.cat(ends), torch.cat([a.flatten(0, 1) for a in batch["maps"]]))
            figures |= {"about": about.item(), "map": mapped.item()}
            dense = dense + about + mapped
        if len(batch["pixels"]) == 2:
            which = self.head.picture(early)
            figures["which"] = which.item()
            dense = dense + which
        branches = sum(s.numel() for s in batch["skills"])
        for x, labels, skills in zip(hidden, batch["labels"], batch["skills"]):
            wanted = labels[..., 1:].reshape(-1)
            at = (wanted != batches.IGNORE).nonzero()[:, 0]
            logits = self.model.lm_head(x[:, :, :-1].reshape(-1, x.shape[-1])[at]).float()
            talk = talk + F.cross_entropy(logits, wanted[at], reduction="sum") / branches
            wrong = torch.zeros(skills.numel(), dtype=torch.long)
            wrong.index_add_(0, at // (labels.shape[-1] - 1), (logits.argmax(-1) != wanted[at]).long())
            for skill, w in zip(skills.flatten().tolist(), wrong.tolist()):
                if skill >= 0:
                    entry = right.setdefault(questions.SKILLS[skill], [0, 0])
                    entry[0] += w == 0
                    entry[1] += 1
        return dense, talk, figures, right

    @torch.no_grad()
    def score(self, number: int = 14) -> dict:
        maker = batches.Maker(self.folder, 32, 6, 2)
        total: dict = {}
        for i in range(number):
            plan = {"seed": "held out", "held_out": True, "pictures": 2 if i % 4 == 3 else 1, "weights": {"other": 0.3}, "kinds": batches.KINDS}
            for skill, (r, n) in self.losses(tensors(maker.make(i, plan)))[3].items():
                entry = total.setdefault(skill, [0, 0])
                entry[0] += r
                entry[1] += n
        return {k: round(total[k][0] / total[k][1], 3) for k in questions.SKILLS if k in total}


def factor(step: int, steps: int, warm: int, flat: float) -> float:
    """Rises, stays, and falls to nearly nothing over the last 1 - flat."""
    if step < warm:
        return (step + 1) / warm
    start = flat * steps
    return 1.0 if step < start else max(0.02, 1 - (step - start) / (steps - start))


def see(run: Run, steps: int, pictures: int) -> None:
    kinds = batches.KINDS | {"text": 2, "word": 4}
    plan = lambda i: {"seed": "see", "held_out": False, "pictures": 1, "weights": {}, "kinds": kinds, "dense_only": True}  # noqa: E731
    source = Source(run.folder, (pictures, 0, 0), plan, run.done["see"])
    began = saved = time.time()
    while run.done["see"] < steps and not stopping:
        step = run.done["see"]
        dense, _, figures, _ = run.losses(source.take())
        dense.backward()
        run.optimiser.step(factor(step, steps, 100, 2.0))  # the next stage goes on from here: no fall
        run.done["see"] += 1
        if step % 50 == 49:
            now = time.time()
            run.seconds += now - began
            run.log(stage="see", step=step + 1, seconds=round(run.seconds), pictures_a_second=round(50 * pictures / (now - began), 1), loss=dense.item(), **figures)
            began = now
        if time.time() - saved > 200:
            run.save()
            saved = time.time()
    source.requests.put(None)
    run.save()


def talk(run: Run, steps: int, pictures: int, stop_at: float) -> None:
    def plan(i: int) -> dict:
        kind = i % 20
        count = 0 if kind == 19 else 2 if kind % 3 == 2 else 1
        return {"seed": "talk", "held_out": False, "pictures": count, "weights": run.weights, "kinds": batches.KINDS,
                "rows": pictures // 2 if count != 1 else pictures}

    source = Source(run.folder, (pictures, 6, 2), plan, run.done["talk"])
    began = saved = time.time()
    sums: dict = {}
    losses, denses, asked = [], [], 0
    figures: dict = {}
    while run.done["talk"] < steps:
        step = run.done["talk"]
        batch = source.take()
        dense, text, some, right = run.losses(batch)
        figures |= some
        (text + dense).backward()
        # The tower sees already: a slower pace keeps what it knows while the text side learns to use it.
        run.optimiser.step(factor(step, steps, 100, 0.55), tower=0.4)
        run.done["talk"] += 1
        losses.append(text.item())
        denses.append(dense.item())
        for skill, (r, n) in right.items():
            old = sums.setdefault(skill, [0.0, 0.0])
            sums[skill] = [old[0] + r, old[1] + n]
            asked += n
        if step % 50 == 49:
            now = time.time()
            run.seconds += now - began
            shares = {k: round(sums[k][0] / sums[k][1], 3) for k in questions.SKILLS if k in sums}
            run.log(stage="talk", step=step + 1, seconds=round(run.seconds), questions_a_second=round(asked / (now - began), 1),
                    loss=sum(losses) / len(losses), dense=sum(denses) / len(denses), cells={k: round(v, 3) for k, v in figures.items()}, train=shares)
            # What is not known yet is asked more often.
            for k, v in shares.items():
                if k == "box":  # to the last digit: far below what it is worth
                    v = min(1.0, 0.5 + v)
                run.weights[k] = 0.5 * run.weights[k] + 0.5 * (0.25 + 2 * (1 - v))
            began, losses, denses, asked, sums = now, [], [], 0, {}
        if step % 500 == 499 or run.done["talk"] == steps:
            run.log(stage="score", step=step + 1, held_out=run.score())
            began = time.time()
        if time.time() - saved > 200:
            run.save()
            saved = time.time()
        if stopping or stop_at and run.seconds > stop_at:
            break
    source.requests.put(None)
    run.save()


stopping: list = []  # a signal came: end at the next step, and save


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--see-steps", type=int, default=3000)
    arguments.add_argument("--steps", type=int, default=9000)
    arguments.add_argument("--pictures", type=int, default=32, help="a step")
    arguments.add_argument("--plain", action="store_true", help="without torch.compile")
    arguments.add_argument("--stop-at", type=float, default=0, help="seconds of training in all after which to stop")
    options = arguments.parse_args()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.append(True))
    run = Run(options.out, compiled=not options.plain)
    see(run, options.see_steps, 64)
    talk(run, options.steps, options.pictures, options.stop_at)


if __name__ == "__main__":
    main()
