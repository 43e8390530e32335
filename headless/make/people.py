"""Who somebody is, on the command line: albums, recognisers and photographs by their files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.devices import compute_device
from ...core.errors import CheckpointError, FacewrightError
from ...core.files.known import ARCFACE
from ...core.host import host
from ...core.images import read_picture
from ...core.people.matching import Matches
from ...core.people.person import Person, check_names
from ...core.people.recogniser import Recogniser
from ...core.pipeline.pictures import Restored
from ...core.pipeline.videos import RestoredVideo
from .albums import find_album


class Photographs(Sequence):
    """Photographs read when they are asked for: an album may be made of hundreds of large ones."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return read_picture(self.paths[index]).pixels[:3]


def readable(paths: list[Path]) -> tuple[Photographs, dict[Path, str]]:
    """Pictures that can be read, and what is wrong with the others."""
    good, failed = [], {}
    for path in paths:
        try:
            read_picture(path)
            good.append(path)
        except FacewrightError as error:
            failed[path] = str(error)
    return Photographs(good), failed


def find_recogniser(given: str | None) -> Recogniser:
    """By file, by name in models/facewright, "nano", or None for ArcFace wherever it lies.

    Raises:
        CheckpointError: missing, or no recogniser.
    """
    from ...core.people.recogniser import load_recogniser, nano_recogniser
    from ...core.weights import nano

    if given == "nano":
        loaded = nano_recogniser(nano.load_identity("loss"))
    elif given is None:
        loaded = load_recogniser(host.folders.known(ARCFACE))
    else:
        path = Path(given)
        loaded = load_recogniser(path if path.is_file() else host.model_path("facewright", given))
    return loaded.to(compute_device())


def read_albums(files: Sequence[str]) -> list[Person]:
    """.person files by path, or by name in models/facewright or its folder people.

    Raises:
        CheckpointError: some cannot be used; the sentences say why, a line for each.
        FacewrightError: two albums of one name.
    """
    albums, wrong = [], []
    for given in files:
        try:
            albums.append(Person.from_file(find_album(given)))
        except CheckpointError as error:
            wrong.append(str(error))
    if wrong:
        raise CheckpointError("\n".join(wrong))
    check_names(albums)
    return albums


def points_of(albums: Sequence[Person]) -> int | None:
    """How many landmarks the albums hold; None without any, or where they differ."""
    points = {album.landmarks.shape[1] for album in albums}
    return points.pop() if len(points) == 1 else None


def facts(result: Restored | RestoredVideo) -> dict[str, Any]:
    """Matches and receipts of faces, in words and for JSON; nothing that nobody asked for."""
    found: dict[str, Any] = {}
    if result.matches is not None:
        found["matches"] = [_match(result.matches, face) for face in range(len(result.matches))]
        found["who"] = [_who(result.matches)] if len(result.matches) else []
    if result.guard is not None:
        found["receipts"] = result.guard.entries
        found["held_back"] = result.guard.held_back
    return found


def _who(matches: Matches) -> str:
    """ "3 faces: alice (0.83), nobody (best: bob 0.31), bob (0.77)"."""
    count = "1 face" if len(matches) == 1 else f"{len(matches)} faces"
    return f"{count}: {', '.join(matches.labels)}"


def _match(matches: Matches, face: int) -> dict[str, Any]:
    person, cosines = matches.person_of(face), matches.cosines[face].tolist()
    return {
        "face": face,
        "person": person.name if person else None,
        "cosines": {p.name: round(c, 4) for p, c in zip(matches.people, cosines, strict=True)},
    }
