"""What the prompt and each term of the loss do for the nano OSDFace, person by person.

    python bootstrap.py bench arms --method osdface          first: the runs
    python bootstrap.py bench scores --experiment osdface    the arms
    python bootstrap.py bench scores --experiment bundled    the bundled models

The arms restore faces reduced 16 times, the bundled models the preset `severe`. What was expected
beforehand: experiments/claims.yaml. Rendered people that no training saw.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from facewright.benchmarks._arms import OSDFACE
from facewright.benchmarks._flipnet_sampling import Flipnet
from facewright.benchmarks._scoring import (
    BATCH,
    FIRST_IDENTITY,
    UNTRAINED,
    Conditions,
    Experiment,
    People,
    by_batches,
    heavy,
    measured,
    people,
    severe,
)
from facewright.core.checkpoint import read_tensors
from facewright.core.restorer import restore_one_step
from facewright.core.weights import nano
from facewright.headless.host.host import HeadlessHost
from torch import Tensor

SAMPLES = 4
"""Of FLIPNET for each face, averaged."""
STEPS = 20
"""Of DDIM."""


class OneStep:
    """The files of a run, or the bundled ones, loaded."""

    def __init__(self, lora: Path, vre: Path) -> None:
        model, vae = HeadlessHost().load_nano(lora=False)
        model, _ = HeadlessHost().apply_lora(model, *read_tensors(lora), 1.0)
        self.backbone, self.vre = HeadlessHost().backbone(model, vae), nano.load_vre(vre)

    @classmethod
    def of(cls, export: Path) -> "OneStep":
        return cls(*(export / f"nano_onestep_{part}.safetensors" for part in ("lora", "vre")))

    @classmethod
    def bundled(cls) -> "OneStep":
        return cls(
            nano.NANO_DIR / "nano_onestep_lora.safetensors", nano.NANO_DIR / "nano_vre.safetensors"
        )

    def told(self, lq: Tensor) -> dict[str, Tensor]:
        """The prompt of each face, of the face before it, and zeros."""
        own = by_batches(self.vre, lq)
        return {"own": own, "other": own.roll(1, 0), "zeros": torch.zeros_like(own)}

    def restore(self, lq: Tensor, prompt: Tensor) -> Tensor:
        return by_batches(lambda x, c: restore_one_step(x, c, self.backbone)[0], lq, prompt)

    def ceiling(self, gt: Tensor) -> Tensor:
        """What the autoencoder leaves possible."""

        def through(x: Tensor) -> Tensor:
            decoded = self.backbone.decode(self.backbone.encode(x * 2 - 1))
            return decoded.add(1).div(2).clamp(0, 1)

        return by_batches(through, gt)


@lru_cache(1)
def _people(count: int) -> People:
    return people(count, heavy)


def of_input(of: People) -> Conditions:
    """The degraded faces themselves, and what the autoencoder leaves possible."""
    shown = {"LQ": of.lq, "VAE(GT)": OneStep.bundled().ceiling(of.gt)}
    return {name: {UNTRAINED: measured(x, of)} for name, x in shown.items()}


@torch.no_grad()
def score_arm(count: int, arm: str, exports: Mapping[int, Path]) -> Conditions:
    """An arm told what it was trained with; the reference also others' tokens, and zeros."""
    of = _people(count)
    if arm == "input":
        return of_input(of)
    found: Conditions = {}
    for seed, export in exports.items():
        run = OneStep.of(export)
        for name, prompt in run.told(of.lq).items():
            if name == "own" or arm == "vre":
                condition = arm if name == "own" else f"{arm}-{name}"
                found[condition] = {str(seed): measured(run.restore(of.lq, prompt), of)}
    return found


@torch.no_grad()
def score_bundled(count: int, part: str, exports: Mapping[int, Path]) -> Conditions:
    """The bundled one-step restorer by what it is told, or the bundled FLIPNET."""
    of = people(count, severe)
    if part == "onestep":
        run = OneStep.bundled()
        shown = {name: run.restore(of.lq, prompt) for name, prompt in run.told(of.lq).items()}
        return of_input(of) | {name: {UNTRAINED: measured(x, of)} for name, x in shown.items()}
    flipnet = Flipnet.bundled("restore", STEPS)
    samples = [flipnet.sample(of.lq, seed, 1.0) for seed in range(SAMPLES)]
    mean = torch.stack(samples).mean(0)
    return {
        "flipnet": {UNTRAINED: measured(samples[0], of)},
        "flipnet-averaged": {UNTRAINED: measured(mean, of)},
    }


def seeds(count: int) -> list[int]:
    return [FIRST_IDENTITY + i for i in range(count)]


EXPERIMENTS = {
    "osdface": Experiment(
        people=128,
        damage="preset severe, reduced 16 times",
        seeds=seeds,
        score=score_arm,
        untrained=("input",),
        method="osdface",
        arms=tuple(OSDFACE.arms),
    ),
    "bundled": Experiment(
        people=128,
        damage="preset severe",
        seeds=seeds,
        score=score_bundled,
        untrained=("onestep", "flipnet"),
        settings={"ddim_steps": STEPS, "averaged": SAMPLES, "batch": BATCH},
        weights=(
            "nano_onestep_lora",
            "nano_vre",
            "nano_flipnet_restore_lora",
            "nano_flipnet_restore_boosthub",
            "nano_face_encoder",
        ),
    ),
}
