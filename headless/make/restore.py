"""Restorers by their names, from files on this machine."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from os import PathLike
from typing import TypeVar

from ...core.checkpoint import CONFIG_KEY, read_metadata
from ...core.diffusion.source import DiffusersModels
from ...core.errors import CheckpointError, FacewrightError
from ...core.faces import dense_landmarker, load_analyzer
from ...core.files.json_text import JsonError, parse_json
from ...core.files.known import ARCFACE
from ...core.host import host, running
from ...core.methods import spec_of
from ...core.people.person import Person
from ...core.people.recogniser import load_recogniser, nano_recogniser
from ...core.pipeline.options import RestoreOptions
from ...core.pipeline.pictures import Restored, Restorer
from ...core.weights import nano
from ...core.weights.model_folders import ModelFolders
from ..host.host import HeadlessHost

__all__ = ["RestoreOptions", "Restored", "Restorer", "check_albums", "load_restorer"]

T = TypeVar("T")
Models = str | PathLike[str] | ModelFolders | None


def load_restorer(
    name: str,
    models: Models = None,
    *,
    analyzer: str | None = None,
    measured: bool = False,
    points: int | None = None,
    rotations: bool = False,
) -> Restorer:
    """A method with its networks; everything it needs is looked for before anything is loaded.

    Args:
        name: one of `core.methods.specs`, such as "osdface", or a face restorer's file: its path,
            or its name in `upscale_models` or `facerestore_models`.
        models: a models folder; by default FACEWRIGHT_MODELS and ComfyUI's.
        analyzer: one of `core.faces.ANALYZERS`; by default that of the method.
        measured: also load who compares faces, for `max_drift` and `receipts`.
        points: how many landmarks albums hold; the analyzer "auto" takes one that gives so many.
        rotations: also look for faces on their side and upside down, see `load_analyzer`.

    Raises:
        CheckpointError: files that are missing (all of them named) or wrong.
        FacewrightError: no such method, or an analyzer that does not do for it.
        LoraError: a LoRA does not fit the base model.
    """
    if models is not None:
        folders = models if isinstance(models, ModelFolders) else ModelFolders([models])
        with running(HeadlessHost(folders)):
            return load_restorer(
                name, analyzer=analyzer, measured=measured, points=points, rotations=rotations
            )
    spec = spec_of(name)
    source = DiffusersModels(host.folders)
    bundled = all(file.bundled for file in spec.files)
    judged = measured and not spec.takes_people
    # Bundled methods bring who finds the landmarks of their albums.
    dense = judged or (spec.takes_people and not bundled)
    problems: list[FacewrightError] = []
    files = _tried(problems, lambda: spec.find(source))
    judge = _tried(problems, lambda: source.known(ARCFACE) if judged and not bundled else None)
    found_by = analyzer or spec.analyzer
    faces = _tried(
        problems, lambda: load_analyzer(found_by, dense=dense, points=points, rotations=rotations)
    )
    if faces is not None and dense:
        _tried(problems, lambda: dense_landmarker(faces))
    if problems or files is None or faces is None:
        several = CheckpointError("\n".join(map(str, problems)))
        raise problems[0] if len(problems) == 1 else several
    recogniser = None
    if judged:
        recogniser = (
            load_recogniser(judge) if judge else nano_recogniser(nano.load_identity("loss"))
        )
    notes = spec.notes(files)
    paths = [*files.values(), *([judge] if judge else [])]
    return Restorer(spec.build(files, source, faces), faces, recogniser, notes=notes, files=paths)


def check_albums(name: str, people: Sequence[Person]) -> None:
    """Hold albums against what the weight files of a method say of themselves; quick.

    Raises:
        FacewrightError: an album was made with another recogniser than a file was trained with.
    """
    # What is missing or broken is named by who loads it.
    with suppress(CheckpointError, JsonError):
        for path in spec_of(name).find(DiffusersModels(host.folders)).values() if people else ():
            said = read_metadata(path) if path.suffix == ".safetensors" else {}
            trained_with = parse_json(said.get(CONFIG_KEY, "{}")).get("recogniser")
            for person in people if isinstance(trained_with, str) else ():
                person.check_fits(trained_with)


def _tried(problems: list[FacewrightError], find: Callable[[], T]) -> T | None:
    """What is found, or None and one problem more."""
    try:
        return find()
    except FacewrightError as error:
        problems.append(error)
        return None
