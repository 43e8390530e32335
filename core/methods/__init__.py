"""One file per paper. `ls core/methods` is the list of methods."""

import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

from .._plugins import import_all
from ..errors import FacewrightError, shorten
from ..files.known import SUFFIXES
from ._spec import Choosy, FaceRestorer, ManyStepBackbone, ModelSource, RestorerSpec

__all__ = [
    "DEFAULT",
    "DEFAULT_WITH_PEOPLE",
    "Choosy",
    "FaceRestorer",
    "ManyStepBackbone",
    "ModelSource",
    "RestorerSpec",
    "spec_of",
    "specs",
]


DEFAULT, DEFAULT_WITH_PEOPLE = "osdface", "honestface"
"""The restorer where people name none: without and with photographs of a person."""


@cache
def specs() -> dict[str, RestorerSpec]:
    """Every restorer by its name: those for photographs, the default first, then the bundled."""
    modules = import_all(sys.modules[__name__])
    found = [spec for module in modules for spec in getattr(module, "SPECS", ())]
    found.sort(key=lambda spec: (spec.bundled, spec.name != DEFAULT))
    return {spec.name: spec for spec in found}


def spec_of(name: str) -> RestorerSpec:
    """The restorer of a name, or the one that takes a weight file of that name or path.

    Raises:
        FacewrightError: there is none; says which there are.
    """
    if name in specs():
        return specs()[name]
    path = Path(name)
    if path.is_absolute() and not path.exists():
        raise FacewrightError(f"There is no file {shorten(name)}, which should be weights.")
    for spec in specs().values():
        if spec.any_file and (path.suffix.lower() in SUFFIXES or path.is_file()):
            known = next((f for f in spec.files if path.name in f.names), spec.any_file)
            given = str(path.absolute()) if path.is_file() else name
            return replace(spec, name=given, files=(replace(known, names=(given,)),), needed=None)
    raise FacewrightError(
        f"There is no restorer {shorten(repr(name))}; known: {', '.join(specs())}, and the files "
        "of face restorers, such as GFPGANv1.4.pth."
    )
