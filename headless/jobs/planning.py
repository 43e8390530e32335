"""What a run will read and write, known before it starts: each input once, each output its own."""

import glob
import itertools
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ...core.errors import FacewrightError
from ...core.files.names import LONGEST, beside, fit_name, same_place
from ...core.files.scan import LeftAside, pictures_in, why_special
from ...core.images import PICTURE_SUFFIXES, written_suffix


@dataclass(frozen=True)
class Job:
    source: Path
    target: Path
    name: str = ""
    """Of the source within the folder it was found in, with slashes on every system."""
    refused: str = ""
    """Why it cannot be done, where that was known before the start."""
    further: Mapping[str, Path] = field(default_factory=dict, hash=False)
    """Files written beside the target, by what their names end in."""

    def beside(self, ending: str) -> Path:
        """One of `further`, beside the target wherever that lies now."""
        return self.target.with_name(self.further[ending].name)


J = TypeVar("J", bound=Job)


def plan(
    inputs: Sequence[str],
    out: Path,
    suffix: Callable[[Path], str] = written_suffix,
    *,
    endings: Iterable[str] = (),
    aside: LeftAside | None = None,
    also: Collection[str] = frozenset(),
) -> list[Job]:
    """Pair every picture with the file its result goes to.

    Files are taken as they are, folders searched with their subfolders (whose structure is kept
    under `out`), patterns with * ? [ expanded. `out` is a file where it has a picture's suffix
    or one of `also`, which takes a single picture; else a folder, where results take the suffix
    that `suffix` gives. What would be written to the file of another gets a name of its own; what
    would replace its source is refused.

    Args:
        endings: further files that are written for each picture, as for `distinct`.
        aside: told of what was found and not taken.
        also: suffixes, in lower case, of other files that are taken.

    Raises:
        FacewrightError: nothing to do, a name that does not exist, or every result would replace
            its source.
    """
    found = find_pictures(inputs, out, aside, also)
    names_a_file = out.suffix.lower() in {*PICTURE_SUFFIXES, *also} and not out.is_dir()
    if names_a_file and len(found) == 1:
        source, name = found[0]
        made = suffix(source)
        fitting = {made} if source.suffix.lower() in also else PICTURE_SUFFIXES
        if out.suffix.lower() not in fitting:
            raise FacewrightError(
                f"{source} cannot be written to {out}: give a folder, or a name that ends in "
                f"{made}."
            )
        jobs = [Job(source, out, name.as_posix())]
    elif names_a_file:
        kind = "files" if also else "pictures"
        raise FacewrightError(f"{len(found)} {kind} cannot be written to one file {out}.")
    else:
        jobs = [Job(s, result_path(out, name, suffix(s)), name.as_posix()) for s, name in found]
    return distinct(jobs, endings=endings)


def result_path(out: Path, name: Path, suffix: str) -> Path:
    """Where the result for a picture of this name lies in `out`."""
    return out / name.with_name(fit_name(name.with_suffix(suffix).name))


def find_pictures(
    inputs: Sequence[str],
    out: Path,
    aside: LeftAside | None = None,
    also: Collection[str] = frozenset(),
) -> list[tuple[Path, Path]]:
    """(file, name relative to where it was found) of files, folders and patterns, each file once.

    Args:
        out: what lies in this folder is left aside.
        aside: told of what was found and not taken.
        also: as for `plan`.

    Raises:
        FacewrightError: nothing there, or a name that does not exist.
    """
    aside = LeftAside() if aside is None else aside
    found = list(_sources(inputs, out, aside, also))
    if not found:
        why = [aside.sentence()] if aside else []
        if any(Path(given).resolve().is_relative_to(out.resolve()) for given in inputs):
            why.append(f"What lies in the output folder {out} is left aside; choose another.")
        raise FacewrightError(" ".join([f"There are no pictures in {', '.join(inputs)}.", *why]))
    return found


