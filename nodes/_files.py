"""Weight files as inputs: combos that explain themselves when empty, missing files in words."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError
from ..core.files.known import KnownFile, bundled_path
from ..core.weights.listing import Fits, is_hint
from ._host import host, io

NONE = "none"


def file_input(
    id: str, folder: str, tooltip: str, fits: Fits | None = None, *, optional: bool = False
):
    """A combo of the weight files in one of the host's model folders, those that fit first.

    Where none is known to fit, what is chosen beforehand says what to do.
    """

    def path_of(name: str) -> Path:
        return host.model_path(folder, name)

    first, rest = (fits or Fits()).split(folder, host.model_files(folder), path_of)
    beforehand = [NONE] if optional else [] if first else [_none_yet(folder)]
    return _combo(id, [*beforehand, *first, *rest], tooltip, folder)


def check_files(folder: str, *names: str | None) -> bool | str:
    """What `validate_inputs` returns: True, or why files cannot be had, all of them at once."""
    wanted = [n for n in names if n is not None and n != NONE]  # None while it is a link
    if any(map(is_hint, wanted)):
        if host.model_files(folder):
            return (
                f"No file is chosen. Choose one of models/{folder}, or put the right one there, "
                "then press R."
            )
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


# Narrow nodes show about 40 characters of a combo.


def _none_yet(folder: str) -> str:
    return f"(put one in models/{folder}, press R)"


_NO_PERSON = "(make one with Save Person, press R)"


def person_input(id: str, tooltip: str):
    """A combo of the albums in models/facewright."""
    return _combo(id, host.person_files() or [_NO_PERSON], tooltip, "facewright")


def check_person(name: str | None) -> bool | str:
    """`check_files` for the value of a `person_input`."""
    if is_hint(name):
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
