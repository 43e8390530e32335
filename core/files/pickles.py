"""Reading PyTorch's pickles: no code from a file ever runs, and reading takes a bounded effort.

torch's restricted reader (`weights_only=True`) does the reading. Before it is let at a file, the
file's instructions are looked through: what names it asks for, and whether it would make the reader
work or allocate without end.
"""

import pickletools
import re
import sys
import tarfile
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, Self

import torch

from ..errors import CheckpointError, shorten

AGAIN = "Download it again."
"""What to do about a damaged file of weights. Files that nobody downloads say something else."""

_MOST_INSTRUCTIONS = 1_000_000
"""A whole Lightning checkpoint of SD with its optimiser has about 100,000."""
_MOST_NAMES = 20_000
_MOST_CLASSES = 100
"""Foreign classes: torch's reader compares each with all of them at every name it meets."""
_MOST_NESTED = 100_000
"""Values inside nested tuples, each counted as often as it would be visited."""
_RETRIES = 4
"""Python 2's names for classes of today show only in what torch refuses."""
_NEWEST_PROTOCOL = 3
"""From 4 on every pickle begins with an instruction that torch's reader lacks."""
_PICKLES = 4
"""Before torch 1.6: magic number, version, system, content; then a fifth and the raw numbers."""

_HARMLESS_STDLIB = {
    *(f"builtins.{t.__name__}" for t in (bool, bytes, float, int, list, object, str, tuple)),
    "argparse.Namespace",
    "collections.defaultdict",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
}
_HARMLESS_NUMPY = re.compile(
    r"numpy\.(dtype|ndarray|(_?core)\.multiarray\.(scalar|_reconstruct)|dtypes\.\w+)$"
)
_GREEDY = {"builtins.bytearray"}
"""torch's reader runs these, and a few bytes of a file are enough to fill the memory with them."""


class _Inert:
    """Takes the place of a class named in a pickle: any construction of it does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> Self:
        return object.__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None: ...

    def __setstate__(self, _state: object) -> None: ...


class _InertMapping:
    """As `_Inert`, for subclasses of dict, which the file goes on to fill."""

    def __new__(cls, *_args: object, **_kwargs: object) -> dict:
        return {}


class _RefusedError(Exception):
    """Why a file is not even handed to torch's reader; the end of a sentence."""


def read_pickle(path: Path, *, zipped: bool, again: str = AGAIN, mapped: bool = False) -> object:
    """What a file of `torch.save` holds.

    Lightning checkpoints name classes (callbacks, settings) that the restricted reader refuses;
    those names are bound to an inert class, so they are neither imported nor called. A name that
    belongs to Python itself or that looks like a function is refused: weights have no use for it.

    Args:
        zipped: the file is a zip archive, as torch writes since 1.6.
        again: a sentence on how to get the file anew.
        mapped: let tensors of an archive lie in the file until they are looked at.

    Raises:
        CheckpointError: damaged, unsafe, or made to exhaust whoever reads it.
    """
    try:
        names = _look_through(path, zipped)
    except _RefusedError as reason:
        raise CheckpointError(
            f"{path.name} was not opened: {reason}. Nothing was executed. {_source(again)}"
        ) from None
    except Exception as error:  # zipfile and pickletools raise a dozen kinds on damaged files
        raise _unreadable(path, None, error, again) from error
    stubs = {name: _stub(name) for name in names if _is_plain_class(name)}
    for _ in range(_RETRIES):
        try:
            return _load(path, list(stubs.values()), mapped=mapped and zipped)
        except Exception as error:  # the reader raises a dozen kinds on damaged or hostile files
            name = _refused_global(str(error))
            if not name or name in stubs or not _is_plain_class(name):
                raise _unreadable(path, name, error, again) from error
            stubs[name] = _stub(name)
    raise _unreadable(path, name, ValueError("it names too many classes"), again)


def _look_through(path: Path, zipped: bool) -> set[str]:
    """Names that the pickles in a file ask for, from its instructions alone."""
    if zipped:
        return _look_through_archive(path)
    if tarfile.is_tarfile(path):  # of torch before 0.2, whose reader writes to the disk
        raise _RefusedError("it is an archive of a PyTorch that nobody uses any more")
    names: set[str] = set()
    with path.open("rb") as file:
        for _ in range(_PICKLES):
            names |= _names_in(file)
            if not file.peek(1):
                break
    return names


def _look_through_archive(path: Path) -> set[str]:
    size = path.stat().st_size
    names: set[str] = set()
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        if is_program(archive):
            raise _RefusedError(
                "it is a TorchScript program, which could run anything that torch can do. Weights "
                "alone are needed: the state_dict() of the model in it"
            )
        if sum(info.file_size for info in infos) > size:
            raise _RefusedError("it unpacks to more than its own size, which PyTorch never writes")
        for info in infos:
            if info.filename.endswith(".pkl"):
                with archive.open(info) as file:
                    names |= _names_in(file)
    return names


def is_program(archive: zipfile.ZipFile) -> bool:
    """Whether an archive is TorchScript: code that brings its weights along."""
    return any(n.endswith("/constants.pkl") or "/code/" in n for n in archive.namelist())


