"""What `facewright align`, `degrade` and `synthesize` let people choose, declared once.

Nothing heavy is imported here: --help reads the declarations, too.
"""

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ...core.options import check_options, option

if TYPE_CHECKING:
    from ...core.people.curation import Limits

_MAX_YAW = 60.0
"""Degrees; beyond, one eye is hardly seen and the template hardly fits."""
_GREY = 2.0
"""Mean spread of the channels in levels of 255; a JPEG of a grey photo has less."""
_SEED = (
    "Each picture's own seed comes from this, its name within the folder given and the number of "
    "its copy: adding pictures, their order and who works change nothing."
)


@dataclass(frozen=True, kw_only=True)
class DegradeOptions:
    """How to degrade."""

    preset: str = option("moderate", "The damage to start from; --list-presets shows all.")
    seed: int = option(0, _SEED, low=0)
    copies: int = option(1, "Of each picture, differing: a.png, a_2.png, ...", low=1)
    overrides: dict[str, Any] = field(default_factory=dict)
    """Of the preset's values, for `Degradation.preset`."""

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class SynthesizeOptions:
    """How to sample."""

    copies: int = option(5, "Of each picture, differing: a_1.png, a_2.png, ...", low=1)
    steps: int = option(50, "Of DDIM.", low=1, high=1000)
    eta: float | None = option(
        None,
        "Share of fresh noise in each step: 0, DDIM, is the default; 1, which the weakly trained "
        "nano models need, is theirs.",
        low=0,
        high=1,
    )
    cfg: float = option(
        1.5, "Guidance by the caption in a.txt beside a.png; nothing without one.", low=0
    )
    phi: float = option(1.0, "How much the good picture counts; 1 as trained.", low=0, high=2)
    seed: int = option(0, _SEED, low=0)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """Which faces to keep."""

    min_size: float | None = option(
        None,
        "Least side of the crop in pixels of the photo; a face from brows to chin fills some 60 % "
        "of it. By default half of --size: nothing is enlarged more than twice.",
        low=0,
    )
    min_sharpness: float | None = option(
        None,
        "0 to 1; noise counts as sharpness. By default what enlarging five times leaves: 0.3 at "
        "--size 512, where 0.5 is sharp, up to 0.37 at 128.",
        low=0,
        high=1,
    )
    max_outside: float = option(
        0.1,
        "Largest share of the crop that may lie outside the photo, where its mirrored border is "
        "shown.",
        low=0,
        high=1,
    )
    max_yaw: float | None = option(
        None,
        "Largest turn to a side in degrees, estimated from the five points. Default 60; 90: no "
        "limit.",
        low=0,
        high=90,
    )
    min_score: float = option(0.0, "Leave out faces that the detector doubts.", low=0, high=1)
    reject_grey: bool = option(False, "Leave out faces without colours.")

    def limits(self, size: int) -> "Limits":
        """For crops of `size` pixels."""
        from ...core.people.curation import Limits, usual_sharpness

        return Limits(
            min_side=size / 2 if self.min_size is None else self.min_size,
            min_sharpness=(
                usual_sharpness(size) if self.min_sharpness is None else self.min_sharpness
            ),
            max_outside=self.max_outside,
            max_yaw=_MAX_YAW if self.max_yaw is None else self.max_yaw,
            min_score=self.min_score,
            min_color=_GREY if self.reject_grey else None,
        )


def _no_limits() -> "Limits":
    from ...core.people.curation import Limits

    return Limits()


@dataclass(frozen=True, kw_only=True)
class AlignOptions:
    """How to align."""

    analyzer: str = option(
        "auto",
        "Face detector: mediapipe, facexlib or insightface (five points), skimage (boxes only, so "
        "that crops are off by up to a tenth), nano (rendered faces). auto takes the first that is "
        "ready, in this order, never nano.",
    )
    size: int = option(512, "Side of the crops in pixels.", low=64, high=2048)
    faces: str = option(
        "largest",
        "largest: one face per photo, so that a folder of one person's photos shows no bystanders; "
        "all: every face, where the folder says nothing about who it is.",
        choices=("largest", "all"),
    )
    duplicates: str = option(
        "reject",
        "Of crops that look the same (one photo saved twice): reject all but the largest and "
        "sharpest, or keep them.",
        choices=("reject", "keep"),
    )
    format: str = option(
        "png", "png, or jpg, which is smaller and loses a little.", choices=("png", "jpg")
    )
    quality: int = option(95, "Of --format jpg.", low=1, high=100)
    limits: "Limits" = field(default_factory=_no_limits)
    """What a crop has to reach."""

    def __post_init__(self) -> None:
        check_options(self)

    def settings(self) -> dict[str, Any]:
        """What decides a picture's crops before any is compared with those of other pictures."""
        names = ("analyzer", "size", "format", "faces")
        chosen = {name: getattr(self, name) for name in names}
        chosen |= {"quality": self.quality if self.format == "jpg" else None}
        return chosen | asdict(self.limits)
