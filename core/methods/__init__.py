"""One file per paper. `ls core/methods` is the list of methods."""

import sys
from functools import cache

from .._plugins import import_all
from ..errors import FacewrightError, shorten
from ._spec import FaceRestorer, ManyStepBackbone, ModelSource, RestorerSpec

__all__ = [
    "FaceRestorer",
    "ManyStepBackbone",
    "ModelSource",
    "RestorerSpec",
    "default_restorer",
    "spec_of",
    "specs",
]


DEFAULT = "osdface"
"""The restorer where people name none."""


@cache
def specs() -> dict[str, RestorerSpec]:
    """Every restorer by its name: those for photographs, the default first, then the bundled."""
    modules = import_all(sys.modules[__name__])
    found = [spec for module in modules for spec in getattr(module, "SPECS", ())]
    found.sort(key=lambda spec: (spec.bundled, spec.name != DEFAULT))
    return {spec.name: spec for spec in found}


def default_restorer(with_people: bool = False) -> str:
    """Its name; `with_people` the first that has a use for photographs of a person."""
    return next(spec.name for spec in specs().values() if spec.takes_people or not with_people)


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
