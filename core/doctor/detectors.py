"""Which face detectors can be used here, and which of them the analyzer "auto" takes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import CheckpointError
from ..faces import NEEDS, Choice
from ..faces.auto import Passed
from ..files.known import MEDIAPIPE, KnownFile
from .surroundings import Surroundings
from .weights import find_all, read_header


def detectors(around: Surroundings) -> dict[str, Any]:
    """Ready for JSON: "auto" (a name, or None), "why", and "all", what each lacks and where from.

    Files are looked at as far as their headers go; nothing is loaded.
    """
    found, passed, choice = [], [], None
    for name, needs in NEEDS.items():
        home = around.places(needs.weights.folder if needs.weights else "")[0]
        places = [p for folder in needs.folders for p in around.places(folder)]
        files = find_all([*places, *needs.own()], needs.patterns)
        file = next(iter(files), None)
        lacks = needs.lacks(file, home)
        broken = "" if lacks or file is None else _broken(file)
        where = _where(needs.weights) if needs.weights and (broken or file is None) else ""
        about = {"name": name, "about": needs.about, "file": file and str(file)}
        found.append({**about, "lacks": lacks or broken, "where": where})
        if lacks or broken:
            passed.append(Passed(name, lacks or broken, broken=bool(broken)))
        elif choice is None:
            choice = Choice(name, file, tuple(passed))
    why = choice.looked if choice else "No face detector for photographs is ready."
    return {"auto": choice and choice.name, "why": why, "all": found}


def lacks_of_auto(around: Surroundings, dense: bool) -> Iterator[str]:
    """What the analyzer "auto" lacks, if no detector is ready.

    Args:
        dense: dense landmarks are needed.
    """
    ready = [entry["name"] for entry in detectors(around)["all"] if not entry["lacks"]]
    if not any(NEEDS[name].dense or not dense for name in ready):
        what = "a face detector with dense landmarks" if dense else "a face detector"
        home = around.places(MEDIAPIPE.folder)[0]
        yield f"finds no {what[2:]}, and {lacking(MEDIAPIPE, home)}"


def lacking(file: KnownFile, folder: Path) -> str:
    """ "needs ..." with where to get a file, for the end of a sentence."""
    return f"needs {file.what}: put {file.names[0]} into {folder}. {_where(file)}"


def _where(file: KnownFile) -> str:
    return f"Source: {file.source}. Licence: {file.licence}."


def _broken(file: Path) -> str:
    try:
        read_header(file)
    except (CheckpointError, OSError) as error:
        return str(error)
    return ""
