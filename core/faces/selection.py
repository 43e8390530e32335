"""Which faces of a picture to work on, and in which order."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, counted, listed, shorten
from ..geometry.face import Face, FaceAnalyzer, NoFace

_KEYS = {
    "left to right": lambda face: face.center[0],
    "top to bottom": lambda face: face.center[1],
    "size": lambda face: -face.size,
    "score": lambda face: -face.score,
}
ORDERS = tuple(_KEYS)
"""Orders `choose_faces` knows."""

ROOM = 0.25
"""Share by which a picture is extended where no face is seen: aligned faces fill it."""
_LOG = logging.getLogger(__name__)
_FARTHEST = 8
"""Longer sides of the picture that anything of a face may lie away from its corner."""


def parse_pick(text: str) -> list[int]:
    """ "0, 2" -> [0, 2], each number once; an empty text means all faces and gives [].

    Raises:
        FacewrightError: anything but non-negative whole numbers separated by commas.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise FacewrightError(
            "Faces are picked by numbers separated by commas, such as '0' or '0, 2', got "
            f"'{shorten(text)}'."
        )
    # Nine digits are more faces than any picture has, and Python reads no more than 4300.
    return list(dict.fromkeys(int(part[:9]) for part in parts))


@dataclass(frozen=True)
class Selected:
    """The faces of a picture to work on."""

    faces: list[Face]
    none: NoFace | None = None
    """Why, where there is none."""


class Selection(TypedDict, total=False):
    """What `choose_faces` is told of the faces to keep."""

    order: str
    pick: str
    min_size: float
    min_score: float
    max_count: int


def choose_faces(
    faces: list[Face],
    *,
    order: str = "left to right",
    pick: str = "",
    min_size: float = 0.0,
    min_score: float = -math.inf,
    max_count: int = 0,
) -> Selected:
    """Drop faces that are too small or too doubtful, order the rest, then pick.

    Equal keys keep a defined order (x, then y of the centre), so that numbers stay the same from
    run to run.

    Args:
        faces: of one picture.
        order: one of `ORDERS`.
        pick: numbers in that order, such as "0, 2"; empty takes all. A number beyond the last face
            takes none: in a video a person may leave the frame.
        min_size: in pixels, of the side of the square with the box's area.
        min_score: 0 to 1, by the analyzer's own measure.
        max_count: 0 means no limit.

    Returns:
        The faces, or why none is left.

    Raises:
        FacewrightError: an unknown order or an unreadable `pick`.
    """
    if order not in _KEYS:
        raise FacewrightError(f"No face order '{order}'; known: {', '.join(ORDERS)}.")
    wanted = parse_pick(pick)
    key = _KEYS[order]
    kept = [face for face in faces if face.size >= min_size and face.score >= min_score]
    kept.sort(key=lambda face: (key(face), *face.center))
    able = len(kept)
    if wanted:
        kept = [kept[i] for i in wanted if i < able]
    if kept:
        return Selected(kept[:max_count] if max_count > 0 else kept)
    return Selected([], _why_none(faces, able, wanted, min_size, min_score))


def select_faces(faces: list[Face], **choice: Unpack[Selection]) -> list[Face]:
    """The faces of `choose_faces`."""
    return choose_faces(faces, **choice).faces


def _why_none(
    faces: list[Face], able: int, wanted: list[int], min_size: float, min_score: float
) -> NoFace:
    """Why none of `faces` is taken, `able` of which are large and sure enough."""
    if not faces:
        return NoFace("no face found")
    small = [face.size for face in faces if face.size < min_size]
    doubtful = [f.score for f in faces if f.size >= min_size and f.score < min_score]
    limits, advice = [], []
    if small:
        best = f"{'the largest ' * (len(small) > 1)}{int(max(small))} px"
        limits.append((len(small), f"smaller than {min_size:g} px ({best})"))
        advice.append("a smaller min_size")
    if doubtful:
        best = f"{'the surest ' * (len(doubtful) > 1)}{math.floor(100 * max(doubtful)) / 100:.2f}"
        limits.append((len(doubtful), f"less sure than {min_score:g} ({best})"))
        advice.append("a smaller min_score")
    words = [f"{number} {limit}" for number, limit in limits]
    if len(limits) == 1 and not able:
        words = ["all " * (len(faces) > 1) + limits[0][1]]
    if able:
        words.append(f"none numbered {listed(wanted, between=' or ')} (numbers start at 0)")
        advice.append("other numbers in pick")
    found = f"{counted(len(faces), 'face')} found"
    return NoFace(", ".join([found, *words]), f"Try {' and '.join(advice)}.")


def find_faces(
    analyzer: FaceAnalyzer,
    image: Tensor,
    *,
    padding: float = 0.0,
    on_none: Callable[[NoFace], object] = lambda why: None,
    **choice: Unpack[Selection],
) -> list[Face]:
    """`detect_faces`, then `choose_faces`.

    Args:
        on_none: told why where no face is left.
        choice: as for `choose_faces`.

    Raises:
        FacewrightError: as those.
    """
    found = detect_faces(analyzer, image, padding=padding)
    selected = choose_faces(found, **choice)
    if selected.none is not None:
        on_none(_by(selected.none, analyzer, bool(found), padding))
    return selected.faces


