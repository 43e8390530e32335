"""Optimisers, learning-rate schedule and averaged weights."""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from ..settings.config import OptimizerConfig


def orthogonalise(m: Tensor) -> Tensor:
    """Replace the singular values of every (r, c) matrix in (n, r, c) by about 1.

    Quintic Newton-Schulz iteration X <- aX + b(XX^T)X + c(XX^T)^2 X
    (K. Jordan et al., "Muon", 2024). Singular values end in roughly [0.7, 1.2].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = m.shape[1] > m.shape[2]
    x = m.transpose(1, 2) if tall else m
    x = x / (x.flatten(1).norm(dim=1)[:, None, None] + 1e-7)
    for _ in range(5):
        gram = x @ x.transpose(1, 2)
        x = a * x + torch.baddbmm(b * gram, gram, gram, alpha=c) @ x
    return x.transpose(1, 2) if tall else x


class Muon(Optimizer):
    """Momentum, orthogonalised, for matrix-shaped weights; convolutions count as (out, rest).

    W <- W - lr * 0.2 sqrt(max(r, c)) * orthogonalise(nesterov momentum): the factor gives updates
    the size AdamW's have (arXiv:2502.16982, Eq. 4).
    torch.optim.Muon takes 2-D weights only and iterates in bfloat16, which CPUs without bfloat16
    units emulate; this one keeps the weights' precision and treats equal shapes as one batch.
    """

    def __init__(
        self, params: list[nn.Parameter] | list[dict], lr: float, momentum: float = 0.95
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            shapes = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                updates = []
                for p in params:
                    state = self.state[p]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(p.grad)
                    state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                    updates.append(p.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
                matrices = orthogonalise(torch.stack(updates))
                scale = 0.2 * math.sqrt(max(matrices.shape[1:]))
                for p, update in zip(params, matrices, strict=True):
                    p.add_(update.reshape(shape), alpha=-group["lr"] * scale)


def build_optimizers(
    named: Iterable[tuple[str, nn.Parameter]], config: OptimizerConfig, adam_only: tuple[str, ...]
) -> list[Optimizer]:
    """Optimisers for the trainable ones of `named`: AdamW, or Muon and AdamW for the rest."""
    matrices: dict[float, list[nn.Parameter]] = defaultdict(list)
    others: dict[float, list[nn.Parameter]] = defaultdict(list)
    for name, p in named:
        if not p.requires_grad:
            continue
        rate = next((r for part, r in config.rates.items() if part in name), 1.0)
        fits = config.kind == "muon" and p.ndim >= 2 and not any(a in name for a in adam_only)
        (matrices if fits else others)[rate].append(p)
    optimizers: list[Optimizer] = []
    if matrices:
        groups = [{"params": p, "lr": r * config.muon_lr} for r, p in matrices.items()]
        optimizers.append(Muon(groups, config.muon_lr, config.muon_momentum))
    if others:
        groups = [{"params": p, "lr": r * config.lr} for r, p in others.items()]
        adamw = AdamW(groups, config.lr, betas=config.betas, weight_decay=config.weight_decay)
        optimizers.append(adamw)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = group["lr"]
    return optimizers


def set_lr(
    optimizers: list[Optimizer], config: OptimizerConfig, step: int, fraction: float
) -> None:
    """Warm up linearly over `config.warmup` steps, then hold or follow half a cosine to `floor`."""
    factor = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "cosine":
        factor *= config.floor + (1 - config.floor) * (0.5 + 0.5 * math.cos(math.pi * fraction))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor


class AveragedWeights:
    """Exponential moving average of trainable parameters, swapped in for evaluation and export.

    avg <- d avg + (1 - d) w with d = min(decay, (1 + n) / (10 + n)), so that early averages forget
    the random start.
    """

    def __init__(self, params: Iterable[nn.Parameter], decay: float) -> None:
        self.params: list[Tensor] = [p for p in params if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.params]
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        # torch's annotations take what begins with an underscore for its own.
        torch._foreach_lerp_(self.averages, self.params, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange averages and weights; a second call undoes the first."""
        for p, average in zip(self.params, self.averages, strict=True):
            kept = p.detach().clone()
            p.copy_(average)
            average.copy_(kept)

    def state_dict(self) -> dict:
        return {"averages": self.averages, "updates": self.updates}

    @torch.no_grad()
    def load_state_dict(self, state: dict) -> None:
        for average, value in zip(self.averages, state["averages"], strict=True):
            average.copy_(value)
        self.updates = state["updates"]
