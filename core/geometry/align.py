"""Faces cut out upright, at the size and in the position a restorer expects."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import FacewrightError, counted
from .face import Face, NoFace
from .templates import template
from .warp import Ranges, fit_similarity, warp

BOX_POINTS = ((0.295, 0.37), (0.705, 0.37), (0.5, 0.61), (0.33, 0.79), (0.67, 0.79))
"""Where the five points lie in a detector's box, as shares of its width and height."""


_ALIGNED_BOX = (0.2, 0.27, 0.8, 0.92)
"""x0, y0, x1, y1 from brows to chin in a face aligned to FFHQ's template, as shares of its side."""


def aligned_face(height: int, width: int) -> Face:
    """The face of a picture that is aligned to FFHQ's template already, told without looking.

    Of a picture that is not square, the square in its middle counts.
    """
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    x0, y0, x1, y1 = (share * side for share in _ALIGNED_BOX)
    return Face((x0, y0, x1, y1), 1.0, template(side)).shifted(left, top)


@dataclass(frozen=True)
class Tracks:
    """Which of n faces are one over the frames of a video (`core.video.tracking`)."""

    number: Tensor
    """(n,) int64, the same for a face in all its frames."""
    period: float
    """Frames of the movement that smoothing halves; 0 where nothing is smoothed."""
    weight: Tensor
    """(n,) float64 in [0, 1]: how much of the restored face is shown, less where it fades in."""
    source: Tensor
    """(n,) int64: which of the faces that were found it is, -1 where it was filled in."""


@dataclass
class FacePlaces:
    """Where n faces of a batch of pictures are."""

    matrix: Tensor
    """(n, 2, 3) float64 on the CPU, picture -> crop; pixel i has its centre at i in both."""
    image_index: Tensor
    """(n,) int64: which picture of the batch."""
    landmarks: Tensor | None
    """(n, k, 2) in picture pixels: dense where every face has them, else the five points."""
    boxes: Tensor
    """(n, 4) x0, y0, x1, y1 in picture pixels."""
    scores: Tensor
    """(n,)"""


@dataclass(frozen=True, kw_only=True)
class Pasted:
    """How n faces were put back, as `paste_faces` was told."""

    feather: float
    color: str
    strength: float
    detail: float
    masks: Tensor | None
    """(n, h, w) in [0, 1]."""

    def of_faces(self, mine: Tensor) -> "Pasted":
        """Of those faces (n,) bool alone."""
        masks = self.masks
        return self if masks is None else replace(self, masks=masks[mine.to(masks.device)])


