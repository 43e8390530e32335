"""Faces that others found: ComfyUI's face landmarks, boxes of any detector, and masks.

What ComfyUI's sockets carry (comfy_extras/nodes_mediapipe.py, nodes_rtdetr.py and nodes_sam3.py of
ComfyUI 0.33), none of which is imported here:

- FACE_LANDMARKS: {"frames": per picture a list of {"landmarks_xy": (478, 2), "bbox_xyxy": (4,),
  "score": number, ...}, "image_size": (height, width), ...}; pixel i has its centre at i.
- BOUNDING_BOX: {"x", "y", "width", "height"} in pixels, mostly with "score" and "label"; one such
  box, a list of them, or per picture a list of them. As for ComfyUI's own nodes, a single box or
  list stands for all pictures. A box begins where its first pixel does, at x - 1/2.
- MASK: (m, h, w) in [0, 1].
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from ..errors import FacewrightError, counted, listed, shorten
from ..geometry.align import FaceCrops, align_faces
from ..geometry.face import Face, NoFace
from .foreign import UnusableError, is_list, kind, landmark_face, number
from .merging import SAME, overlaps
from .selection import Selected, Selection, centered_in, choose_faces, plausible

_SPECK = 8
"""Pixels: parts of a mask that are smaller along an axis are no faces."""
_PART = 0.05
"""Share of a mask's largest part from which another part belongs to the same face."""
_NAMED = 8
"""Detections of a picture that are named where they are left out."""
_AGAIN = "Detect in the very pictures that go into `image`."


@dataclass
class _Picture:
    """What becomes of the detections in one picture."""

    height: int
    width: int
    faces: list[Face] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def add(self, what: str, read: Callable[[Any], Face], detections: Sequence[Any]) -> None:
        """Those of one source that `read` makes a face of; reasons stand beside the others."""
        for i, detection in enumerate(detections):
            try:
                face = read(detection)
                self._check(face)
            except UnusableError as reason:
                self.left_out.append(f"{what} {i} {reason}")
            else:
                self.faces.append(face)

    def _check(self, face: Face) -> None:
        if not plausible(face, self.height, self.width):
            raise UnusableError("lies where no face can be")
        if not centered_in(face, self.height, self.width):
            raise UnusableError("lies outside the picture")
        boxes = torch.tensor([face.box, *(f.box for f in self.faces)], dtype=torch.float64)
        if (overlaps(boxes[:1], boxes[1:])[0] > SAME).any():
            raise UnusableError("is a face that is there already")

    def choose(self, **selection: Unpack[Selection]) -> Selected:
        """Those to work on, or why there is none."""
        chosen = choose_faces(self.faces, **selection)
        if self.faces:
            return chosen
        advice = "Try a lower threshold of the detector, or another one."
        if self.left_out:
            advice = f"Left out: {listed(self.left_out, _NAMED)}."
        return Selected([], NoFace("no face in the detections", advice))

    @property
    def note(self) -> str:
        """What was left out, behind the report's line on the faces."""
        if not self.left_out or not self.faces:
            return ""
        return f"; left out: {listed(self.left_out, _NAMED)}"


