"""Inputs of nodes made from options that are declared in core."""

from dataclasses import fields
from typing import Any

from ..core.errors import FacewrightError
from ..core.options import Option
from ..core.pipeline.options import RestoreOptions
from ._host import io
from ._types import Analyzer


def option_input(
    name: str, kind: Any = None, *, of: type = RestoreOptions, **other: Any
) -> io.Input:
    """The input of an option.

    Args:
        of: the dataclass that declares it.
        kind: of the input, where the option's default does not tell it.
        other: what this input has otherwise than the option: a default, a widget's largest value.
    """
    (field,) = (f for f in fields(of) if f.name == name)
    option: Option = field.metadata["option"]
    given = {"id": name, "default": field.default, "tooltip": option.help}
    if option.choices:
        kind, given["options"] = io.Combo, list(option.choices)
    kind = kind or {str: io.String, int: io.Int, float: io.Float}[type(field.default)]
    limits = {"min": option.low, "max": option.high, "step": option.step}
    given |= {key: value for key, value in limits.items() if value is not None}
    return kind.Input(**given | other)


def crop_size_input(
    tooltip: str = "Side of the cut-out faces in pixels: 512 for OSDFace, 128 for the nano models.",
) -> io.Input:
    """The side of the face crops, which no weights tell a node beforehand."""
    return option_input("size", io.Int, id="crop_size", default=512, step=16, tooltip=tooltip)


def false_match_input(counts: str) -> io.Input:
    """A limit by how many strangers reach it; `counts` says what does where none is given."""
    return option_input(
        "false_match_rate",
        io.Float,
        default=0.0,
        min=0.0,
        step=0.0001,
        optional=True,
        tooltip="The limit as the share of strangers that would pass for the person: 0.001 is "
        "1 in 1000. What cosine that is follows from what is known of the recogniser: 0.0001 to "
        "0.5 for nano, 0.001 alone for ArcFace, and what `facewright person calibrate` measured. "
        f"0: {counts}",
    )


def landmarker_input() -> io.Input:
    """An analyzer of which dense landmarks are asked."""
    return Analyzer.Input(
        "analyzer",
        tooltip="From Load Face Detector: mediapipe, facexlib, insightface or nano, which find "
        "dense landmarks.",
    )


def selection_inputs(who: str) -> list[io.Input]:
    """Which of the found faces are worked on; `who` of the tooltip tells how sure they are."""
    return [
        option_input("order"),
        option_input("pick"),
        option_input("min_size", io.Int, default=0, max=8192),
        option_input(
            "min_score", tooltip=f"Faces the detector is less sure of are left alone. {who}"
        ),
        option_input(
            "max_faces",
            max=1000,
            tooltip="Take at most this many faces of a picture, in the given order. 0: no limit.",
        ),
    ]


def check_pick(pick: str | None) -> bool | str:
    """What `validate_inputs` returns: True, or why `pick`, None while a link, is unreadable."""
    from ..core.faces.selection import parse_pick

    try:
        parse_pick(pick or "")
    except FacewrightError as error:
        return str(error)
    return True


def told_inputs(assign: str) -> list[io.Input]:
    """From where on it is clear who somebody is, and who it is by hand; `assign` is the tooltip."""
    margin = option_input(
        "margin",
        io.Float,
        default=-1.0,
        min=-1.0,
        step=0.01,
        optional=True,
        tooltip="By how much the cosine of a face's album has to beat the next one. Below it the "
        "face is unsure (Ada or Bo), and neither album is taken. 0: the best always is. -1: what "
        "suits the recogniser.",
    )
    told = option_input("assign", io.String, default="", optional=True, tooltip=assign)
    return [margin, told]


def seed_input(tooltip: str, *, redrawn: bool = True, **other: Any) -> io.Input:
    """A seed; where it is `redrawn`, the editor may take another one after each run."""
    given = {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": redrawn or None}
    return io.Int.Input("seed", tooltip=tooltip, **given, **other)


def posterior_inputs(drawn: str, *, redrawn: bool = True, **other: Any) -> list[io.Input]:
    """Whether the degraded faces' latent is drawn, and its seed; `drawn` says how it is."""
    posterior = io.Combo.Input(
        "posterior",
        options=["mean", "sample"],
        default="mean",
        tooltip=f"mean: the same result every time. sample: draws the latent at random, {drawn}",
        **other,
    )
    return [posterior, seed_input('Used where `posterior` is "sample".', redrawn=redrawn, **other)]
