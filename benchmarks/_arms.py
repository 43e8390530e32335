"""Arms of the miniature HonestFace experiment: how each is trained, and in which order."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "training" / "configs" / "bundled" / "honestface_nano.yaml"
SEEDS = (1, 2, 3)
STEPS = 300
ARMS: dict[str, tuple[str, ...]] = {
    "full": (),
    "ffe": ("recipe.embedder.use_identity=false",),
    "fie": ("recipe.embedder.use_eyes=false",),
    "plain": ("recipe.embedder.use_identity=false", "recipe.embedder.use_eyes=false"),
    "mfa-none": ("recipe.weights.mfa=0",),
    "mfa-mse": ("recipe.mfa_distance=mse", "recipe.weights.mfa=400"),
    "mfa-dists": ("recipe.mfa_distance=dists", "recipe.weights.mfa=1.5"),
}
"""Name -> what it changes in `bundled/honestface_nano.yaml`."""


def folder(runs: Path, arm: str, seed: int) -> Path:
    """Where a run's files lie."""
    return runs / "honestface_arms" / f"{arm}-{seed}"


def train_all(runs: Path, workers: int) -> None:
    """Train what is not trained yet; runs that were interrupted go on.

    Seeds go first, so that whatever is finished compares all arms.

    Raises:
        subprocess.CalledProcessError: a run failed; its log says why.
    """
    jobs = [
        (arm, seed)
        for seed in SEEDS
        for arm in ARMS
        if not (folder(runs, arm, seed) / "export").is_dir()
    ]
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(lambda job: _train(runs, *job), jobs):
            pass


def _train(runs: Path, arm: str, seed: int) -> None:
    out = folder(runs, arm, seed)
    changes = (
        f"output={out}",
        f"seed={seed}",
        f"data.cache={runs / 'world'}",
        "budget.max_minutes=null",
        f"budget.max_steps={STEPS}",
        f"validate_every={STEPS}",
        "validate_images=8",
        # Where less is left of the face the references matter more.
        "degradation.overrides={scale: [6, 16]}",
        *ARMS[arm],
    )
    options = [part for change in changes for part in ("--set", change)]
    command = [sys.executable, "-m", "facewright.training.train", "honestface", "--resume"]
    out.mkdir(parents=True, exist_ok=True)
    with (out / "train.log").open("w") as log:
        subprocess.run(
            [*command, "--config", str(CONFIG), *options],
            cwd=ROOT,
            check=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