@dataclass
class FaceCrops(FacePlaces):
    """n aligned faces of a batch of pictures, and what is needed to put them back."""

    pixels: Tensor
    """(n, 3, s, s) in [0, 1]."""
    image_sizes: list[tuple[int, int]]
    """(height, width) of every picture of the batch, faces or not."""
    report: list[str]
    """One line per picture."""
    tracks: Tracks | None = None
    """Where the pictures are frames of a video and Smooth Faces has followed their faces."""
    none: dict[int, NoFace] = field(default_factory=dict)
    """By the picture, why it has no face, where whoever looked says so."""
    pasted: Pasted | None = None
    """How they were put back, where they come from Paste Faces."""

    def __len__(self) -> int:
        return len(self.pixels)

    def of_picture(self, index: int) -> "FaceCrops":
        """The faces of one picture, as if it were the only one."""
        mine = self.image_index == index
        landmarks, tracks = self.landmarks, self.tracks
        if tracks is not None:
            parts = (tracks.number[mine], tracks.period, tracks.weight[mine], tracks.source[mine])
            tracks = Tracks(*parts)
        return FaceCrops(
            matrix=self.matrix[mine],
            image_index=torch.zeros(int(mine.sum()), dtype=torch.int64),
            landmarks=None if landmarks is None else landmarks[mine.to(landmarks.device)],
            boxes=self.boxes[mine],
            scores=self.scores[mine],
            pixels=self.pixels[mine.to(self.pixels.device)],
            image_sizes=[self.image_sizes[index]],
            report=self.report[index : index + 1],
            tracks=tracks,
            none={0: self.none[index]} if index in self.none else {},
            pasted=None if self.pasted is None else self.pasted.of_faces(mine),
        )

    def check_pictures(self, images: Tensor | Sequence[Tensor]) -> None:
        """Raise FacewrightError unless the faces can have been cut out of `images`."""
        for picture in images:
            check_picture(picture)
        sizes = [(p.shape[-2], p.shape[-1]) for p in images]
        if sizes != list(self.image_sizes):
            raise FacewrightError(
                f"The faces were cut out of {_pictures(self.image_sizes)}, but "
                f"{_pictures(sizes)} came. Use the same pictures the faces were detected in."
            )
        self.check()

    def placed_in(self, images: Tensor | Sequence[Tensor]) -> "FaceCrops":
        """The same faces where they lie in `images`: those they were cut out of, or enlarged ones.

        A face is best cut out of the pixels that a camera made, whatever it is put back into.

        Raises:
            FacewrightError: as `check_pictures`.
        """
        sizes = [(p.shape[-2], p.shape[-1]) for p in images]
        if not _are_enlarged(self.image_sizes, sizes):
            self.check_pictures(images)
            return self
        pairs = zip(self.image_sizes, sizes, strict=True)
        factors = [(new[1] / old[1], new[0] / old[0]) for old, new in pairs]
        factor = torch.tensor(factors, dtype=torch.float64)[self.image_index]
        back = self.matrix[:, :, :2] / factor[:, None]
        # Pixel i reaches from i - 1/2 to i + 1/2 in both.
        shift = self.matrix[:, :, 2] + (self.matrix[:, :, :2] - back).sum(-1) * -0.5
        placed = replace(
            self,
            matrix=torch.cat([back, shift[..., None]], -1),
            landmarks=None if self.landmarks is None else _grown(self.landmarks, factor[:, None]),
            boxes=_grown(self.boxes, factor.repeat(1, 2)),
            image_sizes=sizes,
        )
        placed.check_pictures(images)
        return placed

    def check(self) -> None:
        """Raise FacewrightError unless every face has a place in one of the pictures."""
        n, pictures = len(self.pixels), len(self.image_sizes)
        numbers = self.image_index.tolist()
        if (
            tuple(self.matrix.shape) != (n, 2, 3)
            or len(numbers) != n
            or not all(0 <= i < pictures for i in numbers)
            or not torch.isfinite(self.matrix).all()
            or (torch.linalg.det(self.matrix[:, :, :2]) == 0).any()
            or not torch.isfinite(self.pixels).all()
        ):
            raise FacewrightError(
                f"`faces` holds {n} crops of {pictures} pictures whose places or pixels cannot be "
                "used. Detect the faces again."
            )


def box_points(face: Face) -> Tensor:
    """Five points guessed from a box and its roll: the mean face, (5, 2) float64.

    Good to about a tenth of the box for upright frontal faces, and blind to yaw and pitch.
    """
    x0, y0, x1, y1 = face.box
    shares = torch.tensor(BOX_POINTS, dtype=torch.float64) - 0.5
    offset = shares * torch.tensor([x1 - x0, y1 - y0], dtype=torch.float64)
    c, s = math.cos(face.angle), math.sin(face.angle)
    rotation = torch.tensor([[c, -s], [s, c]], dtype=torch.float64)
    return offset @ rotation.T + torch.tensor(face.center, dtype=torch.float64)


def align_faces(
    images: Tensor | Sequence[Tensor],
    faces: Sequence[Sequence[Face]],
    size: int = 512,
    none: Mapping[int, NoFace] | None = None,
) -> FaceCrops:
    """Cut faces out by the best similarity between their five points and FFHQ's.

    A face without points is aligned by its box and roll, and the report says so.

    Args:
        images: (b, c, h, w), or b pictures (c, h, w) of different sizes; c >= 3, the first three
            channels RGB in [0, 1].
        faces: per picture, 0 or more.
        size: side of the crops in pixels.
        none: by the picture, why it has no face.

    Raises:
        FacewrightError: pictures and face lists that do not match, fewer than three channels,
            integer pixels, or landmarks that cannot be aligned.
    """
    if len(images) != len(faces):
        raise FacewrightError(
            f"There are {len(images)} pictures but face lists for {len(faces)}; "
            "detect the faces in the same batch that is aligned."
        )
    for picture in images:
        check_picture(picture)
    places, none = place_faces(faces, size), dict(none or {})
    return FaceCrops(
        **vars(places),
        pixels=cut_out(images, places, size),
        image_sizes=[(p.shape[-2], p.shape[-1]) for p in images],
        report=[_line(i, of_picture, none.get(i)) for i, of_picture in enumerate(faces)],
        none=none,
    )


