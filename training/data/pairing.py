"""Which degraded picture belongs to which good one, in data sets as they are downloaded."""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from ...core.errors import shorten
from ...core.files.scan import LeftAside
from ..settings.data_sections import PairFolders
from ..settings.strict import ConfigError
from .files import SUFFIXES, picture_files, relative_name

SAME_NAME, AUTO = "same-name", "auto"
SIDES = (("HQ", "LQ"), ("hq", "lq"), ("gt", "lq"), ("target", "input"))
"""Subfolders of good and degraded pictures that bear the same names, the first that are there."""


class Rule(NamedTuple):
    """How the files of a data set are called, as paths below its folder without their endings.

    A path that a pattern fits belongs to that side; its groups, put together, are the pair's name.
    """

    example: str
    good: re.Pattern[str]
    degraded: re.Pattern[str]


def _rule(example: str, good: str, degraded: str) -> Rule:
    return Rule(example, *(re.compile(side, re.IGNORECASE) for side in (good, degraded)))


RULES: Mapping[str, Rule] = {
    # Dense-Haze, O-HAZE, NH-HAZE: a folder for each side, or both in one.
    "dense-haze": _rule(
        "GT/01_GT.png and hazy/01_hazy.png",
        r"(.*?)(?:GT/)?([^/]+)_GT",
        r"(.*?)(?:hazy/)?([^/]+)_hazy",
    ),
    # LOL: our485/high/2.png; its second version: Train/Normal/normal00001.png.
    "lol": _rule(
        "high/1.png and low/1.png",
        r"((?:.*/)?)(?:high/|normal/normal)(.+)",
        r"((?:.*/)?)low/(?:low)?(.+)",
    ),
    "sidd": _rule(
        "0001_GT_SRGB_010.PNG and 0001_NOISY_SRGB_010.PNG",
        r"((?:.*/)?(?:[^/]+_)?)GT_SRGB(_[^/]+)",
        r"((?:.*/)?(?:[^/]+_)?)NOISY_SRGB(_[^/]+)",
    ),
    "realblur-j": _rule(
        "gt/gt_1.png and blur/blur_1.png",
        r"((?:.*/)?)gt/gt_(.+)",
        r"((?:.*/)?)blur/blur_(.+)",
    ),
    # As `facewright shards` packs them.
    "beside": _rule("a.png and a.lq.png", r"((?:(?!\.lq$).)+)", r"(.+)\.lq"),
}  # fmt: skip
EXAMPLES = {SAME_NAME: "HQ/<name> and LQ/<name>"} | {n: r.example for n, r in RULES.items()}


class FoundPairs(NamedTuple):
    """What a rule makes of a data set."""

    rule: str
    folders: tuple[Path, Path]
    """That good and degraded pictures were looked for in."""
    pairs: dict[str, tuple[Path, Path]]
    """Name -> (good file, degraded file), sorted by name."""
    alone: list[Path]
    """Files of one side whose counterpart is not there."""
    others: list[Path]
    """Pictures that the rule gives to neither side."""
    aside: LeftAside
    """What is no picture."""


def find_pairs(entry: Path | PairFolders) -> FoundPairs:
    """Pair the files of one data set.

    Args:
        entry: a folder, or an entry of `data.folders` of a config.

    Raises:
        NoPairsError: there are no pictures, or no rule fits.
        ConfigError: more than one rule fits, or two files of a side bear one name.
    """
    aside = LeftAside()
    if isinstance(entry, PairFolders) and entry.hq and entry.lq:
        return _two_folders((entry.hq, entry.lq), aside)
    folder, rule = (entry, AUTO) if isinstance(entry, Path) else (entry.place, entry.rule)
    if rule in (AUTO, SAME_NAME):
        sides = next((s for s in SIDES if all((folder / name).is_dir() for name in s)), None)
        if sides:
            return _two_folders((folder / sides[0], folder / sides[1]), aside)
        if rule == SAME_NAME:
            raise _no_pictures(folder / SIDES[0][0])
    files = picture_files(folder, aside)
    if rule != AUTO:
        found = _by_rule(rule, folder, files, aside)
        if not found.pairs:
            raise ConfigError(
                f"The rule {rule} ({EXAMPLES[rule]}) finds no pair among the "
                f"{len(files)} pictures in {folder}. {_OTHERWISE} {aside.sentence()}".rstrip()
            )
        return found
    fitting = [f for name in RULES if (f := _by_rule(name, folder, files, aside)).pairs]
    if not fitting:
        raise _no_pictures(folder / SIDES[0][0], f", and no other rule fits {folder}")
    if len(fitting) > 1:
        rules = ", ".join(f"{f.rule} (pairs: {len(f.pairs)})" for f in fitting)
        raise ConfigError(
            f"More than one rule finds pairs in {folder}: {rules}. Say which one is meant: "
            f"{{folder: {folder}, rule: {fitting[0].rule}}}."
        )
    return fitting[0]


