"""Which picture belongs to which: by name, never by position in a list."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...core.errors import FacewrightError
from ..images import PICTURE_SUFFIXES

GT, LQ = "GT", "LQ"
"""What the originals and the degraded pictures are called in every table and picture."""
_NAMED = 20
"""Names listed in one sentence; the report lists all."""


@dataclass(frozen=True)
class Case:
    """One picture in all its versions."""

    name: str
    """Path inside its folder without the suffix, with forward slashes."""
    gt: Path | None
    """None where nothing is compared with (no --gt folder)."""
    versions: dict[str, Path]
    """Method, or LQ -> file; only the methods that have this picture."""


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

    @property
    def restored(self) -> list[str]:
        """The methods without LQ."""
        return [name for name in self.methods if name != LQ]


def pair_folders(
    folders: Sequence[Path], gt: Path | None = None, lq: Path | None = None
) -> Pairing:
    """Pair the pictures of several folders by their path inside the folder without its suffix.

    Subfolders count; files that are no pictures and hidden ones do not. "a/b.png" belongs to
    "a/b.jpg", not to "b.png".

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
    found = {name: _pictures(folder) for name, folder in methods.items()}
    originals = None if gt is None else _pictures(gt)
    restored = [name for name in methods if name != LQ]
    wanted = sorted({case for name in restored for case in found[name]})
    if originals is not None and not any(case in originals for case in wanted):
        raise FacewrightError(_no_pair(folders, gt, wanted, originals))
    cases = [
        Case(
            name,
            None if originals is None else originals[name],
            {method: files[name] for method, files in found.items() if name in files},
        )
        for name in wanted
        if originals is None or name in originals
    ]
    return Pairing(methods, gt, cases, list(_unmatched(methods, gt, found, originals, wanted)))


def _unmatched(
    methods: dict[str, Path],
    gt: Path | None,
    found: dict[str, dict[str, Path]],
    originals: dict[str, Path] | None,
    wanted: Sequence[str],
) -> Iterable[Unmatched]:
    originals = {} if originals is None else originals
    restored = set(wanted)
    for method, files in found.items():
        for name, file in files.items():
            if gt is not None and name not in originals:
                yield Unmatched(file, f"no picture of this name in {gt}")
            elif method == LQ and name not in restored | originals.keys():
                yield Unmatched(file, "no restored picture of this name")
    for name, file in originals.items():
        if name not in restored:
            yield Unmatched(file, "no restored picture of this name")
    for name in wanted:
        if gt is not None and name not in originals:
            continue
        has = [method for method in methods if name in found[method]]
        for method, folder in methods.items():
            if method not in has:
                why = f"no picture of this name in {folder}"
                yield Unmatched(found[has[-1]][name], why)


def _pictures(folder: Path) -> dict[str, Path]:
    """Name without suffix -> file, for every picture below a folder."""
    if not folder.exists():
        raise FacewrightError(f"There is no folder {folder}.")
    if not folder.is_dir():
        raise FacewrightError(
            f"{folder} is a file; folders are evaluated. For two files: facewright score A B"
        )
    pictures: dict[str, Path] = {}
    for file in sorted(folder.rglob("*")):
        inside = file.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        if hidden or file.suffix.lower() not in PICTURE_SUFFIXES or not file.is_file():
            continue
        name = inside.with_suffix("").as_posix()
        if name in pictures:
            raise FacewrightError(
                f"{pictures[name]} and {file} have the same name but for the suffix, so it is "
                "unclear which one is meant. Remove or rename one of them."
            )
        pictures[name] = file
    if not pictures:
        raise FacewrightError(f"There are no pictures in {folder}.")
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
    folders: Sequence[Path], gt: Path, wanted: Sequence[str], originals: dict[str, Path]
) -> str:
    where = ", ".join(str(folder) for folder in folders)
    return (
        f"No picture of {where} has the name of a picture in {gt}; files are paired by their path "
        "inside the folder, without the suffix. Rename one side, or give the right folders.\n"
        f"Without an original: {listed(wanted)}\n"
        f"Originals not used: {listed(list(originals))}"
    )


def listed(names: Sequence[str], most: int = _NAMED) -> str:
    """Names in one line, the first ones where they are many."""
    text = ", ".join(names[:most])
    return text if len(names) <= most else f"{text} and {len(names) - most} more"
