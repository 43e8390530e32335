"""How a degradation is described: passes through its steps, and presets made of them."""

from dataclasses import dataclass
from typing import Any, ClassVar

Range = tuple[float, float]


@dataclass(frozen=True)
class Pass:
    """One run through blur, downsampling, noise, JPEG and the way back to the original size.

    Ranges are drawn uniformly, choices with equal odds.

    Attributes:
        scale: reduction of each side; below 1 enlarges.
        sigma: of the Gaussian blur, in pixels, or in pixels of the reduced image when
            `sigma_per_scale`.
        noise: standard deviation, in units of the [0, 1] range.
        quality: of the JPEG, 1 to 100.
        kernel_size: choices of taps of the blur, odd; empty takes 2 ceil(3 sigma) + 1. Published
            recipes truncate at 41 taps, which makes a nominal sigma of 15 an effective 10.
        anisotropic: share of images whose blur has two sigmas and an angle.
        reduce: choices of how to downsample, each "area", "bilinear" or "bicubic" (the last two
            without antialiasing, as OpenCV's).
        order: "fixed"; "shuffled" draws the order of the four steps before the way back;
            "real-esrgan" swaps the JPEG and the way back with even odds (Wang et al., 2021).
    """

    scale: Range
    sigma: Range
    noise: Range
    quality: tuple[int, int]
    sigma_per_scale: bool = False
    kernel_size: tuple[int, ...] = ()
    anisotropic: float = 0.0
    reduce: tuple[str, ...] = ("bilinear",)
    order: str = "fixed"

    gives_way: ClassVar[dict[str, dict[str, Any]]] = {"sigma": {"sigma_per_scale": False}}
    """Setting -> further values that change with it when a person overrides it."""


@dataclass(frozen=True)
class Preset:
    """A named degradation.

    Attributes:
        ways: (weight, passes) pairs; each image takes one way, drawn by weight.
        source: where the numbers come from.
        evidence: "code" (released), "paper" (its text), "inferred" (from related work) or "own".
        summary: one line for people: what it does.
        enlarge: how to return to the original size, "bilinear" or "bicubic".
        color: GFPGAN's colour shift, jitter and loss of colour, each on some images.
        side: pixels of the faces that the numbers were chosen for; None where any size will do.
    """

    ways: tuple[tuple[float, tuple[Pass, ...]], ...]
    source: str
    evidence: str
    summary: str
    enlarge: str = "bilinear"
    color: bool = False
    side: int | None = None

    def remark(self, height: int, width: int) -> str | None:
        """A sentence where a picture is far from the size that the numbers presume.

        Far is half as large or smaller, twice as large or larger, by the geometric mean of the
        sides.
        """
        if self.side is None or self.side / 2 < (height * width) ** 0.5 < 2 * self.side:
            return None
        harder = "harder" if height * width < self.side**2 else "milder"
        return (
            f"Presets named after papers blur faces of {self.side} x {self.side} pixels: on "
            f"{width} x {height} the damage is {harder} than theirs."
        )