def faces_from_detections(
    pictures: Tensor,
    size: int = 512,
    *,
    face_landmarks: object = None,
    bounding_boxes: object = None,
    masks: object = None,
    label: str = "",
    **selection: Unpack[Selection],
) -> FaceCrops:
    """Cut out the faces that were found elsewhere.

    A face with landmarks is aligned by its five points, one without by its box. A face that is
    shown twice counts once: landmarks go before boxes, boxes before masks, the first before the
    second.

    Args:
        pictures: (b, c >= 3, h, w) in [0, 1].
        size: side of the crops in pixels.
        face_landmarks, bounding_boxes: what the sockets FACE_LANDMARKS and BOUNDING_BOX carry.
        masks: (m, h, w), above 0.5 where a face is. For a single picture, m > 1 masks are a face
            each, without what is far smaller than its largest part. Otherwise there is a mask per
            picture, or one for all, and each connected part (of 8 neighbours) is a face.
        label: boxes are taken that bear one of these names, separated by commas, in upper or lower
            case; empty takes all.
        selection: see `choose_faces`.

    Returns:
        The faces. The report says of each picture what of the detections was left out, and why.

    Raises:
        FacewrightError: nothing is given, or something that is none of these, or of other pictures.
    """
    count, (height, width) = len(pictures), pictures.shape[-2:]
    if face_landmarks is None and bounding_boxes is None and masks is None:
        raise FacewrightError(
            "Nothing says where the faces are: connect `face_landmarks`, `bounding_boxes` or "
            "`masks`."
        )
    found = [_Picture(height, width) for _ in range(count)]
    wanted = {name.strip().casefold() for name in label.split(",") if name.strip()}
    sources: list[tuple[str, Callable[[Any], Face], Sequence[Sequence[Any]]]] = []
    if face_landmarks is not None:
        frames = _frames(face_landmarks, count, height, width)
        sources.append(("face", landmark_face, frames))
    if bounding_boxes is not None:
        sources.append(("box", lambda box: _box_face(box, wanted), _boxes(bounding_boxes, count)))
    if masks is not None:
        shown = _shown(masks, count, height, width)
        each = count == 1 and len(shown) != 1
        parts = [[_whole(mask) for mask in shown]] if each else [_parts(mask) for mask in shown]
        if len(parts) != count:
            parts = parts * count if parts else [[]] * count
        sources.append(("mask" if each else "mask part", _mask_face, parts))
    for what, read, detections in sources:
        for picture, of_picture in zip(found, detections, strict=True):
            picture.add(what, read, of_picture)
    chosen = [picture.choose(**selection) for picture in found]
    none = {i: one.none for i, one in enumerate(chosen) if one.none is not None}
    crops = align_faces(pictures, [one.faces for one in chosen], size, none)
    report = [f"{line}{f.note}" for line, f in zip(crops.report, found, strict=True)]
    return replace(crops, report=report)


def _frames(value: Any, count: int, height: int, width: int) -> list[Sequence[Any]]:
    """The faces of each picture in FACE_LANDMARKS."""
    frames = value.get("frames") if isinstance(value, dict) else None
    if not isinstance(value, dict) or not is_list(frames) or not all(map(is_list, frames)):
        raise FacewrightError(
            "`face_landmarks` should hold a list of faces for each picture, as Detect Face "
            f"Landmarks (MediaPipe) gives it, got {kind(value)}."
        )
    if len(frames) != count:
        raise FacewrightError(
            f"`face_landmarks` is of {counted(len(frames), 'picture')}, and `image` holds {count}. "
            + _AGAIN
        )
    try:
        of = tuple(int(side) for side in value.get("image_size", (height, width)))
    except (TypeError, ValueError, OverflowError):
        of = ()
    if of != (height, width):
        sides = " x ".join(map(str, reversed(of))) or "no"
        raise FacewrightError(
            f"`face_landmarks` was found in pictures of {shorten(sides, 40)} pixels, and `image` "
            f"is {width} x {height}. {_AGAIN}"
        )
    return list(frames)


def _boxes(value: Any, count: int) -> list[Sequence[Any]]:
    """The boxes of each picture in any form that BOUNDING_BOX has."""
    if isinstance(value, dict):
        value = [value]
    if not is_list(value) or not all(isinstance(v, dict) or is_list(v) for v in value):
        raise FacewrightError(
            "`bounding_boxes` should be boxes with x, y, width and height, or a list of them for "
            f"each picture, got {kind(value)}. Connect the boxes of a detector."
        )
    lists = [v for v in value if is_list(v)]
    if not lists:
        return [value] * count
    if len(lists) < len(value):
        raise FacewrightError(
            f"`bounding_boxes` mixes {counted(len(lists), 'list')} of boxes with single boxes. "
            "Give a list for each picture, or one list for all."
        )
    if len(lists) not in (1, count):
        raise FacewrightError(
            f"`bounding_boxes` is of {len(lists)} pictures, and `image` holds {count}. {_AGAIN}"
        )
    return lists if len(lists) == count else lists * count


