"""Weight files as inputs: combos that explain themselves when empty, missing files in words."""

from collections.abc import Iterable
from typing import Any

from ..core.errors import CheckpointError
from ..core.files.known import KnownFile, bundled_path
from ._host import host, io

NONE = "none"


def file_input(id: str, folder: str, tooltip: str, *, optional: bool = False):
    """A combo of the weight files in one of the host's model folders."""
    files = host.model_files(folder)
    options = files or [_none_yet(folder)]
    if optional:
        options = [NONE, *files]
    return _combo(id, options, tooltip, folder)


def check_files(folder: str, *names: str | None) -> bool | str:
    """What `validate_inputs` returns: True, or why files cannot be had, all of them at once."""
    wanted = [n for n in names if n is not None and n != NONE]  # None while it is a link
    if _none_yet(folder) in wanted:
        return f"There are no weight files in models/{folder} yet. Put them there, then press R."
    missing = []
    for name in wanted:
        try:
            host.model_path(folder, name)
        except CheckpointError as error:
            missing.append(str(error))
    return " ".join(missing) or True


def check_bundled(files: Iterable[KnownFile]) -> bool | str:
    """`check_files` for weights that come with the package."""
    try:
        for file in files:
            bundled_path(file)
    except CheckpointError as error:
        return str(error)
    return True


def _none_yet(folder: str) -> str:
    return f"(no files in models/{folder}: add them, then press R)"


_NO_PERSON = "(no .person files in models/facewright: Save Person makes them, then press R)"


def person_input(id: str, tooltip: str):
    """A combo of the albums in models/facewright."""
    return _combo(id, host.person_files() or [_NO_PERSON], tooltip, "facewright")


def check_person(name: str | None) -> bool | str:
    """`check_files` for the value of a `person_input`."""
    if name == _NO_PERSON:
        return (
            "There are no .person files in models/facewright yet. Make one with Person Album and "
            "Save Person, or with `facewright person make`, then press R."
        )
    return check_files("facewright", name)


def _combo(id: str, options: list[str], tooltip: str, folder: str):
    """Marked as one whose options are what lies on the disk; a manual must not list them."""
    combo: Any = io.Combo.Input(id, options=options, default=options[0], tooltip=tooltip)
    combo.of_files = folder
    return combo