_OTHERWISE = (
    "A folder of pairs holds HQ/<name> and LQ/<name>, or is given as two folders `hq:` and `lq:`, "
    "or is a data set as it is downloaded: "
    + "; ".join(f"{name}: {rule.example}" for name, rule in RULES.items())
    + f". Pictures end in {', '.join(SUFFIXES)}."
)


class NoPairsError(ConfigError):
    """No rule fits a folder."""


def _no_pictures(folder: Path, more: str = "") -> NoPairsError:
    return NoPairsError(f"There are no pictures in {folder}{more}. {_OTHERWISE}")


def _two_folders(folders: tuple[Path, Path], aside: LeftAside) -> FoundPairs:
    """Files of the same path below both folders, whatever their endings."""
    good, degraded = (
        _named(picture_files(top, aside), lambda file, top=top: relative_name(top, file))
        for top in folders
    )
    for top, side in zip(folders, (good, degraded), strict=True):
        if not side:
            raise _no_pictures(top)
    return _paired(SAME_NAME, folders, good, degraded, [], aside)


def _by_rule(name: str, folder: Path, files: list[Path], aside: LeftAside) -> FoundPairs:
    rule = RULES[name]
    sides: list[dict[str, Path]] = []
    taken: set[Path] = set()
    for pattern in (rule.good, rule.degraded):
        matches = {f: pattern.fullmatch(relative_name(folder, f)) for f in files if f not in taken}
        mine = {f: "".join(m.groups()) for f, m in matches.items() if m}
        taken |= mine.keys()
        sides.append(_named(mine, mine.__getitem__))
    others = [f for f in files if f not in taken]
    return _paired(name, (folder, folder), sides[0], sides[1], others, aside)


def _named(files: "list[Path] | dict[Path, str]", name: Callable[[Path], str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        other = found.setdefault(name(file), file)
        if other is not file:
            raise ConfigError(
                f"{other} and {file} have the same name but for the ending, so it is unclear which "
                "one is the counterpart. Remove or rename one of them."
            )
    return found


def _paired(
    rule: str,
    folders: tuple[Path, Path],
    good: Mapping[str, Path],
    degraded: Mapping[str, Path],
    others: list[Path],
    aside: LeftAside,
) -> FoundPairs:
    order = sorted(good) if folders[0] == folders[1] else list(good)
    pairs = {name: (good[name], degraded[name]) for name in order if name in degraded}
    alone = [(good.get(n) or degraded[n]) for n in sorted(good.keys() ^ degraded.keys())]
    return FoundPairs(rule, folders, pairs, alone, others, aside)


def refuse_alone(found: FoundPairs) -> None:
    """Raises ConfigError where a file has no counterpart."""
    if not found.alone:
        return
    first, (good, degraded) = found.alone[0], found.folders
    more = f" (and {len(found.alone) - 1} more)" if len(found.alone) > 1 else ""
    if found.rule == SAME_NAME:
        name = relative_name(good if first.is_relative_to(good) else degraded, first)
        raise ConfigError(
            f"{name}{more} is in only one of {good} and {degraded}. Each picture needs its "
            "counterpart of the same name: add or remove it."
        )
    raise ConfigError(
        f"{shorten(first, 200)}{more} has no counterpart by the rule {found.rule} "
        f"({EXAMPLES[found.rule]}). Add or remove it."
    )


def chosen_pairs(entry: Path | PairFolders, found: FoundPairs) -> list[str]:
    """Names of the pairs that an entry's `limit` leaves, all without one, in their order.

    They are drawn by their names alone: pictures that are added move few others.
    """
    limit = None if isinstance(entry, Path) else entry.limit
    names = list(found.pairs)
    if limit is None or limit >= len(names):
        return names
    data_set = set_name(entry)

    def draw(name: str) -> str:
        # Not the digest that the held-out are drawn by: the two choices would be one.
        text = f"limit\0{data_set}/{name}"
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()

    chosen = set(sorted(names, key=draw)[:limit])
    return [name for name in names if name in chosen]


def place_of(entry: Path | PairFolders) -> Path:
    """The folder that a data set is called after."""
    return entry if isinstance(entry, Path) else entry.place


def set_name(entry: Path | PairFolders) -> str:
    """What a data set is called, wherever it lies.

    Not the path as typed: a run resumed from another folder must hold out the same pairs.
    """
    return os.path.basename(os.path.abspath(place_of(entry)))