def _sources(
    inputs: Iterable[str], out: Path, aside: LeftAside, also: Collection[str]
) -> Iterator[tuple[Path, Path]]:
    """(file, name relative to the output folder), without what lies in the output folder."""
    seen: dict[str, Path] = {}
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            files = pictures_in(path, aside, without=out, also=also)
            candidates = [(p, p.relative_to(path)) for p in files]
        elif os.path.lexists(path):
            candidates = [(path, Path(path.name))]
        else:
            candidates = [(p, Path(p.name)) for p in _matches(given, aside)]
        for source, name in candidates:
            real = os.path.realpath(source)
            if why := why_special(source):
                aside.named[source] = why
            elif real not in seen:
                seen[real] = source
                yield source, name
            elif os.path.abspath(seen[real]) != os.path.abspath(source):
                aside.named[source] = f"the same file as {seen[real]}"


def _matches(given: str, aside: LeftAside) -> list[Path]:
    """Files that a pattern stands for; folders on its way that really are called so are no part
    of it."""
    base, parts = Path(), Path(given).parts
    while parts and os.path.lexists(base / parts[0]):
        base, parts = base / parts[0], parts[1:]
    pattern = os.path.join(*parts) if parts else ""
    matches = []
    if glob.has_magic(pattern):
        matches = [base / m for m in sorted(glob.glob(pattern, root_dir=base, recursive=True))]
    if not matches:
        raise FacewrightError(f"There is no file, folder or match for {given!r}.")
    if "**" not in parts:  # which means the folders' files as well
        aside.named |= {p: "a folder: give it by its name" for p in matches if p.is_dir()}
    return [path for path in matches if not path.is_dir()]


def distinct(
    jobs: Sequence[J],
    *,
    endings: Iterable[str] = (),
    moved: Callable[[J, Path], J] = lambda job, target: replace(job, target=target),
) -> list[J]:
    """The jobs with targets, and files beside them, of which no two are one file on any system.

    A picture whose result keeps its name comes first; of `a.gif` beside `a.png` becomes
    `a_gif.png`. No file takes the place of a source; what would replace its own is refused.

    Args:
        endings: of the files beside each target: `_compare.png` follows its stem, what begins with
            a dot its whole name.
        moved: a job with another target.

    Raises:
        FacewrightError: all of them are refused.
    """
    sources = {_place(job.source) for job in jobs}
    taken = set(sources)
    named: dict[int, J] = {}
    keeps_name = [job.target.name == job.source.name for job in jobs]
    for index in sorted(range(len(jobs)), key=lambda i: not keeps_name[i]):
        job = jobs[index]
        if _place(job.target) == _place(job.source):
            why = f"The result of {job.source} would replace it. Choose another output folder."
            named[index] = replace(job, refused=why)
            continue
        target = _free(_alternatives(job.target, job.source), taken)
        named[index] = job if target == job.target else moved(job, target)
    if jobs and all(job.refused for job in named.values()):
        raise FacewrightError(next(iter(named.values())).refused)
    for ending in endings:
        for index, job in sorted(named.items()):
            path = _free(_beside(job.target, ending), taken)
            named[index] = replace(job, further={**job.further, ending: path})
    return [named[index] for index in range(len(jobs))]


def _place(path: Path) -> str:
    return same_place(path.resolve())


def _free(candidates: Iterable[Path], taken: set[str]) -> Path:
    """The first that nobody has, which is then taken."""
    for path in candidates:
        place = _place(path)
        if place not in taken:
            taken.add(place)
            return path
    raise AssertionError("candidates go on for ever")


def _alternatives(target: Path, source: Path) -> Iterator[Path]:
    yield target
    ending = source.suffix[1:]
    if ending and source.suffix.lower() != target.suffix.lower():
        yield _with_stem(target, f"{target.stem}_{ending}")
    for number in itertools.count(2):
        yield _with_stem(target, f"{target.stem}_{number}")


def _with_stem(path: Path, stem: str) -> Path:
    return path.with_name(fit_name(f"{stem}{path.suffix}", LONGEST))


def _beside(target: Path, ending: str) -> Iterator[Path]:
    by_stem = not ending.startswith(".")
    yield beside(target, ending, stem=by_stem)
    first, dot, rest = ending.rpartition(".")
    for number in itertools.count(2):
        yield beside(target, f"{first}_{number}{dot}{rest}", stem=by_stem)
