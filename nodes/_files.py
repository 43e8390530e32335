"""Weight files as inputs: combos that explain themselves when empty, missing files in words."""

from ..core.errors import CheckpointError
from ._host import host, io

NONE = "none"


def file_input(id: str, folder: str, tooltip: str, *, optional: bool = False):
    """A combo of the weight files in one of the host's model folders."""
    files = host.model_files(folder)
    options = files or [f"(no files in models/{folder}: add them, then press R)"]
    if optional:
        options = [NONE, *files]
    return io.Combo.Input(id, options=options, default=options[0], tooltip=tooltip)


def check_files(folder: str, *names: str) -> bool | str:
    """What `validate_inputs` returns: True, or why a file cannot be had."""
    try:
        for name in names:
            if isinstance(name, str) and name != NONE:  # None while it comes over a link
                host.model_path(folder, name)
    except CheckpointError as error:
        return str(error)
    return True
