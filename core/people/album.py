"""Albums made of photographs: find the one person in all of them, cut out, measure, judge."""

import hashlib
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, counted, shorten
from ..faces import FaceAnalyzer, dense_landmarker, detect_faces
from ..geometry.align import FaceCrops, align_faces
from .outliers import Remedy, strangers
from .person import Person, base_name, check_name, to_bytes
from .photos import labels
from .recogniser import Recogniser

_PADDING = 0.3
"""Share of a picture that is added around it where no face was found: one may fill it."""
_TAPS = 11
"""Length of the blur that sharpness is measured against, as in the paper."""


@dataclass(frozen=True)
class _Photo:
    """One picture with the faces found in it."""

    source: str
    crops: FaceCrops
    embeddings: Tensor
    """(f, d) float64."""

    told: int | None = None
    """Which of the faces is the person's, where somebody said so."""

    @property
    def left_to_right(self) -> list[int]:
        """The faces as Detect Faces numbers them."""
        middles = self.crops.boxes.view(-1, 2, 2).mean(1).tolist()
        return sorted(range(len(middles)), key=lambda i: middles[i])

    @property
    def sizes(self) -> Tensor:
        """(f,) sides of the crops in pixels of the picture."""
        return torch.linalg.det(self.crops.matrix[:, :, :2]).rsqrt() * self.crops.pixels.shape[-1]


def make_person(
    photos: Sequence[Tensor],
    *,
    name: str,
    sources: Sequence[str],
    analyzer: FaceAnalyzer,
    recogniser: Recogniser,
    crop_size: int = 512,
    add_to: Person | None = None,
    on_photo: Callable[[int], None] = lambda n: None,
    remedy: Remedy | None = None,
    faces: Mapping[int, int] | None = None,
) -> tuple[Person, list[str]]:
    """An album of the one person whom the photographs show.

    Photos without a face are left out and pictures that came twice count once. In a photo with
    several faces the one is taken that agrees with the rest of the album, whatever the order of
    the photos, or that `faces` names, and the rest then has to agree with those. An album that
    seems to show two people is kept, with a warning.

    Args:
        photos: (3, h, w) in [0, 1], of any sizes; each is asked for once, and not kept.
        name: of the person.
        sources: a file's name or "photo 3" for each; of a path only the last part is kept.
        analyzer: has to give dense landmarks (`core.geometry.face.DenseLandmarker`).
        recogniser: of the embeddings; on the device where it is to run.
        crop_size: side of the aligned faces in pixels.
        add_to: an album of the same person that these photos join; it comes first.
        on_photo: called with how many photos were just looked at.
        remedy: how a photo is taken out where the report is read, for its warnings.
        faces: by the index of a photo which of its faces is the person's, counted from 0 and from
            the left, as in the preview of Detect Faces.

    Returns:
        The album, its photos in the given order, and a report: one line for each thing worth
        knowing, those that need a look begin with "warning: ".

    Raises:
        FacewrightError: no name, no usable photo (the sentence says why for each), an analyzer
            without dense landmarks, photos that are no pictures, or a number in `faces` that no
            photo or no face of it has.
    """
    name = check_name(name)
    if len(sources) != len(photos):
        raise FacewrightError(f"{len(photos)} photos came with {len(sources)} sources.")
    landmarker = dense_landmarker(analyzer)
    if add_to is not None:
        check_joins(add_to, recogniser.id, recogniser.dim, landmarker.points, crop_size)
    told = dict(faces or {})
    if wrong := [index for index in told if not 0 <= index < len(photos)]:
        raise FacewrightError(
            f"A face of photo {wrong[0]} is chosen, but there are {counted(len(photos), 'photo')}, "
            "numbered from 0."
        )
    report: list[str] = []
    seen: dict[int, _Photo] = {}
    again: dict[int, int] = {}
    for index, source, photo in _once(photos, [base_name(s) for s in sources], report, again):
        crops = _faces(photo, analyzer, crop_size, source, report)
        if crops is not None:
            embeddings = _embed(recogniser, crops.pixels)
            seen[index] = _with_told(_Photo(source, crops, embeddings), told.get(index))
        on_photo(1)
    if not seen:
        raise _nothing(name, report)
    for index, first in again.items():
        if first in seen:
            seen[first] = _with_told(seen[first], told.get(index))
    found = list(seen.values())
    album = None if add_to is None else add_to.template.double()
    limit = recogniser.limits.same_person
    picks = _consensus(found, limit, report, album)
    chosen = zip(found, picks, strict=True)
    parts = [(p.crops.pixels[i], p.sizes[i], p.embeddings[i]) for p, i in chosen]
    pixels, sizes, embeddings = (torch.stack(part) for part in zip(*parts, strict=True))
    crops = to_bytes(pixels).float() / 255
    landmarks = landmarker.landmarks(crops).float().cpu()
    known = landmarks.isfinite().flatten(1).all(1)
    pairs = list(zip((photo.source for photo in found), known.tolist(), strict=True))
    unknown = (source for source, good in pairs if not good)
    report += [f"{source}: left out, its landmarks are unknown" for source in unknown]
    if not known.any():
        raise _nothing(name, report)
    person = Person(
        name=name,
        crops=crops[known],
        embeddings=embeddings[known].float(),
        landmarks=landmarks[known],
        quality=photo_quality(crops, sizes)[known],
        recogniser=recogniser.id,
        sources=tuple(source for source, good in pairs if good),
    )
    if add_to is not None:
        person, twice = joined(add_to, person)
        report += twice
    report += strangers(person, remedy, limit)
    return person, [person.info, *report]


