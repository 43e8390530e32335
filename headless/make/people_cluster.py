"""`facewright person cluster`: a folder of strangers, looked at, grouped, corrected, and grown.

The folder holds people.csv, which the user corrects and which counts (`people_table`), what was
seen on each photo (`people_seen`), small pictures of the faces, and sheets drawn of both.
"""

import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from ...core.errors import FacewrightError, counted, first_of, os_sentence, shorten
from ...core.faces import FaceAnalyzer
from ...core.files.writing import content_hash
from ...core.people.clusters import Clusters, cluster_faces
from ...core.people.limits import Limits
from ...core.people.person import NOBODY
from ...core.people.recogniser import Recogniser
from . import people_seen, people_table
from .people_look import see
from .people_seen import Photo, Seen
from .people_table import UNNAMED, Row, check_name, unnamed

SHARP = 0.2
"""Sharpness of a face of 128 pixels below which nobody can tell who it is: rendered faces blurred
by a Gaussian of 1/18 of their width have 0.22, and one in ten is no longer like itself."""
_SAVED_AFTER = 60.0
"""Seconds of looking that an interruption may cost, at the most."""
_STRANGERS = 0.01
OR = " or "
_SAME_FACE = 0.5
"""Intersection over union of two boxes from which they are one face."""


@dataclass
class Face:
    """A face of the folder: its row, and what was seen of it, if that is known."""

    row: Row
    photo: Photo | None = None
    index: int = 0
    """In `photo.faces`."""

    @property
    def embedding(self) -> Tensor | None:
        return None if self.photo is None else self.photo.faces.embeddings[self.index]

    @property
    def size(self) -> float:
        """Side in pixels of the square with the box's area."""
        x0, y0, x1, y1 = self.row.box
        return (max(0.0, x1 - x0) * max(0.0, y1 - y0)) ** 0.5


def is_unnamed(person: str) -> bool:
    """Whether a group still bears the number it was given."""
    return UNNAMED.fullmatch(person) is not None


