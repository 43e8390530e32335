"""Where a run's exports come from: what travels in their metadata beside what was measured.

Exported files are shared, so nothing here holds a folder of the machine that trained.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from pydantic import BaseModel

from ...core.checkpoint import read_metadata
from ...core.checkpoint.identify import training_facts
from ...core.doctor.machine import own_version
from ...core.errors import CheckpointError, FacewrightError, shorten
from ...core.files.known import BASE, NANO_DIR
from ...core.files.writing import content_hash
from ...core.weights.known_files import known_files
from .._backbone import BackboneConfig
from ..data import Batches
from ..recipe import Recipe
from ..settings.config import TrainConfig
from ..settings.inputs import config_paths

OWN_LICENCE, BASE_LICENCE, OTHER_LICENCE = "apache-2.0", "openrail++", "other"
"""Identifiers as Hugging Face's model cards take them."""

_OWN = "facewright's bundled nano weights: Apache-2.0, as the package (see its NOTICE)."
_BASE = (
    f"{BASE.what}: {BASE.licence}. It allows commercial use, with use-based restrictions that also "
    "bind derivatives: whoever passes these files on, passes the restrictions on with them. A "
    "finetune in its place may add terms of its own."
)
_RENDERED = "Training pictures: rendered by facewright from seeds; they show nobody."
_PHOTOGRAPHS = (
    "Training pictures: the terms of their collection, and the consent of the people they show, "
    "hold for what was trained on them. (FFHQ, for one, is published under CC BY-NC-SA 4.0.)"
)
_RECOGNISER = "the pretrained ones of insightface are for non-commercial research only"


def provenance(config: TrainConfig, recipe: Recipe, batches: Batches | None) -> dict[str, Any]:
    """What a run's exports say of their origin; plain JSON, without any folder.

    Args:
        config: of the run.
        recipe: the stage.
        batches: the run's data; None where they are out of reach.

    Returns:
        method: of the paper, or "".
        versions: of facewright and torch.
        base: {kind, name, terms} of the diffusion model, or None for stages without one.
        inputs: the weight files that went in, each {key, file, sha256, stage}: its place in the
            config, and the stage that trained it where that was one of ours.
        licence: identifier of what holds for the whole, "other" where `licences` has to be read.
        licences: sentences, each on one thing that the exports depend on. Facts, no legal advice.
        data: {source, train: {people, pictures, sha256}, held_out: {the same}}; the hash is of
            names and sizes.
        use: workflow, settings and goes_into of the recipe.
        remarks: sentences on what the networks were built of otherwise than the config says.
        config: everything, with paths cut to their last part.
    """
    files = dict(config_paths(recipe.config, "recipe"))
    backbones = [s for s in _sections(recipe.config) if isinstance(s, BackboneConfig)]
    base = _base(backbones[0]) if backbones else None
    licences = [_BASE] if base and base["kind"] == "sd" else []
    for key, path in files.items():
        licences += _terms(key, path)
    licences.append(_RENDERED if config.data.source == "world" else _PHOTOGRAPHS)
    licences = list(dict.fromkeys(licences))
    name = getattr(recipe.config, "name", recipe.stage)
    return {
        "method": recipe.method,
        "versions": {"facewright": own_version(), "torch": torch.__version__},
        "base": base,
        "inputs": [_input(key, path) for key, path in files.items()],
        "licence": _identifier(licences),
        "licences": licences,
        "data": {"source": config.data.source} | (_data(batches) if batches else {}),
        "use": {
            "workflow": recipe.workflow,
            "settings": [s.replace("{name}", name) for s in recipe.settings],
            "goes_into": recipe.goes_into,
        },
        "remarks": recipe.remarks,
        "config": shareable(config),
    }