def _nothing(name: str, report: Sequence[str]) -> FacewrightError:
    return FacewrightError(
        f"No photo of {name} can be used: {'; '.join(report) or 'there are none'}. Use photos "
        "that show the face large and roughly from the front."
    )


def photo_names(count: int, add_to: Person | None = None) -> list[str]:
    """Names for photographs that have none: "photo 0" and so on, after those of `add_to`."""
    given = () if add_to is None else add_to.sources
    numbers = [int(m[1]) for source in given if (m := re.fullmatch(r"photo (\d{1,9})", source))]
    start = max((len(given), *(n + 1 for n in numbers)))
    return [f"photo {start + i}" for i in range(count)]


def check_joins(album: Person, recogniser: str, dim: int, points: int, side: int) -> None:
    """Raise FacewrightError unless photos that are read so can join an album.

    Args:
        recogniser: `Recogniser.id` of who makes their embeddings.
        dim: length of the embeddings; a file may lie about who made them.
        points: landmarks per photo.
        side: of the crops in pixels.
    """
    for what, has, given in (
        ("made with the recogniser", album.recogniser, recogniser),
        ("of embeddings with a length of", album.embeddings.shape[1], dim),
        ("of landmarks per photo:", album.landmarks.shape[1], points),
        ("of crops with a side in pixels of", album.crops.shape[-1], side),
    ):
        if has != given:
            raise FacewrightError(
                f"These photos cannot join the album of {shorten(album.name)}: it is {what} "
                f"{shorten(has)}, they give {shorten(given)}. Make both with the same recogniser, "
                "face detector and crop_size."
            )


def joined(first: Person, more: Person) -> tuple[Person, list[str]]:
    """One album of two, under the name of the second; a photograph that is in both counts once.

    Returns:
        The album, and a line for each photograph that is in both.

    Raises:
        FacewrightError: another recogniser, other landmarks, or crops of another size.
    """
    dim, points, side = more.embeddings.shape[1], more.landmarks.shape[1], more.crops.shape[-1]
    check_joins(first, more.recogniser, dim, points, side)
    known = {_digest(crop): label for crop, label in zip(first.crops, labels(first), strict=True)}
    found = [known.get(_digest(crop)) for crop in more.crops]
    new = [i for i, label in enumerate(found) if label is None]
    twice = [
        f"{name}: in the album already as {label}, counted once"
        for name, label in zip(labels(more), found, strict=True)
        if label is not None
    ]
    return replace(
        more,
        crops=torch.cat([first.crops, more.crops[new]]),
        embeddings=torch.cat([first.embeddings, more.embeddings[new]]),
        landmarks=torch.cat([first.landmarks, more.landmarks[new]]),
        quality=torch.cat([first.quality, more.quality[new]]),
        sources=(*first.sources, *(more.sources[i] for i in new)),
    ), twice


