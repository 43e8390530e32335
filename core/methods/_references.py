"""Whose photographs a face is restored with, and prompts of faces and their albums."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import FacewrightError, counted
from ..people.album import make_person, photo_names
from ..people.matching import Matches
from ..people.person import Person
from ..restorer import ONE_STEP_TIMESTEP, Backbone
from ._onestep import OneStepFaces
from .osdface import VisualRepresentationEmbedder

if TYPE_CHECKING:
    from .honestface import IdentityEmbedder


def references_of(
    faces: int,
    ide: "IdentityEmbedder",
    crop_size: int,
    *,
    photos: Sequence[Tensor] = (),
    person: Person | None = None,
    matches: Matches | None = None,
) -> tuple[list[Person | None], list[str]]:
    """The album for each face, of the one source that is connected.

    Args:
        faces: how many are to be restored.
        ide: with whose recogniser and landmarks albums are made of `photos`.
        crop_size: side of the aligned photographs in pixels.
        photos: (3, h, w) in [0, 1] of any sizes, aligned or not, all of one person.
        person: an album for all faces.
        matches: an album or nobody for each face.

    Returns:
        One album or None per face, and warnings.

    Raises:
        FacewrightError: several sources, matches of another number of faces, or photos without a
            usable face.
    """
    connected = [
        name
        for name, given in (
            ("references", bool(len(photos))),
            ("person", person is not None),
            ("matches", matches is not None),
        )
        if given
    ]
    if len(connected) > 1:
        raise FacewrightError(
            f"{' and '.join(f'`{name}`' for name in connected)} are connected; whose photographs "
            "count? Connect one of them: `matches` where a picture shows several people."
        )
    if matches is not None:
        if len(matches) != faces:
            raise FacewrightError(
                f"`matches` tells of {len(matches)} faces but `image` holds {faces}. Connect Match "
                "People to the same Detect Faces that the crops come from."
            )
        return [matches.person_of(i) for i in range(faces)], []
    report: list[str] = []
    if len(photos):
        person, report = make_person(
            photos,
            name="references",
            sources=photo_names(len(photos)),
            analyzer=ide.landmarker,
            recogniser=ide.recogniser,
            crop_size=crop_size,
        )
    return [person] * faces, report[1:]


@dataclass(frozen=True)
class Encoded:
    """Prompts of b faces, and what the references had to do with them."""

    cond: Tensor
    """(b, n, d)"""
    chosen: Tensor
    """(b, 3, s, s) in [0, 1]: the reference whose eyes were looked at, black where there is none"""
    report: list[str]
    """A line per face."""


def encode_faces(
    lq: Tensor,
    people: Sequence[Person | None],
    ide: "IdentityEmbedder",
    vre: VisualRepresentationEmbedder,
    *,
    device: torch.device,
    chunk_size: int = 8,
    on_chunk: Callable[[int], None] = lambda faces: None,
) -> Encoded:
    """Prompts p(x_L, R) of faces and their albums, `chunk_size` faces at a time.

    Args:
        lq: (b, 3, s, s) in [0, 1], FFHQ-aligned; b may be 0.
        people: an album or None for each.
        device: where the embedders are.
        on_chunk: called with the number of faces just finished; an exception ends the work.

    Raises:
        FacewrightError: albums or embedders that do not belong together.
    """
    cond, chosen, report = [vre.embed(vre.tokenize(lq[:0].to(device)))], [], []
    for start in range(0, len(lq), chunk_size):
        some, albums = lq[start : start + chunk_size].to(device), people[start : start + chunk_size]
        identity = ide.of_people(albums, some)
        cond.append(ide.condition(vre, some, identity))
        report += [
            _choice(start + i, person, int(j), identity.distance[i])
            for i, (person, j) in enumerate(zip(albums, identity.chosen, strict=True))
        ]
        chosen += [
            _picture(person, int(j), lq.shape[-1])
            for person, j in zip(albums, identity.chosen, strict=True)
        ]
        on_chunk(len(some))
    return Encoded(torch.cat(cond), torch.stack(chosen) if chosen else lq[:0], report)


def one_step_faces(
    backbone: Backbone,
    vre: VisualRepresentationEmbedder,
    ide: "IdentityEmbedder | None",
    size: int,
    place: Callable[[nn.Module], torch.device],
    timestep: int = ONE_STEP_TIMESTEP,
) -> OneStepFaces:
    """OSDFace, or HonestFace where it has an `ide`, of networks that a host moves about.

    Args:
        size: side of the crops in pixels.
        place: brings a network to the compute device before each use, and says which.
        timestep: at which the weights were trained.
    """

    def embed(lq: Tensor, people: Sequence[Person | None]) -> Tensor:
        device = place(vre)
        if ide is None:
            return vre(lq.to(device))
        place(ide)
        return encode_faces(lq, people, ide, vre, device=device).cond

    own = {} if ide is None else {"recogniser": ide.recogniser, "landmarker": ide.landmarker}
    return OneStepFaces(
        backbone=backbone,
        embed=embed,
        size=size,
        takes_people=ide is not None,
        timestep=timestep,
        **own,
    )


def _choice(face: int, person: Person | None, chosen: int, distances: Tensor) -> str:
    if person is None:
        return f"face {face}: no references"
    photos = counted(len(person), "photo")
    distance = float(distances[chosen])
    far = f"A-LD {distance:.1f} px" if math.isfinite(distance) else "the face's own are unknown"
    return f"face {face}: {person.name}, {photos}; eyes of {person.sources[chosen]} ({far})"


def _picture(person: Person | None, chosen: int, size: int) -> Tensor:
    """(3, size, size)"""
    if person is None:
        return torch.zeros(3, size, size)
    crop = person.crops[chosen][None].float().cpu()
    if crop.shape[-1] != size:
        crop = F.interpolate(crop, (size, size), mode="bilinear", antialias=True)
    return crop[0].clamp(0, 1)
