"""What becomes of a run whose data are damaged: it goes on without them, up to a point."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ...core.errors import DataLostError, FacewrightError

MOST_IN_A_ROW = 32
"""Files that cannot be read one after the other before the run stops: chance does not do that to a
set with single bad files (half of them bad: once in 4 billion samples)."""

T = TypeVar("T")


class UnreadableError(FacewrightError):
    """One file of the data cannot be read; `Careful` lets a run go on without it."""

    def __init__(self, name: object, reason: object) -> None:
        self.name, self.reason = str(name), str(reason).rstrip(".")
        super().__init__(f"{name} could not be read: {self.reason}.")


def lost(what: str) -> DataLostError:
    """The error that ends a run for want of data; `what` is a sentence about them."""
    return DataLostError(
        f"{what} Bring the data back (is their disk still mounted?) and start the same command "
        "with --resume: the run goes on from its last checkpoint."
    )


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Around the reading of a file below `folder`.

    Raises:
        DataLostError: in place of an UnreadableError where the whole folder is gone.
    """
    try:
        yield
    except UnreadableError as error:
        if folder.is_dir():
            raise
        raise lost(
            f"The data folder {folder} is not there any more; {error.name} was wanted next."
        ) from error


class Careful:
    """Calls what reads a file, and notes those that cannot be read."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}
        self._in_a_row = 0

    def __call__(self, load: Callable[[], T]) -> T | None:
        """What `load` returns; None where a file cannot be read.

        Raises:
            DataLostError: it was `MOST_IN_A_ROW` times in a row.
        """
        try:
            loaded = load()
        except UnreadableError as error:
            self._found[error.name] = error.reason
            self._in_a_row += 1
            if self._in_a_row >= MOST_IN_A_ROW:
                raise lost(
                    f"{MOST_IN_A_ROW} times in a row a picture could not be read, the last of them "
                    f"{error.name}: {error.reason}."
                ) from error
            return None
        self._in_a_row = 0
        return loaded

    def found(self) -> dict[str, str]:
        """File -> why it could not be read, of what was noted since the last call."""
        found, self._found = self._found, {}
        return found
