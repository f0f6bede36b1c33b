"""Muon for the matrices, Adam for the rest; f32 masters of a bf16 model.

Muon (K. Jordan and others, 2024): momentum, then five Newton-Schulz steps that bring the update's singular values near one.
Matrices of one shape go through them together.
"""

import torch


def orthogonal(g: torch.Tensor) -> torch.Tensor:
    """[n, r, c] to about its nearest orthogonal matrices."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = g.shape[1] > g.shape[2]
    x = g.transpose(1, 2) if tall else g
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(5):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * s @ s) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Optimiser:
    def __init__(self, named: dict, muon_rate: float = 0.02, adam_rate: float = 2e-3, decay: float = 0.02):
        self.named, self.muon_rate, self.adam_rate, self.decay = named, muon_rate, adam_rate, decay
        self.master = {n: p.detach().float().clone() for n, p in named.items()}
        self.first = {n: torch.zeros_like(m) for n, m in self.master.items()}
        self.shapes: dict = {}
        self.second: dict = {}
        for n, p in named.items():
            hidden = p.ndim == 2 and not any(w in n for w in ("embed", "lm_head", "dense"))
            if hidden:
                self.shapes.setdefault((p.shape[0] // 3 if "qkv" in n else p.shape[0], p.shape[1]), []).append(n)
            else:
                self.second[n] = torch.zeros_like(self.master[n])
        self.steps = 0

    @torch.no_grad()
    def step(self, factor: float, tower: float = 1.0) -> None:
        """`tower`: what the vision tower's rates are multiplied with."""
        self.steps += 1
        for (rows, columns), names in self.shapes.items():
            updates = []
            names = [n for n in names if self.named[n].grad is not None]
            if not names:
                continue
            for n in names:
                g = self.named[n].grad.float()
                m = self.first[n].lerp_(g, 0.05)
                updates += list(g.lerp(m, 0.95).view(-1, rows, columns))
            out = orthogonal(torch.stack(updates)) * max(1, rows / columns) ** 0.5
            at = 0
            for n in names:
                count = self.master[n].shape[0] // rows
                rate = self.muon_rate * factor * (tower if "visual" in n else 1)
                self.master[n].mul_(1 - rate * self.decay).sub_(out[at:at + count].reshape(self.master[n].shape), alpha=rate)
                at += count
        for n, second in self.second.items():
            p = self.named[n]
            if p.grad is None:
                continue
            g = p.grad.float()
            m = self.first[n].lerp_(g, 0.1)
            second.lerp_(g * g, 0.05)
            update = (m / (1 - 0.9 ** self.steps)) / ((second / (1 - 0.95 ** self.steps)).sqrt() + 1e-8)
            self.master[n].sub_(update, alpha=self.adam_rate * factor * (tower if "visual" in n else 1))
        for n, p in self.named.items():
            p.copy_(self.master[n])
            p.grad = None

    def state(self) -> dict:
        return {"master": self.master, "first": self.first, "second": self.second, "steps": self.steps}

    @torch.no_grad()
    def load(self, state: dict) -> None:
        for mine, saved in ((self.master, "master"), (self.first, "first"), (self.second, "second")):
            mine.update({n: t for n, t in state[saved].items() if n in mine})
        self.steps = state["steps"]
        for n, p in self.named.items():
            p.copy_(self.master[n])