def shareable(value: Any) -> Any:
    """A config as plain JSON in which every path and address is cut to its last part."""
    if isinstance(value, BaseModel):
        return {key: shareable(getattr(value, key)) for key in type(value).model_fields}
    if isinstance(value, Mapping):
        return {str(key): shareable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [shareable(item) for item in value]
    if isinstance(value, Path):
        return value.name or str(value)
    return _shareable_text(value) if isinstance(value, str) else value


def _shareable_text(text: str) -> str:
    if text.startswith("pipe:"):  # a shell command, which may hold a password
        return "pipe:"
    if "://" in text:
        text = urlsplit(text).path.rstrip("/") or text.split("://")[0]
    # Prose such as a prompt may hold a slash between words; a path of spaces starts like one.
    elif re.search(r"\s", text) and not re.match(r"[~.]{0,2}[\\/]|[A-Za-z]:[\\/]", text):
        return text
    return re.split(r"[\\/]", text)[-1]


def _sections(section: BaseModel) -> Iterator[BaseModel]:
    """Every section within a section, itself first."""
    yield section
    for key in type(section).model_fields:
        value = getattr(section, key)
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, BaseModel):
                yield from _sections(item)


def _base(backbone: BackboneConfig) -> dict[str, str]:
    if backbone.source == "sd" and backbone.path:
        return {"kind": "sd", "name": backbone.path.name, "terms": _BASE}
    if backbone.source == "nano" and backbone.unet:
        terms = _OWN if _bundled(backbone.unet) else "a small model of a training like this one"
        return {"kind": "nano", "name": backbone.unet.stem, "terms": terms}
    return {"kind": "random", "name": "random", "terms": "a random network, for trials"}


def _bundled(path: Path) -> bool:
    return path.resolve().parent == NANO_DIR


def _terms(key: str, path: Path) -> list[str]:
    """What is known of the terms of a weight file that went in."""
    if key.startswith("recipe.backbone.path"):
        return []  # said of the base
    if key.endswith(".carry_on"):
        return []  # of a run of one's own; and no export holds a discriminator
    if _bundled(path):
        return [_OWN]
    inherited = _training(path).get("licences")
    if isinstance(inherited, list) and inherited:
        return [shorten(licence, 600) for licence in inherited[:40]]
    for known in known_files():
        if path.name in known.names:
            return [f"{path.name}, {known.what}: {known.licence}."]
    foreign = "recogniser" in key and not _metadata(path)
    hint = f" ({_RECOGNISER})" if foreign else ""
    return [f"{path.name}, `{key}` of the config: its own terms, not known here{hint}."]


def _training(path: Path) -> dict[str, Any]:
    return training_facts(_metadata(path))


def _metadata(path: Path) -> dict[str, str]:
    try:
        return read_metadata(path)
    except CheckpointError:
        return {}  # a folder, or gone since the run began: no reason to lose the export


def _input(key: str, path: Path) -> dict[str, str | None]:
    try:
        sha256 = content_hash(path) if path.is_file() else None
    except OSError:
        sha256 = None
    return {"key": key, "file": path.name, "sha256": sha256, "stage": _stage(path)}


def _stage(path: Path) -> str | None:
    stage = _training(path).get("stage")
    return shorten(stage) if isinstance(stage, str) else None


def _identifier(licences: list[str]) -> str:
    terms = set(licences) - {_RENDERED}
    if terms == {_OWN}:
        return OWN_LICENCE
    return BASE_LICENCE if _BASE in terms and terms <= {_BASE, _OWN} else OTHER_LICENCE


def _data(batches: Batches) -> dict[str, dict[str, int | str | None]]:
    splits = {"train": batches.train_photos, "held_out": batches.validation_photos}
    found = {}
    for name, photos in splits.items():
        try:
            sha256 = photos.digest()
        except (OSError, FacewrightError):  # the pictures are gone since
            sha256 = None
        people = photos.by_identity
        found[name] = {
            "people": len(people),
            "pictures": sum(len(group) for group in people),
            "sha256": sha256,
        }
    return found
