"""A receipt for a restored face: what became of it, measured against what came in."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from torch import Tensor

from ..errors import FacewrightError, shorten
from ..faces.certainty import TURNED
from ..files import json_text
from ..files.own_version import own_version
from .measured import REGIONS, Measured

FORMAT = "facewright.receipts"
VERSION = 2
"""`receipts.schema.json` describes it; those of version 1 know nothing of pictures and options."""
KEYWORD = "facewright_receipts"
"""Of the text chunk in PNGs."""

Verdict = Literal["kept", "lowered", "fell back", "too far", "nearest"]
"""kept: as asked, and within the limit. lowered: within the limit at less strength. fell back: the
input. too far: as asked though beyond the limit, as nothing was to be done about it. nearest: not
even the input is within, and this strength is nearest to the anchor."""


def utc_now() -> str:
    """The date of receipts, "2026-01-31T12:00:00Z"; that of SOURCE_DATE_EPOCH where it is set.

    Raises:
        FacewrightError: the variable holds no number of seconds.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "").strip()
    try:
        now = datetime.fromtimestamp(int(given), UTC) if given else datetime.now(UTC)
    except (ValueError, OverflowError, OSError):
        raise FacewrightError(
            "The environment variable SOURCE_DATE_EPOCH should hold seconds since 1970, such as "
            f"1700000000; it holds {shorten(given)!r}. Correct it, or unset it for the date of now."
        ) from None
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """Which picture faces are in."""

    width: int
    height: int
    """In pixels, as the faces were found in it and put back: enlarged where that was asked for."""
    name: str | None = None
    """Of its file, without folders; None where it came from no file."""
    sha256: str | None = None
    """Of the file's bytes."""


def pictures_of(sizes: Sequence[tuple[int, int]]) -> tuple[PictureFacts, ...]:
    """Pictures (height, width) that are known by their sizes alone."""
    return tuple(PictureFacts(width=width, height=height) for height, width in sizes)


