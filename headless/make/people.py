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
from ...core.people.over_frames import TrackMatches
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


def recogniser_file(given: str | None) -> Path | None:
    """Where the weights lie that `find_recogniser` loads; None for the bundled ones.

    Raises:
        CheckpointError: missing.
    """
    if given == "nano":
        return None
    if given is None:
        return host.folders.known(ARCFACE)
    path = Path(given)
    return path if path.is_file() else host.model_path("facewright", given)


def find_recogniser(given: str | None, *, calibrated: bool = True) -> Recogniser:
    """By file, by name in models/facewright, "nano", or None for ArcFace wherever it lies.

    Args:
        calibrated: with the limits that `person calibrate` wrote beside it.

    Raises:
        CheckpointError: missing, or no recogniser.
    """
    from ...core.people.recogniser import load_recogniser, nano_recogniser
    from ...core.weights import nano

    path = recogniser_file(given)
    if path is None:
        return nano_recogniser(nano.load_identity("loss")).to(compute_device())
    return load_recogniser(path, calibrated=calibrated).to(compute_device())


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
    """Where faces are, matches and receipts, in words and for JSON; of the latter nothing that
    nobody asked for."""
    found: dict[str, Any] = {}
    if isinstance(result, Restored) and result.boxes is not None:
        found["boxes"] = [[round(v, 2) for v in box] for box in result.boxes.tolist()]
    if result.matches is not None:
        boxes = [{"box": box} for box in found.get("boxes", [])] or [{}] * len(result.matches)
        found["matches"] = [{**_match(result.matches, i), **box} for i, box in enumerate(boxes)]
        found["who"] = [_who(result.matches)] if len(result.matches) else []
    if result.guard is not None:
        found["receipts"] = result.guard.entries
        found["held_back"] = result.guard.held_back
    return found


def _who(matches: Matches) -> str:
    """ "3 faces: alice (0.83), nobody (best: bob 0.31), bob (0.77)"; of a video with the frames."""
    count = "1 face" if len(matches) == 1 else f"{len(matches)} faces"
    labels = matches.labels
    if isinstance(matches, TrackMatches):
        labels = [f"{who} in {span}" for who, span in zip(labels, matches.spans, strict=True)]
    return f"{count}: {', '.join(labels)}"


def _match(matches: Matches, face: int) -> dict[str, Any]:
    person, cosines = matches.person_of(face), matches.cosines[face].tolist()
    margin = matches.margin_of(face)
    followed = isinstance(matches, TrackMatches)
    return {
        "face": face,
        **({"frames": matches.spans[face]._asdict()} if followed else {}),
        "person": person.name if person else None,
        "cosines": {p.name: round(c, 4) for p, c in zip(matches.people, cosines, strict=True)},
        "runner_up": matches.runner_up(face),
        "margin": None if margin is None else round(margin, 4),
        "unsure": list(matches.may_be(face)),
        "by_hand": face in matches.by_hand,
        # What `person` was, for who reads this after somebody changed it.
        "matched": person.name if person and face not in matches.by_hand else None,
    }