def _digest(pixels: Tensor) -> bytes:
    return hashlib.sha256(pixels.detach().float().cpu().contiguous().numpy().data).digest()


def photo_quality(crops: Tensor, sizes: Tensor) -> Tensor:
    """How much a photograph tells of a face, in [0, 1]: its size times its sharpness.

    Size is min(1, side of the crop in pixels of the photograph / side of the crop): what had to be
    enlarged holds less. Sharpness is one minus the blur effect of Crete et al. (SPIE 2007): the
    share of the differences between neighbours that a strong blur takes away, in the middle half of
    the crop. Sharp faces reach about 0.7, noise counts as sharpness.

    Args:
        crops: (n, 3, s, s) in [0, 1].
        sizes: (n,) sides of the crops in pixels of the photographs.

    Returns:
        (n,) float32 on the CPU.
    """
    side = crops.shape[-1]
    middle = slice(side // 4, side - side // 4)
    share = (sizes.float().cpu() / side).clamp(max=1)
    return (share * sharpness(crops[..., middle, middle])).clamp(0, 1)


def sharpness(pictures: Tensor) -> Tensor:
    """One minus the blur effect, (n, 3, h, w) in [0, 1] -> (n,) float32 on the CPU.

    Crete, Dolmiere, Ladret, Nicolas, "The blur effect" (SPIE 2007), on the luma, the smaller of
    both directions. A flat picture has 0.
    """
    weights = torch.tensor([0.2125, 0.7154, 0.0721], dtype=torch.float64)
    luma = torch.einsum("nchw,c->nhw", pictures.detach().cpu().double(), weights)[:, None]
    values = []
    for axis in (2, 3):
        taps = torch.full((1, 1, 1, 1), 1.0 / _TAPS, dtype=torch.float64)
        taps = taps.expand(1, 1, *((_TAPS, 1) if axis == 2 else (1, _TAPS)))
        room = _TAPS // 2
        around = (0, 0, room, room) if axis == 2 else (room, room, 0, 0)
        blurred = F.conv2d(F.pad(luma, around, "replicate"), taps)
        own, after = luma.diff(dim=axis).abs(), blurred.diff(dim=axis).abs()
        lost, total = (own - after).clamp(min=0).sum((1, 2, 3)), own.sum((1, 2, 3))
        values.append(torch.where(total > 0, lost / total.clamp(min=1e-12), total * 0))
    return torch.minimum(*values).float()


def _once(
    photos: Iterable[Tensor], sources: Sequence[str], report: list[str], again: dict[int, int]
) -> Iterator[tuple[int, str, Tensor]]:
    """Photos without repetitions and without those that hold no numbers, one after the other, each
    with its index; `again` gets the index of the first by that of each repetition."""
    known: dict[tuple[torch.Size, bytes], int] = {}
    for index, (source, photo) in enumerate(zip(sources, photos, strict=True)):
        if not photo.isfinite().all():
            report.append(f"{source}: left out, it holds NaN or infinity")
            continue
        # A digest, so that no more than one photograph has to be in memory.
        key = photo.shape, _digest(photo)
        if key in known:
            again[index] = known[key]
            report.append(f"{source}: the same picture as {sources[known[key]]}, counted once")
            continue
        known[key] = index
        yield index, source, photo


def _faces(
    photo: Tensor, analyzer: FaceAnalyzer, crop_size: int, source: str, report: list[str]
) -> FaceCrops | None:
    faces = detect_faces(analyzer, photo) or detect_faces(analyzer, photo, padding=_PADDING)
    if not faces:
        report.append(f"{source}: left out, no face was found")
        return None
    return align_faces([photo], [faces], crop_size)


def _with_told(photo: _Photo, number: int | None) -> _Photo:
    """
    Raises:
        FacewrightError: there is no such face.
    """
    if number is None:
        return photo
    count = len(photo.crops)
    if not 0 <= number < count:
        there = f"faces 0 to {count - 1}, counted from the left" if count > 1 else "one, 0"
        raise FacewrightError(f"Face {number} of {photo.source} is chosen, but it has {there}.")
    told = photo.left_to_right[number]
    if photo.told not in (None, told):
        before = photo.left_to_right.index(photo.told)
        raise FacewrightError(
            f"Both face {before} and face {number} of {photo.source}, which came more than once, "
            "are chosen. An album has one person; keep one of them."
        )
    return replace(photo, told=told)


def _embed(recogniser: Recogniser, crops: Tensor) -> Tensor:
    """Of the crops as an album stores them, on whatever device the recogniser is."""
    return recogniser.embed(to_bytes(crops).float() / 255).double()


def _consensus(
    photos: Sequence[_Photo], threshold: float, report: list[str], known: Tensor | None = None
) -> list[int]:
    """Which face of each photo belongs to the person of the album.

    Each face proposes a set: of every photo the face closest to it. The set whose embeddings have
    the longest sum, which are those that agree best with each other, wins; among equals the one
    with the largest faces. Nothing here depends on the order of the photos. Where the photos join
    an album only its template `known` (d,) proposes, and where faces are told, only these.
    """
    if all(len(photo.crops) == 1 for photo in photos):
        return [0] * len(photos)
    chosen = [p.embeddings[p.told, None] for p in photos if p.told is not None]
    seeds = torch.cat(chosen or [p.embeddings for p in photos])
    proposals = {
        tuple(
            int((photo.embeddings @ seed).argmax()) if photo.told is None else photo.told
            for photo in photos
        )
        for seed in (seeds if known is None or chosen else known[None])
    }
    best = max(proposals, key=lambda picks: _rank(photos, picks))
    for photo, pick in zip(photos, best, strict=True):
        if len(photo.crops) > 1 and photo.told is None:
            number = photo.left_to_right.index(pick)
            why = "most like the other photos" if len(photos) > 1 else "the largest"
            why = why if known is None else "most like the album"
            report.append(
                f"{photo.source}: {len(photo.crops)} faces; number {number}, counted from 0 and "
                f"from the left, was taken, {why}"
            )
    rivals = [picks for picks in proposals if not any(map(int.__eq__, picks, best))]
    rival = next((picks for picks in rivals if _agree(photos, picks) >= threshold), None)
    if len(photos) > 1 and rival is not None:
        other = f"{photos[0].source}={photos[0].left_to_right.index(rival[0])}"
        report.append(
            "warning: all these photos show a second person too. If the wrong one was taken, say "
            f"whose face is meant: `--face {shlex.quote(other)}`, or `face` {other} in Person "
            "Album."
        )
    return list(best)


def _rank(photos: Sequence[_Photo], picks: Sequence[int]) -> tuple[float, float]:
    total = sum(p.embeddings[i] for p, i in zip(photos, picks, strict=True))
    size = sum(float(p.sizes[i]) for p, i in zip(photos, picks, strict=True))
    # Rounded, for the order of the photos is the order of the summands.
    return round(float(torch.linalg.vector_norm(total)), 6), round(size, 3)


def _agree(photos: Sequence[_Photo], picks: Sequence[int]) -> float:
    """The lowest cosine between the picked faces."""
    embeddings = torch.stack([p.embeddings[i] for p, i in zip(photos, picks, strict=True)])
    return float((embeddings @ embeddings.T).min())