def place_faces(faces: Sequence[Sequence[Face]], size: int = 512) -> FacePlaces:
    """Where `align_faces` would cut the faces out.

    Raises:
        FacewrightError: landmarks that cannot be aligned.
    """
    found = [(i, face) for i, of_picture in enumerate(faces) for face in of_picture]
    points = [box_points(f) if f.points5 is None else f.points5.cpu().double() for _, f in found]
    matrix = torch.empty(0, 2, 3, dtype=torch.float64)
    if found:
        matrix = fit_similarity(torch.stack(points), template(size))
    return FacePlaces(
        matrix=matrix,
        image_index=torch.tensor([i for i, _ in found], dtype=torch.int64),
        landmarks=_landmarks([face for _, face in found]),
        boxes=torch.tensor([face.box for _, face in found], dtype=torch.float32).view(-1, 4),
        scores=torch.tensor([face.score for _, face in found], dtype=torch.float32),
    )


def cut_out(images: Tensor | Sequence[Tensor], places: FacePlaces, size: int) -> Tensor:
    """(n, 3, size, size) in [0, 1]: the faces of `places`, in the pictures' dtype and device."""
    like = images[0] if len(images) else torch.empty(0)
    pixels = like.new_empty(len(places.matrix), 3, size, size)
    indices, ranges = places.image_index.tolist(), Ranges(images)
    for face, i, matrix in zip(pixels, indices, places.matrix, strict=True):
        cut = warp(images[i][:3], matrix, (0, 0, size, size), ranges.of(i))
        face.copy_(cut.clamp_(0, 1))
    return pixels


def check_picture(picture: Tensor) -> None:
    """Raise FacewrightError unless `picture` is (c >= 3, h, w), floating point and not empty."""
    if picture.ndim != 3 or picture.shape[0] < 3 or 0 in picture.shape:
        raise FacewrightError(
            "A picture should be (c, h, w) with RGB in its first three channels, "
            f"got {tuple(picture.shape)}. Convert greyscale to RGB first."
        )
    if not picture.is_floating_point():
        raise FacewrightError(f"A picture should be floating point in [0, 1], got {picture.dtype}.")


def _are_enlarged(old: Sequence[tuple[int, int]], new: Sequence[tuple[int, int]]) -> bool:
    """Whether pictures are larger and of the shape that they had, but for the last pixel."""
    return len(old) == len(new) > 0 and all(
        h0 < h and w0 < w and abs(h * w0 - w * h0) <= (h0 + w0) / 2
        for (h0, w0), (h, w) in zip(old, new, strict=True)
    )


def _grown(points: Tensor, factor: Tensor) -> Tensor:
    return (points + 0.5) * factor.to(points) - 0.5


def _pictures(sizes: Sequence[tuple[int, int]]) -> str:
    """Number and sizes in words; a video's frames are all of one size."""
    shown = [f"{w} x {h}" for h, w in list(dict.fromkeys(sizes))[:3]]
    return f"{counted(len(sizes), 'picture')} of {', '.join(shown) or 'no'} pixels"


def _landmarks(faces: list[Face]) -> Tensor | None:
    for points in ([face.landmarks for face in faces], [face.points5 for face in faces]):
        known = [p.cpu().float() for p in points if p is not None]
        if known and len(known) == len(faces):
            return torch.stack(known)
    return None


def _line(index: int, faces: Sequence[Face], none: NoFace | None) -> str:
    if not faces:
        plain = NoFace("no face found") if none is None else none
        unchanged = f"picture {index}: {plain.why}; it passes through unchanged"
        return f"{unchanged}. {plain.advice}" if plain.advice else unchanged
    by_box = sum(face.points5 is None for face in faces)
    how = "aligned by five points" if by_box == 0 else "aligned by box"
    if 0 < by_box < len(faces):
        how = f"{by_box} of them aligned by box"
    count = counted(len(faces), "face")
    return f"picture {index}: {count}, {how}"