def _names_in(file: IO[bytes]) -> set[str]:
    """Names one pickle asks for. It is followed without building anything."""
    names: set[str] = set()
    counted, classes = 0, 0
    machine = _Machine()
    for number, (code, argument, _) in enumerate(pickletools.genops(file)):
        if number >= _MOST_INSTRUCTIONS:
            raise _RefusedError(f"it has more than {_MOST_INSTRUCTIONS} instructions")
        machine.follow(code, argument)
        if code.name == "PROTO" and (argument or 0) > _NEWEST_PROTOCOL:
            raise _RefusedError(
                f"it is a pickle of protocol {argument}, which PyTorch's safe reader cannot follow "
                "(torch.save by itself writes protocol 2)"
            )
        if code.name != "GLOBAL":
            continue
        counted += 1
        name = str(argument).replace(" ", ".", 1)
        if name in _GREEDY or name == "__builtin__.bytearray":
            raise _RefusedError(f"it asks for `{name}`, which is not part of any weights")
        if name not in names:
            names.add(name)
            classes += _is_plain_class(name)
        if counted > _MOST_NAMES or classes > _MOST_CLASSES:
            raise _RefusedError("it names more classes and functions than any file of weights")
    return names


class _Machine:
    """Follows a pickle's stack to know how deep its tuples go: hashing one visits all inside."""

    def __init__(self) -> None:
        self.stack: list[int | None] = []
        """Values inside each item; None for a mark."""
        self.memo: dict[Any, int] = {}

    def follow(self, code: pickletools.OpcodeInfo, argument: Any) -> None:
        name = code.name
        if name == "MARK":
            self.stack.append(None)
        elif name in {"PUT", "BINPUT", "LONG_BINPUT"}:
            self.memo[argument] = self.stack[-1] or 1
        elif name in {"GET", "BINGET", "LONG_BINGET"}:
            self.stack.append(self.memo.get(argument, 1))
        else:
            inside = self._pop(code.stack_before)
            whole = 1 + inside if name.startswith(("TUPLE", "REDUCE", "NEWOBJ")) else 1
            if whole > _MOST_NESTED:
                raise _RefusedError("it nests values in one another without end")
            self.stack.extend(whole for _ in code.stack_after)

    def _pop(self, before: list[pickletools.StackObject]) -> int:
        """Take what an instruction takes; returns the values inside all of it."""
        taken, single = 0, len(before)
        if pickletools.markobject in before:
            single = before.index(pickletools.markobject)
            while (item := self.stack.pop()) is not None:
                taken += item
        for _ in range(single):
            taken += self.stack.pop() or 0
        return taken


def _load(path: Path, stubs: list[type], *, mapped: bool) -> object:
    # torch before 2.5 has no `safe_globals`; there only checkpoints without classes can be read.
    allowed = torch.serialization.safe_globals([*stubs]) if stubs else nullcontext()
    with allowed, path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles of a program other than torch.save
        # Mapping spares gigabytes of optimiser state. It needs the path, whose suffix torch would
        # then believe.
        mapped = mapped and path.suffix != ".safetensors"
        source = str(path) if mapped else file
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)


def _refused_global(message: str) -> str | None:
    """The full name that torch's restricted reader refused, out of its error message."""
    found = re.search(r"(?:GLOBAL|global) ([\w.]+)", message)
    if not found:
        return None
    return found[1] if "." in found[1] else f"builtins.{found[1]}"


def _stub(name: str) -> type:
    """An inert class that the restricted reader takes for the class called `name`."""
    module, _, last = name.rpartition(".")
    base = _InertMapping if last.lower().endswith("dict") else _Inert
    return type(last, (base,), {"__module__": module, "__qualname__": last})


def _source(again: str) -> str:
    if again != AGAIN:
        return again
    return "Get the file from its original source, preferably as safetensors."


def _unreadable(path: Path, name: str | None, error: Exception, again: str) -> CheckpointError:
    if name:
        return CheckpointError(
            f"{path.name} was not opened: it asks to run `{shorten(name)}`, which is not part of "
            f"any weights. Nothing was executed. {_source(again)}"
        )
    # torch puts a page of advice around its reason.
    text = str(error).split("WeightsUnpickler error:")[-1].strip()
    reason = text.splitlines()[0] if text else type(error).__name__
    return CheckpointError(
        f"{path.name} cannot be read as PyTorch weights ({shorten(reason, 160)}). It is probably "
        f"incomplete or damaged. {again}"
    )


def _is_plain_class(name: str) -> bool:
    """Whether a global may be stubbed: a class of some package, not of Python or torch itself.

    Stubs are harmless whatever they are called. Functions are refused all the same, so that a
    file built to run one is reported as what it is.
    """
    if name in _HARMLESS_STDLIB or _HARMLESS_NUMPY.match(name):
        return True
    if not re.fullmatch(r"\w+(\.\w+)+", name):
        return False
    top, last = name.split(".")[0], name.rsplit(".", 1)[-1]
    if name.startswith("torch.optim.") and last[:1].isupper():
        return True
    # Training scripts save their own callbacks as classes of "__main__".
    foreign = top == "__main__" or top not in {*sys.stdlib_module_names, "torch", "numpy"}
    return foreign and last.lstrip("_")[:1].isupper()
