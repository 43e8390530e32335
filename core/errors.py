"""Errors a user can act on: what was expected, what came, and what to do next."""

import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


_LOADED_BY_PATH = __name__ != "facewright.core.errors"
"""As ComfyUI loads packs: it then shows an error as module, class and sentence."""


_CALLED: dict[str, str] = {}


def call_folders(names: Mapping[str, str]) -> None:
    """A host whose sentences are seen by others registers how it calls folders of this machine.

    Args:
        names: by a folder's whole path. Files and folders in it are told from that name on; from
            their own where it is "".
    """
    _CALLED.update(names)


def _called(sentence: str) -> str:
    for path in sorted(_CALLED, key=len, reverse=True):
        name = _CALLED[path]
        inside = re.compile(rf"(?<![\w/\\]){re.escape(path)}([/\\])")
        sentence = inside.sub(lambda found, name=name: name and name + found[1], sentence)
    return sentence


class FacewrightError(ValueError):
    """Anything this package refuses. The message is a full sentence meant for the user."""

    def __str__(self) -> str:
        return _called(super().__str__())

    def __init_subclass__(cls) -> None:
        if _LOADED_BY_PATH:
            # Else the folder of the installation stands before every sentence. Under the name of
            # the installed package it stays, by which other processes find the class.
            cls.__module__ = "facewright"


if _LOADED_BY_PATH:
    FacewrightError.__module__ = "facewright"


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


def counted(number: int, noun: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


SHOWN = 3
"""Names that a sentence lists before it says how many more there are."""


def listed(
    names: Iterable[object], most: int = SHOWN, *, between: str = ", ", longest: int = 160
) -> str:
    """The first few of `names` in words, and how many more there are.

    Args:
        longest: characters of each name, see `shorten`.
    """
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(shorten(name, longest) for name in names[:most]) + more


def first_of(sentences: Sequence[str], rest: str = "And {} more.", most: int = 20) -> list[str]:
    """As many as people read, and where there are others `rest` with their number in it."""
    left = len(sentences) - most
    return [*sentences[:most], *([rest.format(left)] if left > 0 else [])]


_ADVICE = {
    errno.ENOSPC: "The disk is full. Free some space, or choose another disk",
    errno.EDQUOT: "The disk quota is used up. Free some space, or choose another disk",
    errno.EACCES: "This user may not do that. Choose another place, or change its permissions",
    errno.EPERM: "This user may not do that. Choose another place, or change its permissions",
    errno.EROFS: "The disk can only be read. Choose another place",
    errno.ENOENT: "There is no such file or folder. Look at the name",
    errno.EISDIR: "That is a folder, and a file is needed. Give another name",
    errno.ENOTDIR: "A file is where a folder is needed. Give another name",
    errno.EEXIST: "Something of that name is there already. Give another name",
    errno.ENAMETOOLONG: "The name is longer than this disk takes. Give a shorter one",
    errno.EMFILE: "Too many files are open at once. Use fewer --workers, or raise `ulimit -n`",
    errno.ENFILE: "Too many files are open at once. Use fewer --workers, or raise `ulimit -n`",
    errno.ELOOP: "Links there lead in a circle. Give the place itself",
    errno.EIO: "The disk could not be read or written. Look at its cable and its health",
    errno.ESTALE: "The network folder went away. Connect it again",
}


def os_sentence(error: OSError) -> str:
    """A failure of the operating system in a user's words, with the file where it is known."""
    what = _ADVICE.get(error.errno or 0)
    if what is None:
        what = f"{error.strerror or error}. Look at the file and the disk it is on"
    names = [shorten(os.fsdecode(n), 240) for n in (error.filename, error.filename2) if _is_name(n)]
    where = f"{' to '.join(names)}: " if names else ""
    return f"{where}{what}, and run the same command again."


def _is_name(value: object) -> bool:
    return isinstance(value, (str, bytes, os.PathLike))


def check_image(x: "torch.Tensor", *, name: str) -> None:
    """Raise FacewrightError unless `x` is a floating point (b, 3, h, w) tensor."""
    if x.ndim != 4 or x.shape[1] != 3:
        hint = ""
        if x.ndim == 4 and x.shape[-1] == 3:
            hint = " It looks like a ComfyUI IMAGE (b, h, w, 3); move the channels first."
        raise FacewrightError(f"`{name}` should be (b, 3, h, w), got {tuple(x.shape)}.{hint}")
    if not x.is_floating_point():
        raise FacewrightError(f"`{name}` should be floating point in [0, 1], got {x.dtype}.")


def check_counts(many: "torch.Tensor", other: "torch.Tensor", *, names: tuple[str, str]) -> None:
    """Raise FacewrightError unless `other` holds one picture, or as many as `many`."""
    if len(other) not in (1, len(many)):
        raise FacewrightError(
            f"`{names[0]}` holds {len(many)} pictures and `{names[1]}` {len(other)}. Connect as "
            f"many of each, or a single `{names[1]}` for all."
        )


def not_finite(x: "torch.Tensor") -> list[int]:
    """Which entries along the first axis hold NaN or infinity."""
    return (~x.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
