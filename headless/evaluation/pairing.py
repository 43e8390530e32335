"""Which picture belongs to which: by name, never by position in a list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ...core.errors import FacewrightError, listed
from ...core.files.scan import LeftAside, pictures_in
from ..jobs.manifest import read_records
from ..jobs.recorded import MANIFEST

GT, LQ = "GT", "LQ"
"""What the originals and the degraded pictures are called in every table and picture."""
_COMPARE = "_compare"
"""What `restore --compare` adds to the name of its before/after pictures."""


@dataclass(frozen=True)
class Case:
    """One picture in all its versions."""

    name: str
    """Path inside its folder without the suffix, with forward slashes."""
    gt: Path | None
    """None where nothing is compared with (no --gt folder)."""
    versions: dict[str, Path]
    """Method, or LQ -> file; only the methods that have this picture."""
    copy_of: str | None = None
    """Name of the original that it is a further copy of, as `degrade --copies` makes them."""


@dataclass(frozen=True)
class Unmatched:
    """A picture that found no partner."""

    file: Path
    why: str


@dataclass(frozen=True)
class Pairing:
    """What is scored, and what cannot be."""

    methods: dict[str, Path]
    """Name -> folder, in the order given; LQ, if any, first."""
    gt: Path | None
    cases: list[Case]
    """Sorted by name; every case has at least one version."""
    unmatched: list[Unmatched] = field(default_factory=list)
    aside: list[Path] = field(default_factory=list)
    """Before/after pictures of `restore --compare`, which are not scored."""
    scanned: LeftAside = field(default_factory=LeftAside)
    """What was found in the folders and is no picture to score."""

    @property
    def notes(self) -> list[str]:
        """What was decided about pictures by more than their names."""
        lines = []
        if n := len(self.aside):
            what = "1 before/after picture" if n == 1 else f"{n} before/after pictures"
            where = "was" if n == 1 else "were"
            lines.append(f"{what} of restore --compare ({_COMPARE}.png) {where} left aside.")
        if copies := [case for case in self.cases if case.copy_of]:
            n, of = len(copies), len({case.copy_of for case in copies})
            lines.append(
                f"{n} of the {len(self.cases)} pictures {'is a' if n == 1 else 'are'} further "
                f"{'copy' if n == 1 else 'copies'} of {of} {'original' if of == 1 else 'originals'}"
                " (degrade --copies), each scored against its original. Intervals take copies for "
                "pictures of their own: they say nothing about other originals."
            )
        return lines

    @property
    def restored(self) -> list[str]:
        """The methods without LQ."""
        return [name for name in self.methods if name != LQ]


def pair_folders(
    folders: Sequence[Path], gt: Path | None = None, lq: Path | None = None
) -> Pairing:
    """Pair the pictures of several folders by their path inside the folder without its suffix.

    Subfolders count; files that are no pictures and hidden ones do not. "a/b.png" belongs to
    "a/b.jpg", not to "b.png". Where no original has its name, a picture may be one of the further
    copies that `degrade --copies` makes (a_2 of a): if a manifest.jsonl in its folder or beside
    the degraded pictures says so, or every original's pictures in a folder are named like that.
    Before/after pictures of `restore --compare` are left aside.

    Args:
        folders: restored pictures, one folder per method.
        gt: originals, or None for metrics that need none.
        lq: the degraded pictures, scored like a method, or None.

    Raises:
        FacewrightError: a folder that is missing or has no pictures, two pictures of one name in
            it, or not a single pair (the names on both sides are listed).
    """
    methods = dict(zip(_unique_names(folders), folders, strict=True))
    if lq is not None:
        methods = {LQ: lq, **methods}
    scanned = LeftAside()
    found = {name: _pictures(folder, scanned) for name, folder in methods.items()}
    originals = {} if gt is None else _pictures(gt, scanned)
    restored = [name for name in methods if name != LQ]
    aside = [
        found[method].pop(name)
        for method in restored
        for name in _comparisons(found[method], originals)
    ]
    wanted = sorted({case for name in restored for case in found[name]})
    copies = {} if gt is None else _copies(methods, found, originals)
    paired = wanted if gt is None else [n for n in wanted if n in originals or n in copies]
    if not paired:
        raise FacewrightError(_no_pair(folders, gt, wanted, originals))
    cases = [
        Case(
            name,
            None if gt is None else originals[copies.get(name, name)],
            {method: files[name] for method, files in found.items() if name in files},
            copies.get(name),
        )
        for name in paired
    ]
    unmatched = list(_unmatched(methods, gt, found, originals, copies, paired))
    return Pairing(methods, gt, cases, unmatched, aside, scanned)


def _comparisons(files: dict[str, Path], originals: dict[str, Path]) -> list[str]:
    """Names of the before/after pictures: "a_compare.png" beside an "a", unless it is a name of
    an original.
    """
    return [
        name
        for name, file in files.items()
        if name.endswith(_COMPARE) and file.suffix.lower() == ".png"
        and name.removesuffix(_COMPARE) in files and name not in originals
    ]  # fmt: skip


def _copies(
    methods: dict[str, Path], found: dict[str, dict[str, Path]], originals: dict[str, Path]
) -> dict[str, str]:
    """Further copies -> their originals, for names that no original has."""
    recorded: dict[str, set[str]] = {}
    for folder in methods.values():
        for output, source in _recorded(folder):
            recorded.setdefault(output, set()).add(source)
    copies: dict[str, set[str]] = {}
    for files in found.values():
        copies.update({name: recorded[name] for name in files if name in recorded})
        for name, original in _named_as_copies(files, originals).items():
            if name not in recorded:
                copies.setdefault(name, set()).add(original)
    # Where two manifests disagree neither is believed.
    sure = {name: next(iter(of)) for name, of in copies.items() if len(of) == 1}
    return {n: of for n, of in sure.items() if n not in originals and of in originals}


def _recorded(folder: Path) -> Iterable[tuple[str, str]]:
    """(output, input) of every picture that `facewright degrade` wrote here, without suffixes."""
    try:
        records = read_records(folder / MANIFEST)
    except FacewrightError:  # another program's file: what it leaves open is listed as unmatched
        return
    for record in records:
        paths = [PurePosixPath(str(record.get(key, ""))) for key in ("output", "input")]
        if all(path.name for path in paths):
            output, source = (path.with_suffix("").as_posix() for path in paths)
            yield output, source


def _named_as_copies(files: dict[str, Path], originals: dict[str, Path]) -> dict[str, str]:
    """The same, by their names alone: only where at least two originals have a picture here, and
    all of them have the further ones a_2 to a_N. One a_2 beside an a may be anybody.
    """
    numbers: dict[str, set[str]] = {name: set() for name in files if name in originals}
    for name in files:
        stem, _, number = name.rpartition("_")
        if name not in originals and stem in numbers and number.isdecimal():
            numbers[stem].add(number)
    there = list(numbers.values())
    expected = {str(i) for i in range(2, 2 + len(there[0]))} if there else set()
    if len(there) < 2 or any(found != expected for found in there):
        return {}
    return {f"{stem}_{number}": stem for stem, found in numbers.items() for number in found}


def _unmatched(
    methods: dict[str, Path],
    gt: Path | None,
    found: dict[str, dict[str, Path]],
    originals: dict[str, Path],
    copies: dict[str, str],
    paired: Sequence[str],
) -> Iterable[Unmatched]:
    restored = set(paired)
    for method, files in found.items():
        for name, file in files.items():
            if gt is not None and name not in originals and name not in copies:
                yield Unmatched(file, f"no picture of this name in {gt}{_hint(name, originals)}")
            elif method == LQ and name not in restored | originals.keys():
                yield Unmatched(file, "no restored picture of this name")
    used = {copies.get(name, name) for name in paired}
    for name, file in originals.items():
        if name not in used:
            yield Unmatched(file, "no restored picture of this name")
    for name in paired:
        has = [method for method in methods if name in found[method]]
        for method, folder in methods.items():
            if method not in has:
                why = f"no picture of this name in {folder}"
                yield Unmatched(found[has[-1]][name], why)


def _hint(name: str, originals: dict[str, Path]) -> str:
    stem, _, number = name.rpartition("_")
    if stem not in originals or not number.isdecimal():
        return ""
    return (
        f"; if degrade --copies made it from {stem}, give --lq with the folder that holds its "
        f"{MANIFEST}"
    )


def check_folder(folder: Path) -> None:
    """Raise FacewrightError unless it is a folder."""
    if not folder.exists():
        raise FacewrightError(f"There is no folder {folder}.")
    if not folder.is_dir():
        raise FacewrightError(
            f"{folder} is a file; folders are evaluated. For two files: facewright score A B"
        )


def _pictures(folder: Path, aside: LeftAside) -> dict[str, Path]:
    """Name without suffix -> file, for every picture below a folder."""
    check_folder(folder)
    pictures: dict[str, Path] = {}
    for file in pictures_in(folder, aside):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if name in pictures:
            raise FacewrightError(
                f"{pictures[name]} and {file} have the same name but for the suffix, so it is "
                "unclear which one is meant. Remove or rename one of them."
            )
        pictures[name] = file
    if not pictures:
        raise FacewrightError(f"There are no pictures in {folder}. {aside.sentence()}".strip())
    return pictures


def _unique_names(folders: Sequence[Path]) -> list[str]:
    """Folder names, with as many parent folders as it takes to tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    taken = {GT, LQ}
    names: list[str] = []
    for at, mine in enumerate(parts):
        others = parts[:at] + parts[at + 1 :]
        depth = 1
        while depth < len(mine) and any(mine[-depth:] == other[-depth:] for other in others):
            depth += 1
        if any(mine == other for other in others):
            depth = 1  # the same folder twice: no parent tells them apart
        base = "/".join(mine[-depth:])
        name, again = base, 2
        while name in taken:
            name, again = f"{base} ({again})", again + 1
        taken.add(name)
        names.append(name)
    return names


def _no_pair(
    folders: Sequence[Path], gt: Path | None, wanted: Sequence[str], originals: dict[str, Path]
) -> str:
    where = ", ".join(str(folder) for folder in folders)
    return (
        f"No picture of {where} has the name of a picture in {gt}; files are paired by their path "
        "inside the folder, without the suffix. Rename one side, or give the right folders.\n"
        f"Without an original: {listed(wanted, 20)}\n"
        f"Originals not used: {listed(originals, 20)}"
    )
