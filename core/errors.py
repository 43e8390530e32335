"""Errors a user can act on: what was expected, what came, and what to do next."""

import torch


class FacewrightError(ValueError):
    """Anything this package refuses. The message is a full sentence meant for the user."""


class CheckpointError(FacewrightError):
    """A weight file is missing, unreadable, unsafe, or not the file it was taken for."""


class LoraError(FacewrightError):
    """A LoRA file does not fit the model: keys or shapes that cannot be applied."""


class NonFiniteError(FacewrightError):
    """A model produced NaN or infinity even in full precision."""


class DataLostError(FacewrightError):
    """Training data vanished, or too much of it cannot be read, while a run was under way."""


def shorten(text: object, most: int = 80) -> str:
    """A name from a file as a sentence can hold it: printable, on one line, its middle left out.

    Args:
        most: characters of the result at the most, at least 16.
    """
    # Only as much is looked at as can be shown: a hostile name may be megabytes long.
    given = str(text)
    if len(given) > most:
        head = (most - 3 + 1) // 2
        given = f"{given[:head]}...{given[-(most - 3 - head) :]}"
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in given)


def check_image(x: torch.Tensor, *, name: str) -> None:
    """Raise FacewrightError unless `x` is a floating point (b, 3, h, w) tensor."""
    if x.ndim != 4 or x.shape[1] != 3:
        hint = ""
        if x.ndim == 4 and x.shape[-1] == 3:
            hint = " It looks like a ComfyUI IMAGE (b, h, w, 3); move the channels first."
        raise FacewrightError(f"`{name}` should be (b, 3, h, w), got {tuple(x.shape)}.{hint}")
    if not x.is_floating_point():
        raise FacewrightError(f"`{name}` should be floating point in [0, 1], got {x.dtype}.")
