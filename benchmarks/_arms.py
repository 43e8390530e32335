"""Arms of the miniature experiments: short runs of a bundled config that differ in one thing each.

What all arms share is said once, in `SHARED` and in `Method.shared`: pictures damaged so much that
things are truly gone, as many steps each, a few pictures of validation, latents of frozen networks
in one cache. `$weights` is the folder of the weights that they start from, `$runs` that of runs.

Losses of the one-step arms are those of OSDFace and two helpers that keep colours and latents in
place in so few steps. The bundled config's terms `edges` and `features` are left out: the one is
what EA- adds, the other is itself a perceptual term.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "training" / "configs" / "bundled"
WEIGHTS = ROOT / "weights" / "nano"
SEEDS = (1, 2, 3, 4, 5)

SHARED = (
    "threads=1",
    "batch_size=4",
    "budget.max_minutes=null",
    "validate_images=4",
    "grid_images=4",
    "checkpoint_every=40",
    "keep_last=1",
    "trackers=[]",
    "data.cache=$runs/world",
    "cache.folder=$runs/arms/frozen",
    # The arms of a seed see the same degraded pictures; the cache knows them after the first.
    "degradation.variants=1",
)
_NANO = (
    "recipe.backbone.unet=$weights/nano_unet.safetensors",
    "recipe.backbone.vae=$weights/nano_vae.safetensors",
    "recipe.metric_encoder=$weights/nano_identity_metric.safetensors",
    "recipe.extractor.path=$weights/nano_identity_loss.safetensors",
)
HEAVY = "degradation.overrides={scale: [6, 16]}"
"""From 128 to 21 to 8 pixels a side."""


@dataclass(frozen=True)
class Arm:
    """One row of an experiment."""

    stage: str
    config: str
    changes: tuple[str, ...] = ()
    """Beside what all arms of the method share."""
    needs: tuple[str, ...] = ()
    """Files that the runner makes first: of `FRESH_VRE`, `FRESH_FACES`, or `SHELF`."""


@dataclass(frozen=True)
class Method:
    """The arms of a method."""

    shared: tuple[str, ...]
    steps: int
    arms: dict[str, Arm]


TRAINED = {
    "$runs/vre_lq_nano/export/vq_lq.safetensors": "vre-hq, vre-lq",
    "$runs/vre_associate_nano/export/nano_vre.safetensors": "vre-hq, vre-lq, vre-associate",
    "$runs/face_autoencoder_lq_nano/export/face_lq.safetensors": "face-autoencoder (hq, then lq)",
}
"""File of a run -> the stages that make it, by the bundled configs."""
FRESH_VRE = {
    "$runs/arms/vre_unassociated.safetensors": "$runs/vre_lq_nano/export/vq_lq.safetensors",
    "$runs/arms/vre_associated.safetensors": (
        "$runs/vre_associate_nano/export/nano_vre.safetensors"
    ),
}
"""Made by the runner of what it says: embedders whose projection no base was trained with."""
FRESH_FACES = {
    "$runs/arms/faces_associated.safetensors": "$weights/nano_face_encoder.safetensors",
    "$runs/arms/faces_unassociated.safetensors": (
        "$runs/face_autoencoder_lq_nano/export/face_lq.safetensors"
    ),
}
"""Made by the runner of what it says: face encoders with the same untrained adapter."""
SHELF = "$runs/arms/shelf"
"""Made by the runner of the bundled degradation mode: see `_arms_before.shelf`."""
SHELF_PEOPLE = 100
"""With four photos each: some 400 pictures, as many as an arm sees."""

PERCEPTUAL = {"ea-dists": 0.41, "dists": 1.08, "ea-lpips": 0.24, "lpips": 0.68}
"""Weights with which each term is 0.25 at the first step, as `bench arms --method osdface
--first-terms` measures it (8 batches of seed 1): terms of one size, not of one scale."""
MFA = {"features": 2.0, "mse": 400.0, "dists": 1.5}
"""Weights with which each masked term is as large as the first at the first step; measured so."""


def _one(*changes: str, needs: tuple[str, ...] = ()) -> Arm:
    return Arm("onestep", "onestep_nano", changes, needs)


def _fresh(name: str) -> Arm:
    path = f"$runs/arms/vre_{name}.safetensors"
    return _one(f"recipe.vre={path}", needs=(path,))


def _perceptual(name: str) -> tuple[str, ...]:
    return (f"recipe.perceptual={name}", f"recipe.weights.perceptual={PERCEPTUAL[name]}")


OSDFACE = Method(
    shared=(
        *_NANO,
        HEAVY,
        "degradation.presets=[severe]",
        "recipe.vre=$weights/nano_base_vre.safetensors",
        "recipe.recogniser.path=$weights/nano_identity_loss.safetensors",
        "recipe.weights={mse: 10, l1: 2, chroma: 1, latent: 0.5, identity: 0.3, face: 2}",
        "recipe.weights.gan=0.01",
        *_perceptual("ea-dists"),
        "recipe.discriminator={rank: 16, hidden: 64, start: 0.5, ramp: 0.1}",
        "recipe.name=nano_onestep",
    ),
    steps=120,
    arms={
        "vre": _one(),
        "learned": _one("recipe.prompt=learned"),
        "zeros": _one("recipe.prompt=zeros"),
        "shuffled": _one("recipe.prompt=shuffled"),
        # Two embedders that the base does not know; it knows the reference's.
        "unassociated": _fresh("unassociated"),
        "associated": _fresh("associated"),
        "dists": _one(*_perceptual("dists")),
        "ea-lpips": _one(*_perceptual("ea-lpips")),
        "lpips": _one(*_perceptual("lpips")),
        "mse": _one("recipe.perceptual=none"),
        "no-gan": _one("recipe.weights.gan=0", "optimizers.discriminator=null"),
        "gan-low": _one("recipe.weights.gan=0.003"),
        "gan-high": _one("recipe.weights.gan=0.03"),
        "no-id": _one("recipe.weights.identity=0"),
    },
)


def _honest(*changes: str) -> Arm:
    return Arm("honestface", "honestface_nano", changes)


def _mfa(name: str) -> tuple[str, ...]:
    return (f"recipe.mfa_distance={name}", f"recipe.weights.mfa={MFA[name]}")


HONESTFACE = Method(
    shared=(
        *_NANO,
        HEAVY,
        "recipe.vre=$weights/nano_vre.safetensors",
        "recipe.start=$weights/nano_onestep_lora.safetensors",
        "recipe.embedder.recogniser=$weights/nano_identity_loss.safetensors",
        "recipe.embedder.extractor=$weights/nano_identity_loss.safetensors",
        "recipe.recognisers.0=$weights/nano_identity_loss.safetensors",
        *_mfa("features"),
        "recipe.name=nano_honestface",
    ),
    steps=120,
    arms={
        "full": _honest(),
        "ffe": _honest("recipe.embedder.use_identity=false"),
        "fie": _honest("recipe.embedder.use_eyes=false"),
        "plain": _honest("recipe.embedder.use_identity=false", "recipe.embedder.use_eyes=false"),
        "mfa-none": _honest("recipe.weights.mfa=0"),
        "mfa-mse": _honest(*_mfa("mse")),
        "mfa-dists": _honest(*_mfa("dists")),
    },
)

_DAMAGED = (f"data.identities={SHELF_PEOPLE}", "data.photos=4", "degradation.validation=hidden")


def _flip(*changes: str, faces: str = "associated", needs: tuple[str, ...] = ()) -> Arm:
    """A restorer; all adapters of face tokens begin untrained."""
    path = f"$runs/arms/faces_{faces}.safetensors"
    encoder = (f"recipe.face_encoder={path}",)
    return Arm("flipnet-restore", "flipnet_restore_nano", encoder + changes, (path, *needs))


def _shelf(share: float) -> tuple[str, ...]:
    return f"off_shelf.folder={SHELF}", f"off_shelf.share={share}"


FLIPNET = Method(
    shared=(
        *_NANO[:3],
        "recipe.start.boosthub=$weights/nano_flipnet_degrade_boosthub.safetensors",
        "recipe.start.lora=$weights/nano_flipnet_degrade_lora.safetensors",
        "recipe.sampling.steps=2",  # of the validation's pictures, which nobody looks at
        "recipe.name=nano_flipnet",
    ),
    steps=110,
    arms={
        "faces": _flip(),
        "arcface": Arm(
            "flipnet-restore",
            "flipnet_restore_nano",
            (
                "recipe.face_encoder=null",
                "recipe.face_recogniser.path=$weights/nano_identity_loss.safetensors",
                "recipe.face_recogniser.tokens=64",
                "recipe.face_recogniser.hidden=128",
            ),
        ),
        "none": _flip("recipe.drop_face=1"),
        "unassociated": _flip(faces="unassociated"),
        "degrade": Arm("flipnet-degrade", "flipnet_degrade_nano"),
        "on-the-fly": _flip(*_DAMAGED),
        "off-shelf": _flip(*_DAMAGED, *_shelf(1), needs=(SHELF,)),
        "both": _flip(*_DAMAGED, *_shelf(0.5), needs=(SHELF,)),
    },
)
METHODS = {"osdface": OSDFACE, "honestface": HONESTFACE, "flipnet": FLIPNET}
_RESTORES = ("recipe.extractor.path=$weights/nano_identity_loss.safetensors",)


def folder(runs: Path, method: str, arm: str, seed: int) -> Path:
    """Return the folder of a run's files."""
    return runs / "arms" / method / f"{arm}-{seed}"


