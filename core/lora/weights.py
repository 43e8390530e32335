"""What a LoRA adds to the parameters of a UNet, and what is said of it."""

import math
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class LoraWeight:
    """The adapter of one module."""

    down: Tensor
    """A: (rank, in) or (rank, in, kh, kw); ComfyUI's trainer flattens the latter."""
    up: Tensor
    """B: (out, rank) or (out, rank, 1, 1)."""
    alpha: float
    rank: int

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @property
    def bound(self) -> float:
        """No element of `delta` is larger."""
        largest = [float(m.to(torch.float32).abs().max()) for m in (self.up, self.down)]
        return abs(self.scale) * self.rank * math.prod(largest)

    def delta(self, like: Tensor) -> Tensor:
        """(alpha / rank) B A in float32, with the shape and on the device of `like`."""
        up, down = (m.to(like.device, torch.float32).flatten(1) for m in (self.up, self.down))
        return (up @ down).mul_(self.scale).view_as(like)

    def fits(self, shape: torch.Size) -> bool:
        """Whether a weight of `shape` is what this adapter was trained on."""
        if len(shape) < 2 or self.up.shape[0] != shape[0]:
            return False
        if self.down.ndim == 2:
            return self.down.shape[1] == math.prod(shape[1:])
        return tuple(self.down.shape[1:]) == (shape[1], *(tuple(shape[2:]) or (1, 1)))

    @property
    def made_for(self) -> tuple[int, ...]:
        """Shape of the weight it was trained on."""
        return (self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True)
class Difference:
    """What is added to one weight or bias as it is, without rank and alpha."""

    value: Tensor

    @property
    def bound(self) -> float:
        """No element of `delta` is larger."""
        return float(self.value.to(torch.float32).abs().max()) if self.value.numel() else 0.0

    def delta(self, like: Tensor) -> Tensor:
        """The difference in float32, on the device of `like`."""
        return self.value.to(like.device, torch.float32).view_as(like)

    def fits(self, shape: torch.Size) -> bool:
        """Whether a parameter of `shape` is what this was taken from."""
        return self.value.shape == shape

    @property
    def made_for(self) -> tuple[int, ...]:
        """Shape of the parameter it was taken from."""
        return tuple(self.value.shape)


class LoraModules(dict[str, LoraWeight]):
    """Adapters by diffusers module path, without `unet.` in front."""

    def __init__(self) -> None:
        super().__init__()
        self.differences: dict[str, Difference] = {}
        """Whole differences by diffusers parameter name, as ComfyUI extracts norms and biases."""
        self.text: dict[str, Tensor] = {}
        """Tensors that are not for a UNet (text encoders), under their own keys."""
        self.alpha_source = ""
        """Where the alphas come from, in words."""

    @property
    def unused(self) -> list[str]:
        """Keys that are not for a UNet (text encoders)."""
        return list(self.text)

    @property
    def changes(self) -> dict[str, LoraWeight | Difference]:
        """Everything that is added, by the name of the parameter that it is added to."""
        return {f"{module}.weight": w for module, w in self.items()} | self.differences

    @property
    def modules(self) -> list[str]:
        """Paths of all modules that are changed."""
        return list(dict.fromkeys([*self, *(n.rpartition(".")[0] for n in self.differences)]))


@dataclass
class LoraReport:
    """What became of a LoRA file. `str()` is a sentence for the user."""

    applied: list[str]
    """Module paths; always all of the file's UNet modules."""
    unused: list[str]
    """Keys of the file that are not for a UNet."""
    ranks: list[int] = field(default_factory=list)
    """Distinct ranks, ascending."""
    alphas: list[float] = field(default_factory=list)
    alpha_source: str = ""

    @classmethod
    def of(cls, weights: LoraModules) -> Self:
        """The report of a file whose every module was applied."""
        return cls(
            applied=weights.modules,
            unused=weights.unused,
            ranks=sorted({w.rank for w in weights.values()}),
            alphas=sorted({w.alpha for w in weights.values()}),
            alpha_source=weights.alpha_source,
        )

    def __str__(self) -> str:
        text = f"{len(self.applied)} modules applied"
        if self.ranks:
            ranks, alphas = (" and ".join(f"{v:g}" for v in vs) for vs in (self.ranks, self.alphas))
            text += f" (rank {ranks}, alpha {alphas} {self.alpha_source})"
        if self.unused:
            text += f", {len(self.unused)} text-encoder keys unused"
        return text
