"""Files of albums: found by path or name, changed in place or into another file, never half."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ...core.errors import CheckpointError, FacewrightError
from ...core.files.writing import content_hash
from ...core.host import host
from ...core.people.outliers import Remedy, strangers
from ...core.people.person import SUFFIX, Person, base_name, holds
from ...core.people.photos import command, handles


def find_album(given: str) -> Path:
    """A .person file by path, or by name in models/facewright or its folder people.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(given)
    if path.is_file():
        return path
    found = host.folders.find("facewright", given, f"people/{given}")
    if found is None:
        raise CheckpointError(
            f"There is no file {given}, and no album of that name in models/facewright or its "
            "folder people."
        )
    return found


def could_be(path: Path, name: str, sources: Sequence[str]) -> bool:
    """Whether a file may be the very album that these photos make, without looking at them."""
    try:
        stored = Person.from_file(path)
    except CheckpointError:
        return False
    return stored.name == name.strip() and set(stored.sources) <= {base_name(s) for s in sources}


def remove_with(path: Path) -> Remedy:
    """How photographs are taken out of this file."""

    def remedy(person: Person, photos: Sequence[int]) -> str:
        return f"`{command('person', 'remove', str(path), *handles(person, photos))}`"

    return remedy


def warnings_of(person: Person, path: Path) -> list[str]:
    """`strangers` with the commands for this file."""
    return strangers(person, remove_with(path))


def check_target(path: Path, *, overwrite: bool) -> None:
    """Raise FacewrightError where an album may not be written: another ending, or a file there."""
    if path.suffix != SUFFIX:
        raise FacewrightError(f"{path} should end in {SUFFIX}.")
    if path.exists() and not overwrite:
        raise FacewrightError(
            f"There already is a file {path}. Give --overwrite to replace it, another --out, or "
            f"add to that album with `{command('person', 'add', str(path))} PHOTOS`."
        )


@dataclass(frozen=True)
class AlbumFile:
    """An album as it was read, so that a change made meanwhile by somebody else is not lost."""

    path: Path
    person: Person
    digest: str

    @classmethod
    def read(cls, path: Path) -> "AlbumFile":
        """
        Raises:
            CheckpointError: no album that can be used.
        """
        return cls(path, Person.from_file(path), content_hash(path))

    def write(self, changed: Person, out: Path | None) -> bool:
        """Write the changed album here, or to `out`; the old file stays until the new one is whole.

        Returns:
            Whether there was something to write.

        Raises:
            FacewrightError: somebody else changed the file since it was read.
            OSError: the folder cannot be written.
        """
        if holds(out or self.path, changed):
            return False
        if out is not None:
            changed.save(out)
            return True
        out = self.path.resolve()
        with _alone(out):
            if not out.is_file() or content_hash(out) != self.digest:
                raise FacewrightError(
                    f"{self.path} was changed by another program meanwhile. It was left as it is; "
                    "run the same command again."
                )
            changed.save(out)
        return True


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Between a look at a file and its replacement no other process does the same.

    Where a system or a network folder has no such locks, one may.
    """
    with ExitStack() as stack, suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(stack.enter_context(path.open("rb")), fcntl.LOCK_EX)
        stack = stack.pop_all()
    with stack:
        yield