@dataclass(frozen=True)
class Places:
    """The folders that `$weights` and `$runs` stand for."""

    runs: Path
    weights: Path = WEIGHTS

    def path(self, text: str) -> Path:
        return Path(Template(text).substitute(runs=self.runs, weights=self.weights))

    def line(self, text: str) -> str:
        """An `a.b=value` whose value may be such a path, quoted for YAML."""
        key, _, value = text.partition("=")
        return f"{key}={json.dumps(str(self.path(value)))}" if "$" in value else text


def settings(
    method: str,
    arm: str,
    seed: int,
    *,
    steps: int | None = None,
    precision: str = "bf16",
    more: Sequence[str] = (),
) -> list[str]:
    """All `a.b=value` of a run but its `output`, in the order in which they count.

    Args:
        steps: None for the method's own number.
        more: for all arms alike, after everything else.
    """
    about = METHODS[method]
    one, steps = about.arms[arm], steps or about.steps
    restores = _RESTORES if one.stage == "flipnet-restore" else ()
    lines = (
        f"seed={seed}",
        f"precision={precision}",
        f"budget.max_steps={steps}",
        f"validate_every={steps}",
    )
    return [*lines, *SHARED, *about.shared, *restores, *one.changes, *more]


def overrides(places: Places, output: Path, lines: Sequence[str]) -> list[str]:
    """`settings` as the trainer takes them."""
    return [f"output={json.dumps(str(output))}", *map(places.line, lines)]
