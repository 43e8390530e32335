"""One file per paper. `ls core/methods` is the list of methods."""

import sys
from functools import cache

from .._plugins import import_all
from ..errors import FacewrightError, shorten
from ._spec import FaceRestorer, ManyStepBackbone, ModelSource, RestorerSpec

__all__ = [
    "DEFAULT",
    "DEFAULT_WITH_PEOPLE",
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
    """The restorer of a name.

    Raises:
        FacewrightError: there is none; says which there are.
    """
    if name not in specs():
        raise FacewrightError(
            f"There is no restorer {shorten(repr(name))}; known: {', '.join(specs())}."
        )
    return specs()[name]