@dataclass(frozen=True, kw_only=True)
class About:
    """What receipts are of, and how the faces came about."""

    measured: Literal["delivered", "crops"] = "crops"
    """delivered: the faces as they were cut out of the finished pictures again, after mask,
    detail, color, strength and feather. crops: before they were pasted."""
    pictures: Sequence[PictureFacts] = ()
    date: str = field(default_factory=utc_now)
    """When the run began, in UTC."""
    models: Sequence[Mapping[str, str]] = ()
    """Names of weight files, and the SHA-256 of their bytes."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """How faces were asked to be restored, by the names of `RestoreOptions`."""
    max_drift: float = math.nan
    limit: str = ""
    """Where `max_drift` comes from, and how many strangers are within it."""

    def entry(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "measured": self.measured,
            "facewright": own_version(),
            "date": self.date,
            "pictures": [vars(picture) for picture in self.pictures],
            "models": [dict(model) for model in self.models],
            "options": dict(self.options),
            "limit": json_text.strict({"max_drift": self.max_drift, "source": self.limit or None}),
        }


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """One face: how far it drifted, what was done about it, and what changed."""

    face: int
    person: str | None
    """Whose album the references are from; None without one."""
    anchor: Literal["references", "input"]
    """What the drift is measured from."""
    verdict: Verdict
    strength: float
    """Share of the restored face in the result: 1 as it came, 0 the input."""
    max_drift: float
    drift: float
    """1 - cosine(result, anchor)."""
    drift_restored: float
    """1 - cosine(face as asked, anchor), before anything was done about it; of a face that is kept,
    beside its neighbours as these leave."""
    drift_input: float = math.nan
    """1 - cosine(input, anchor)."""
    cosine_input: float
    """Of the result and the input."""
    cosine_references: float
    """Of the result and the references; NaN without any."""
    measured: Measured
    asked: float = 1.0
    """The strength that was asked for, where the face fades in or out less."""
    picture: int | None = None
    """Which of the pictures it is in; None where only its crop is known."""
    box: tuple[float, ...] | None = None
    """x0, y0, x1, y1 in pixels of that picture."""

    @property
    def within(self) -> bool:
        """Whether the face as it leaves is within the limit."""
        return self.drift <= self.max_drift

    def entry(self) -> dict[str, Any]:
        """For JSON: finite numbers or None."""
        m = self.measured
        content = {
            "face": self.face,
            "picture": self.picture,
            "box": None if self.box is None else [round(v, 2) for v in self.box],
            "person": self.person,
            "anchor": self.anchor,
            "verdict": self.verdict,
            "within": self.within,
            "strength": self.strength,
            "asked": self.asked,
            "max_drift": self.max_drift,
            "drift": self.drift,
            "drift_restored": self.drift_restored,
            "drift_input": self.drift_input,
            "cosine": {"input": self.cosine_input, "references": self.cosine_references},
            "a_ld": {
                region: {
                    "px": m.ald[region],
                    "eye_distances": m.share(region),
                    "error": m.error.get(region),
                }
                for region in REGIONS
            },
            "yaw": m.yaw,
            "color_difference": m.color,
            "seam": m.seam,
            "sharpness": m.sharpness,
        }
        return json_text.strict(content, digits=6)

    def line(self) -> str:
        """For people."""
        who = f"face {self.face}" + (f" ({self.person})" if self.person else "")
        return f"{who}: {self._what()}; {', '.join(self._numbers())}"

    def _what(self) -> str:
        source = "the references" if self.anchor == "references" else "the input"
        over = (
            f"drift from {source} {number(self.drift_restored)} is more than {self.max_drift:.2f}"
        )
        now, at = f"drift {number(self.drift)}", strength_text(self.strength)
        if self.verdict == "kept":
            asked = "" if self.asked == 1 else f" at strength {at}"
            return f"kept{asked}, {now} from {source}"
        if self.verdict == "lowered":
            return f"strength lowered to {at}, as {over}; now {now}"
        if self.verdict == "too far":
            return f"kept although {over}"
        if self.verdict == "nearest":
            return (
                f"nothing that was tried is within, not even the input (drift "
                f"{number(self.drift_input)}): strength {at} is nearest with {now}, as {over}"
            )
        even = ""
        if not self.within:
            even = f", whose own is {number(self.drift)}: nothing that was tried is within"
        return f"fell back to the input{even}, as {over}"

    def _numbers(self) -> list[str]:
        m = self.measured
        moved = ", ".join(
            f"{region} {number(m.share(region))}{_plus_minus(m.error.get(region))}"
            for region in REGIONS
        )
        turned = f", turned by about {m.yaw:.0f} degrees" if m.yaw > TURNED else ""
        return [
            f"A-LD {moved} eye distances{turned}",
            f"colour {number(m.color, 1)}",
            f"seam {number(m.seam)}",
            f"sharpness {number(m.sharpness)}",
        ]


def _plus_minus(error: float | None) -> str:
    return f" +- {error:.2f}" if error is not None and math.isfinite(error) else ""


def to_json(
    receipts: Sequence[Receipt], *, recogniser: str, action: str, about: About | None = None
) -> str:
    """Receipts as strict JSON in ASCII, as it also goes into PNGs; null for unknown numbers."""
    content = {
        "format": FORMAT,
        "version": VERSION,
        **(about or About()).entry(),
        "recogniser": recogniser,
        "action": action,
        "faces": [receipt.entry() for receipt in receipts],
    }
    return json.dumps(content, allow_nan=False)


def png_texts(
    receipts: str, pictures: int, image_index: Tensor | None = None
) -> list[dict[str, str]]:
    """Text chunks for each of a batch of PNGs.

    Args:
        receipts: from `to_json`; blank for none.
        pictures: how many.
        image_index: (n,) which picture each face is in; a picture then gets the receipts of its
            own faces, numbered as in the batch. None gives every picture all.

    Raises:
        FacewrightError: the text holds no receipts, or of another number of faces.
    """
    if not receipts.strip():
        return [{} for _ in range(pictures)]
    content = parse_json(receipts)
    content.pop("tracks", None)  # of all frames; each tells of its own faces
    faces = content["faces"]
    if image_index is None:
        return [{KEYWORD: json.dumps(content)} for _ in range(pictures)]
    if len(faces) != len(image_index):
        raise FacewrightError(
            f"`receipts` tells of {len(faces)} faces, but `faces` holds {len(image_index)}. "
            "Connect the Detect Faces whose faces the guard looked at."
        )
    where = image_index.tolist()
    own = [[f for f, b in zip(faces, where, strict=True) if b == i] for i in range(pictures)]
    return [{KEYWORD: json.dumps(_of_picture(content, i, part))} for i, part in enumerate(own)]


def _of_picture(content: dict[str, Any], index: int, faces: list[Any]) -> dict[str, Any]:
    """The receipts of one picture, which is then the first and only one."""
    known = content.get("pictures")
    if not isinstance(known, list) or index >= len(known):
        return {**content, "faces": faces}
    first = [{**f, "picture": 0} if isinstance(f, dict) else f for f in faces]
    return {**content, "pictures": [known[index]], "faces": first}


def parse_json(receipts: str) -> dict[str, Any]:
    """Read what `to_json` wrote, in any version until now.

    Raises:
        FacewrightError: it is something else.
    """
    try:
        content = json_text.parse_json(receipts, file_names=True)
    except json_text.JsonError:
        content = None
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not isinstance(content.get("faces"), list)
    ):
        raise FacewrightError(
            "`receipts` should be the JSON that Picture Guard or Identity Guard puts out, got "
            f"{shorten(receipts, 40)!r}."
        )
    version = content.get("version")
    if isinstance(version, int | float) and version > VERSION:
        raise FacewrightError(
            f"`receipts` are of version {shorten(version)}, and this facewright reads them up to "
            f"version {VERSION}. Update facewright, or make them anew."
        )
    return content


def number(value: float, digits: int = 2) -> str:
    """A number for people, also where there is none."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "unknown"


def strength_text(value: float) -> str:
    """Two digits, or one where that says all: 0.32, 0.4, 1.0."""
    text = f"{value:.2f}"
    return text.removesuffix("0")