def _shown(value: Any, count: int, height: int, width: int) -> np.ndarray:
    """(m, h, w) bool: where the faces are in masks that fit the pictures."""
    mask = value[None] if isinstance(value, Tensor) and value.ndim == 2 else value
    if not isinstance(mask, Tensor) or mask.ndim != 3 or mask.is_complex():
        raise FacewrightError(
            f"`masks` should be a MASK (masks, height, width), got {kind(value)}. A picture "
            "becomes one by Convert Image to Mask."
        )
    if tuple(mask.shape[1:]) != (height, width):
        raise FacewrightError(
            f"`masks` is {mask.shape[2]} x {mask.shape[1]} pixels, and `image` {width} x {height}. "
            f"Masks are read pixel by pixel: {_to_do(mask)}."
        )
    if len(mask) not in (0, 1, count) and count != 1:
        raise FacewrightError(
            f"`masks` holds {len(mask)} masks for {counted(count, 'picture')}. Give one per "
            "picture, in which each part is a face, or several for a single picture, one per face."
        )
    if not mask.isfinite().all():
        raise FacewrightError(
            "`masks` holds NaN or infinite numbers. Something before this node went wrong."
        )
    return (mask > 0.5).cpu().numpy()


def _to_do(mask: Tensor) -> str:
    """About a mask of another size than the picture."""
    if mask.shape[1:] == (64, 64) and not mask.any():
        return (
            "Load Image gives this black one where a picture has no mask of its own. Paint one in "
            "its mask editor, or connect that of a segmenter"
        )
    return "bring them to the size of the picture first"


def _whole(mask: np.ndarray) -> np.ndarray | None:
    """The box x0, y0, x1, y1 (ends included) of a mask (h, w) that is one face, if it is not empty.

    Parts far smaller than the largest are specks: a segmenter leaves some far from the face.
    """
    parts = list(_components(mask))
    largest = max((size for _, size in parts), default=0)
    boxes = np.array([box for box, size in parts if size >= _PART * largest])
    return np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]) if len(boxes) else None


def _parts(mask: np.ndarray) -> list[np.ndarray]:
    """The boxes of a mask's connected parts."""
    return [box for box, _ in _components(mask)]


def _components(mask: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
    """Box and number of pixels of each connected part of a mask (h, w), from the top."""
    from scipy.ndimage import find_objects, label

    numbered = np.zeros(mask.shape, np.int32)
    label(mask, np.ones((3, 3), int), output=numbered)
    sizes = np.bincount(numbered.ravel())
    for i, (rows, columns) in enumerate(find_objects(numbered), 1):
        yield np.array([columns.start, rows.start, columns.stop - 1, rows.stop - 1]), int(sizes[i])


def _box_face(value: object, wanted: set[str]) -> Face:
    if not isinstance(value, dict):
        raise UnusableError(f"is {kind(value)} and no box")
    called = value.get("label")
    if wanted and (called is None or str(called).strip().casefold() not in wanted):
        raise UnusableError(
            "has no label" if called is None else f"is labelled {shorten(called, 30)!r}"
        )
    x, y, width, height = (number(value.get(k), k) for k in ("x", "y", "width", "height"))
    score = number(value.get("score", 1.0), "score")
    if width <= 0 or height <= 0:
        raise UnusableError(f"is {width:g} x {height:g} pixels")
    return Face((x - 0.5, y - 0.5, x + width - 0.5, y + height - 0.5), score)


def _mask_face(box: np.ndarray | None) -> Face:
    if box is None:
        raise UnusableError("is empty")
    x0, y0, x1, y1 = (float(v) for v in box)
    if min(x1 - x0, y1 - y0) + 1 < _SPECK:
        raise UnusableError(f"is {x1 - x0 + 1:g} x {y1 - y0 + 1:g} pixels, no face")
    return Face((x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5), 1.0)
