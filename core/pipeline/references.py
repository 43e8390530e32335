"""Whose photographs a face is restored with."""

from collections.abc import Sequence

from torch import Tensor

from ..errors import FacewrightError
from ..methods.honestface import IdentityEmbedder
from ..people.album import make_person, photo_names
from ..people.matching import Matches
from ..people.person import Person


def references_of(
    faces: int,
    ide: IdentityEmbedder,
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