def none_left(none: Iterable[NoFace], of: int, noun: str = "picture") -> str:
    """A summary for the log and for reports: "No face to work on in 2 of 3 pictures: ...".

    Args:
        none: why, for each picture without a face; empty gives nothing.
        of: how many pictures there are.
        noun: what they are.
    """
    counts = Counter(none)
    if not counts:
        return ""
    whys: Counter[str] = Counter()
    for one, number in counts.items():
        whys[one.why] += number
    several = [f"{why} ({counted(number, noun)})" for why, number in whys.most_common()]
    where = "" if of == 1 else f" in {counts.total()} of {counted(of, noun)}"
    words = next(iter(whys)) if len(whys) == 1 else listed(several, between="; ")
    advice = dict.fromkeys(one.advice for one, _ in counts.most_common() if one.advice)
    return " ".join([f"No face to work on{where}: {words}.", *list(advice)[:2]])


def warn_of_none(who: str, summary: str) -> None:
    """Log what `none_left` says, if anything.

    Args:
        who: the title of a node.
    """
    if summary:
        _LOG.warning("%s: %s", who, summary)


def _by(none: NoFace, analyzer: FaceAnalyzer, found: bool, padding: float) -> NoFace:
    """With who looked, and what to try where nothing was found."""
    name = analyzer.name
    why = none.why.replace(" found", f" found by {name}", 1)
    if found:
        return NoFace(why, none.advice)
    if name == "nano":
        return NoFace(
            why,
            "nano knows computer-drawn faces only: for photographs choose another face detector, "
            "such as auto.",
        )
    tips = []
    if name == "skimage":
        tips.append("the face detector mediapipe, as skimage sees upright frontal faces only")
    if padding < ROOM:
        tips.append("a padding of 0.3 where a face fills the picture")
    if getattr(analyzer, "rotations", None) is False:  # it could, and does not
        tips.append("rotations where a face lies on its side")
    if name != "skimage":
        tips.append("another face detector")
    return NoFace(why, f"Try {', or '.join(tips)}.")


def detect_faces(
    analyzer: FaceAnalyzer,
    image: Tensor,
    *,
    padding: float = 0.0,
    on_lost: Callable[[str], object] = _LOG.warning,
) -> list[Face]:
    """Faces of one picture, also those that fill it or touch its border.

    Detectors want to see some room around a face. `padding` continues the picture on every side by
    repeating its border; coordinates are those of the picture itself, and a face whose centre lies
    outside the picture is dropped.

    Args:
        analyzer: any backend.
        image: (3, h, w) floating point in [0, 1].
        padding: share of the longer side, in [0, 1].
        on_lost: takes a sentence about faces that the analyzer placed where there can be none.

    Raises:
        FacewrightError: a wrong shape or a padding outside [0, 1].
    """
    if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        raise FacewrightError(
            "Faces are looked for in one RGB picture (3, h, w) of floating point in [0, 1], "
            f"got {tuple(image.shape)} {image.dtype}."
        )
    if not 0 <= padding <= 1:
        raise FacewrightError(f"`padding` is a share of the picture in [0, 1], got {padding}.")
    height, width = image.shape[-2:]
    room = round(padding * max(height, width))
    if room == 0:
        return _plausible(analyzer.detect(image), height, width, on_lost)
    padded = F.pad(image[None], (room, room, room, room), "replicate")[0]
    faces = [face.shifted(-room, -room) for face in analyzer.detect(padded)]
    return [
        face
        for face in _plausible(faces, height, width, on_lost)
        if centered_in(face, height, width)
    ]


def centered_in(face: Face, height: int, width: int) -> bool:
    """Whether the middle of a face lies in the picture."""
    x, y = face.center
    return -0.5 <= x < width - 0.5 and -0.5 <= y < height - 0.5


def plausible(face: Face, height: int, width: int) -> bool:
    """Whether a face of a picture lies near it, is larger than a pixel, and has no NaN."""
    most = _FARTHEST * max(height, width)
    box = torch.tensor(face.box, dtype=torch.float64).view(2, 2)
    given = [p for p in (face.points5, face.landmarks) if p is not None]
    points = [box, *(p.detach().cpu().double() for p in given)]
    if not all(p.numel() and bool((p.abs() <= most).all()) for p in points):  # NaN is not
        return False
    # By what it is cut out.
    five = box if face.points5 is None else points[1]
    return bool((five.amax(0) - five.amin(0)).max() >= 1)


def _plausible(
    faces: list[Face], height: int, width: int, on_lost: Callable[[str], object]
) -> list[Face]:
    """Without those that lie nowhere near the picture: one of them costs no more than itself."""
    kept = [face for face in faces if plausible(face, height, width)]
    if len(kept) < len(faces):
        on_lost(
            f"The face analyzer placed {len(faces) - len(kept)} of {len(faces)} faces where there "
            "can be none (smaller than a pixel, far outside the picture, or NaN): they are left "
            "out."
        )
    return kept
