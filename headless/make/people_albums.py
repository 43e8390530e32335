"""Albums of the people in a folder of strangers to whom the user gave names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.errors import FacewrightError, os_sentence, shorten
from ...core.faces import FaceAnalyzer
from ...core.files.writing import content_hash
from ...core.geometry.face import Face as Found
from ...core.images import read_picture
from ...core.people.album import make_person
from ...core.people.person import SUFFIX, save_person
from ...core.people.recogniser import Recogniser
from .people_cluster import Face, PeopleFolder, is_unnamed
from .people_sheets import file_stems

FOLDER = "albums"


@dataclass
class Albums:
    """What became of the people with names."""

    made: dict[str, Path] = field(default_factory=dict)
    """By the person's name."""
    report: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """By the person's name the sentence why there is no album."""


class _Picked(Sequence):
    """Photographs read one after the other, each with the one face that is meant on it."""

    def __init__(self, faces: list[Face], analyzer: FaceAnalyzer) -> None:
        self.faces, self.analyzer = faces, analyzer
        self.now = 0
        self.name = analyzer.name

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, index: int) -> Tensor:
        self.now, photo = index, self.faces[index].photo
        if photo is None:
            raise IndexError(index)
        return read_picture(photo.path).pixels[:3]

    def detect(self, image: Tensor) -> list[Found]:
        """The face of the photograph that was read last, as it was found when it was grouped."""
        face = self.faces[self.now]
        if face.photo is None:
            return []
        seen = face.photo.faces
        x0, y0, x1, y1 = seen.boxes[face.index].tolist()
        return [Found((x0, y0, x1, y1), 1.0, seen.points[face.index])]

    def __getattr__(self, name: str) -> Any:
        if name in ("analyzer", "faces"):
            raise AttributeError(name)
        return getattr(self.analyzer, name)


def make_albums(
    folder: PeopleFolder,
    analyzer: FaceAnalyzer,
    recogniser: Recogniser,
    *,
    crop_size: int,
    overwrite: bool,
    on_album: Callable[[str], None] = lambda name: None,
) -> Albums:
    """An album of everybody whom the user gave a name: exactly the faces that people.csv says.

    An album that is there and holds something else stays, unless `overwrite`.
    """
    albums = Albums()
    named = {name: faces for name, faces in folder.people().items() if not is_unnamed(name)}
    stems = file_stems(named)
    for name, faces in named.items():
        try:
            usable = [face for face in faces if _is_there(folder, face, albums.report)]
            if not usable:
                raise FacewrightError(f"No photo of {shorten(name)} is there any more.")
            picked = _Picked(usable, analyzer)
            person, said = make_person(
                picked,
                name=name,
                sources=[face.row.photo for face in usable],
                analyzer=picked,
                recogniser=recogniser,
                crop_size=crop_size,
                remedy=lambda album, which: "another name, or nobody, in people.csv",
            )
            path = folder.path / FOLDER / f"{stems[name]}{SUFFIX}"
            try:
                save_person(person, path.parent, filename=path.name, overwrite=overwrite)
            except FacewrightError:
                if overwrite or not path.exists():
                    raise
                raise FacewrightError(
                    f"{path} holds something else, and stays. --overwrite replaces it."
                ) from None
            path.chmod(0o600)
            albums.made[name] = path
            albums.report += said
        except FacewrightError as error:
            albums.failed[name] = str(error)
        except OSError as error:
            albums.failed[name] = os_sentence(error)
        on_album(name)
    return albums


def _is_there(folder: PeopleFolder, face: Face, report: list[str]) -> bool:
    """Whether the photo is still the one that was looked at; says so where it is not."""
    photo = face.photo
    if photo is not None and folder.is_here(face):
        try:
            if content_hash(photo.path) == face.row.sha256:
                return True
        except OSError:
            pass
    person, name = shorten(face.row.person), shorten(face.row.photo)
    report.append(f"{person}: face {face.row.number} is left out, {name} is gone or was changed")
    return False