@dataclass
class PeopleFolder:
    """The folder of one collection of photographs."""

    path: Path
    seen: Seen
    rows: list[Row]
    report: list[str] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    """SHA-256 of photos that are no longer there."""
    again: list[Photo] = field(default_factory=list)
    """Photos that were seen by another recogniser or analyzer."""
    clusters: Clusters | None = None
    grouped: list[Face] = field(default_factory=list)
    """The faces of `clusters`."""
    table: str = ""
    """What people.csv was when it was read, so that nobody's corrections are lost."""

    @classmethod
    def open(cls, path: Path, recogniser: Recogniser, analyzer: FaceAnalyzer) -> "PeopleFolder":
        """The folder as it is, or a new one.

        Raises:
            FacewrightError: it holds something that cannot be used; nothing was changed.
        """
        table = _hash(path / people_table.FILE)
        rows = people_table.read_table(path / people_table.FILE)
        seen = people_seen.read_seen(path)
        folder = cls(path, Seen(recogniser.id, analyzer.name), rows, table=table)
        if seen is None:
            return folder
        if (seen.recogniser, seen.analyzer) == (recogniser.id, analyzer.name):
            folder.seen = seen.fitting(recogniser.dim)
        else:
            folder.seen = replace(folder.seen, next_face=seen.next_face, sheets=seen.sheets,
                                  next_person=seen.next_person)  # fmt: skip
            folder.report.append(
                f"The faces were compared by {seen.recogniser} with {seen.analyzer} before, and by "
                f"{recogniser.id} with {analyzer.name} now: all photos are looked at again. What "
                f"{people_table.FILE} says stays."
            )
            folder.again = list(seen.photos.values())
        return folder

    def look(
        self,
        found: Sequence[tuple[Path, Path]],
        analyzer: FaceAnalyzer,
        recogniser: Recogniser,
        on_photo: Callable[[str], None] = lambda name: None,
    ) -> dict[Path, str]:
        """Look at the photos that were not seen yet; each is in memory alone.

        What was seen is kept even if this is interrupted.

        Args:
            found: (file, name) of `find_pictures`.

        Returns:
            Why files could not be read.
        """
        failed: dict[Path, str] = {}
        now: dict[str, str] = {}
        places: dict[str, tuple[Path, str]] = {}
        again = [(p.path, Path(p.name)) for p in self.again if p.path.is_file()]
        files = {os.path.realpath(path): (path, name) for path, name in (*again, *found)}
        given = sorted(files.values(), key=lambda one: (one[1].as_posix(), str(one[0])))
        saved, unsaved = time.monotonic(), False
        try:
            for path, name in given:
                try:
                    mark = content_hash(path)
                    now[os.path.realpath(path)] = mark
                    if mark in places:
                        self.report.append(
                            f"{shorten(name)} is the same file as {shorten(places[mark][1])}: "
                            "counted once"
                        )
                    elif mark not in self.seen.photos:
                        faces = see(path, mark, self.path, analyzer, recogniser)
                        self.seen.photos[mark] = Photo(path, name.as_posix(), faces)
                        unsaved = True
                    places.setdefault(mark, (path, name.as_posix()))
                except FacewrightError as error:
                    failed[path] = str(error)
                except OSError as error:
                    failed[path] = os_sentence(error)
                if unsaved and time.monotonic() - saved > _SAVED_AFTER:
                    self.seen.save(self.path)
                    saved, unsaved = time.monotonic(), False
                on_photo(name.name)
        finally:
            if unsaved:
                self.seen.save(self.path)
        for mark, photo in self.seen.photos.items():
            there = now.get(os.path.realpath(photo.path), mark if photo.path.is_file() else "")
            if there != mark and mark in places:
                self.seen.photos[mark] = Photo(*places[mark], photo.faces, photo.told)
            elif there != mark:
                self.gone.add(mark)
        return failed

    def attach(self) -> None:
        """Rows and faces belong together by the photo's content and by place; new faces get the
        next numbers, in the order of the photos' names. Whose row was deleted is nobody's."""
        by_photo: dict[str, list[Row]] = {}
        for row in self.rows:
            by_photo.setdefault(row.sha256, []).append(row)
        self.faces, fresh, deleted = [], [], 0
        for mark, photo in self.seen.photos.items():
            mine = by_photo.pop(mark, [])
            pairs = sorted(
                (-_overlap(row.box, box), row.number, index)
                for row in mine
                for index, box in enumerate(photo.faces.boxes.tolist())
            )
            taken: dict[int, int] = {}
            for overlap, number, index in pairs:
                if -overlap >= _SAME_FACE and number not in taken and index not in taken.values():
                    taken[number] = index
            for row in mine:
                there = row.number in taken
                row.photo = photo.name
                row.note = "the photo is gone" if mark in self.gone else ""
                row.note = row.note if there else "no face is found there any more"
                self.faces.append(Face(row, photo if there else None, taken.get(row.number, 0)))
            free = set(range(len(photo.faces))) - set(taken.values())
            fresh += [(photo.name, mark, index) for index in free if mark not in self.gone]
        lost = [row for rows in by_photo.values() for row in rows]
        for row in lost:
            row.note = "the photo is gone"
        self.faces += map(Face, lost)
        first = max([self.seen.next_face, *(row.number + 1 for row in self.rows)])
        for number, (name, mark, index) in enumerate(sorted(fresh), first):
            photo = self.seen.photos[mark]
            x0, y0, x1, y1 = photo.faces.boxes[index].tolist()
            row = Row(number=number, photo=name, face=index, box=(x0, y0, x1, y1), sha256=mark)
            if self.rows and photo.told:
                row.person, row.sure, row.note = NOBODY, "by hand", "its row was deleted"
                deleted += 1
            self.faces.append(Face(row, photo, index))
        if deleted:
            self.report.append(
                f"{counted(deleted, 'face')} without a row in {people_table.FILE}, where one was "
                "before: nobody, unless you write a name there"
            )
        self.faces.sort(key=lambda face: face.row.number)
        self.seen.next_face = max([self.seen.next_face, *(f.row.number + 1 for f in self.faces)])

    def rename(self, names: Mapping[str, str]) -> None:
        """Give people other names, or nobody.

        Raises:
            FacewrightError: nobody is called so.
        """
        people = set(self.people())
        for old in names:
            if check_name(old, "--name") not in people:
                raise FacewrightError(
                    f"--name: nobody is called {shorten(old)!r}. There are "
                    f"{', '.join(first_of(sorted(map(shorten, people)))) or 'no people yet'}."
                )
        for face in self.faces:
            if face.row.person in names:
                face.row.person = names[face.row.person]

    def group(self, limits: Limits, min_size: float) -> None:
        """Say who is who, as far as people.csv leaves it open."""
        for face in self.faces:
            row = face.row
            if row.person and (row.sure == "no" or not row.sure or row.person == NOBODY):
                row.sure = "by hand"
        usable = [f for f in self.faces if f.photo is not None and f.row.person != NOBODY]
        names = list(dict.fromkeys(f.row.person for f in usable if f.row.person))
        known = [names.index(f.row.person) if f.row.person else -1 for f in usable]
        why = [_why_unclear(f, min_size) for f in usable]
        marks = {mark: i for i, mark in enumerate(sorted(self.seen.photos))}
        width = usable[0].photo.faces.embeddings.shape[1] if usable and usable[0].photo else 1
        embeddings = np.zeros((len(usable), width))
        for at, face in zip(embeddings, usable, strict=True):
            at[:] = face.embedding
        clusters = cluster_faces(
            embeddings,
            [marks[f.row.sha256] for f in usable],
            limits,
            recogniser=self.seen.recogniser,
            known=known,
            clear=[not reason for reason in why],
        )
        self.clusters, self.grouped = clusters, usable
        names += self._new_names(clusters.group, len(names))
        for i, (face, reason) in enumerate(zip(usable, why, strict=True)):
            row, group = face.row, int(clusters.group[i])
            if row.person:
                row.maybe = ""
            elif group >= 0:
                row.person, row.sure, row.maybe = names[group], "yes", ""
            else:
                row.sure = "no"
                row.maybe = OR.join(f"{names[g]} ({c:.2f})" for g, c in clusters.maybe[i])
            if self.is_here(face):
                row.note = "" if row.person else reason or "may be somebody new, too"
        self._warn(names)

    def _new_names(self, group: np.ndarray, first: int) -> list[str]:
        """Numbers for new groups, the largest first."""
        new = range(first, int(group.max(initial=-1)) + 1)
        order = sorted(new, key=lambda g: (-int((group == g).sum()), g))
        used = (int(m[1]) for f in self.faces if (m := UNNAMED.fullmatch(f.row.person)))
        number = max([self.seen.next_person, *(n + 1 for n in used)])
        self.seen.next_person = number + len(order)
        names = {g: unnamed(number + i) for i, g in enumerate(order)}
        return [names[g] for g in new]

    def _warn(self, names: list[str]) -> None:
        clusters = self.clusters
        lines = [
            f"{shorten(names[a])} and {shorten(names[b])} may be one person ({cosine:.2f}): if so, "
            "give both one name"
            for a, b, cosine in (clusters.alike if clusters else ())
        ]
        folded: dict[str, str] = {}
        for name in self.people():
            other = folded.setdefault(name.casefold(), name)
            if other != name:
                lines.append(f"{shorten(other)} and {shorten(name)} are two people here")
        gone = sum(1 for mark in self.gone if len(self.seen.photos[mark].faces))
        if gone:
            lines.append(
                f"{counted(gone, 'photo')} with faces {'is' if gone == 1 else 'are'} gone: what "
                f"{people_table.FILE} says of them stays, and they are on no sheet"
            )
        self.report += first_of(lines, "and {} more of the kind", 20)

    def is_here(self, face: Face) -> bool:
        """Whether the face can be looked at."""
        return face.photo is not None and face.row.sha256 not in self.gone

    def people(self) -> dict[str, list[Face]]:
        """Faces by the name of their person, as they are in the photos that are there; those with
        a name come first, then the numbers."""
        found: dict[str, list[Face]] = {}
        for face in self.faces:
            if face.row.person and face.row.person != NOBODY:
                found.setdefault(face.row.person, []).append(face)
        return dict(sorted(found.items(), key=lambda item: _order(item[0])))

    def unsure(self) -> list[Face]:
        """Faces of nobody yet, in photos that are there."""
        return [f for f in self.faces if not f.row.person and self.is_here(f)]

    def cosine(self) -> dict[int, float]:
        """By a face's number how like it is to the rest of its group, where there is one."""
        if self.clusters is None:
            return {}
        pairs = zip(self.grouped, self.clusters.cosine.tolist(), strict=True)
        return {face.row.number: cosine for face, cosine in pairs if not math.isnan(cosine)}

    def save(self) -> None:
        """Write people.csv and what was seen.

        Raises:
            FacewrightError: somebody else changed people.csv since it was read.
            OSError: the folder cannot be written.
        """
        table = self.path / people_table.FILE
        if _hash(table) != self.table:
            raise FacewrightError(
                f"{table} was changed by another program meanwhile. It was left as it is; run the "
                "same command again, and no photo is looked at twice."
            )
        people_table.write_table(table, [face.row for face in self.faces])
        self.table = _hash(table)
        photos = self.seen.photos.items()
        self.seen.photos = {mark: replace(photo, told=True) for mark, photo in photos}
        self.seen.save(self.path)


def _hash(path: Path) -> str:
    return content_hash(path) if path.is_file() else ""


def limits_for(
    recogniser: Recogniser, threshold: float | None = None, margin: float | None = None
) -> Limits:
    """By what faces are grouped: what was asked for, else the recogniser's limits.

    Where it is known which cosine one stranger in a hundred reaches, groups need that at the least:
    a folder has many strangers.
    """
    limits = recogniser.limits
    if threshold is None:
        threshold = limits.same_person
        with contextlib.suppress(FacewrightError):  # nobody has measured it
            threshold = max(threshold, limits.cosine_at(_STRANGERS))
    margin = limits.margin if margin is None else margin
    return replace(limits, same_person=threshold, margin=margin)


def _why_unclear(face: Face, min_size: float) -> str:
    if face.size < min_size:
        return f"too small to tell ({face.size:.0f} px)"
    if face.photo is not None and float(face.photo.faces.sharpness[face.index]) < SHARP:
        return "too blurred to tell"
    return ""


def _overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    areas = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b))
    return wide * high / (areas - wide * high)


def _order(name: str) -> tuple[int, int, str]:
    numbered = UNNAMED.fullmatch(name)
    return (1, int(numbered[1]), "") if numbered else (0, 0, name.casefold() + name)
