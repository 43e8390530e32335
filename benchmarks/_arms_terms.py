"""How large the terms of the loss are at the first step, for weights that make them alike."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from facewright.benchmarks._arms import Places, overrides
from facewright.benchmarks._arms_before import prepare
from facewright.benchmarks._arms_run import Job

BATCHES = 8


def first_terms(places: Places, jobs: Sequence[Job], say: Callable[[str], None]) -> None:
    """Mean weighted terms of each arm over the first batches of its first seed, before any step."""
    first = [job for job in jobs if job.seed == jobs[0].seed]
    blocked = prepare(places, {n for job in first for n in job.needs}, say)
    for job in first:
        if any(n in blocked for n in job.needs):
            continue
        terms = measured(places, job)
        say(f"{job.arm:14s} " + "  ".join(f"{k} {v:.4f}" for k, v in terms.items()))


def measured(places: Places, job: Job) -> dict[str, float]:
    """Weighted terms by name; those of a discriminator, which starts later, are not among them."""
    from facewright.training.recipe import Progress
    from facewright.training.train import open_run

    with tempfile.TemporaryDirectory() as empty:
        lines = overrides(places, Path(empty) / "run", job.settings)
        engine = open_run(job.stage, job.config, lines)
        stream = engine.open_data().train(first_step=0)
        phase = next(iter(engine.phases))
        sums: dict[str, float] = defaultdict(float)
        with torch.no_grad(), engine.accelerator.autocast():
            for _ in range(BATCHES):
                (batch,) = next(stream)
                for name, term in (
                    engine.recipe.losses(phase, batch, Progress(0, 0.0)) or {}
                ).items():
                    sums[name] += term.item() / BATCHES
    return dict(sums)
