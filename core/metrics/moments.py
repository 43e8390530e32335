"""Files of statistics: mean and covariance of the features of a whole set of pictures.

Written as .npz with `mu` and `sigma`, as clean-fid and pytorch-fid name them, and beside these how
the features were made. Read are also theirs, and the .pth files of BasicSR's and VQFR's scripts
(`mean`, `cov`), whose arrays are taken out without running anything.
"""

import codecs
import io
import math
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Never

import numpy as np
import torch

from ..checkpoint.files import read_content
from ..errors import FacewrightError, shorten
from ..files.writing import written_whole
from .distribution import FrechetStatistics

FORMAT = "facewright-statistics-1"
_LONGEST = 16384
"""Features of the largest network that is measured with, with room to spare."""
_MOST = 8 * _LONGEST**2 + 2**20
_FLOATS = ("f4", "f8")


@dataclass(frozen=True)
class Moments:
    """Statistics of a set, and where they come from."""

    statistics: FrechetStatistics
    convention: str | None
    """Which features, see `Metric.convention`; None where a file does not say."""
    count: int | None
    """Pictures; None where a file does not say."""


def save_moments(path: Path, statistics: FrechetStatistics, convention: str) -> None:
    """Write statistics, so that the file is whole or not there.

    Raises:
        FacewrightError: of fewer than 2 pictures.
        OSError: the folder cannot be written.
    """
    arrays: dict[str, Any] = {
        "mu": statistics.mean.numpy(),
        "sigma": statistics.covariance.numpy(),
        "count": np.array(statistics.count),
        "convention": np.array(convention),
        "format": np.array(FORMAT),
    }
    with written_whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def load_moments(path: Path) -> Moments:
    """Read statistics of any of the three kinds.

    Raises:
        FacewrightError: missing, damaged, none of them, or numbers that cannot be statistics.
    """
    if not path.is_file():
        raise FacewrightError(f"There is no file of statistics {path}.")
    try:
        arrays = _of_npz(path) if _is_npz(path) else _of_torch(path)
        for ours, theirs in (("mu", "mean"), ("sigma", "cov")):
            if ours not in arrays and theirs not in arrays:
                raise FacewrightError(f"it has neither `{ours}` nor `{theirs}`")
        mean, covariance = (
            _numbers(arrays.get(a, arrays.get(b))) for a, b in (("mu", "mean"), ("sigma", "cov"))
        )
        count = _count(arrays.get("count"))
        statistics = FrechetStatistics.of_moments(mean.flatten(), covariance, count)
    except Exception as error:  # readers raise a dozen kinds on damaged or hostile files
        raise FacewrightError(
            f"{path} holds no statistics that can be used: {shorten(str(error), 300)} Make such a "
            "file with `facewright stats DIR -o FILE.npz`, or name a folder of pictures."
        ) from error
    convention = arrays.get("convention")
    if convention is None and "cov" in arrays:  # only BasicSR's scripts write these
        convention = "basicsr"
    return Moments(statistics, None if convention is None else str(convention), count)


def _numbers(given: Any) -> torch.Tensor:
    if isinstance(given, torch.Tensor):
        return given.detach().double()
    return torch.from_numpy(np.array(given, np.float64))  # of any byte order, and our own


def _count(given: Any) -> int | None:
    if given is None:
        return None
    number = float(np.asarray(given).reshape(-1)[0])
    if not (math.isfinite(number) and number == int(number)):
        raise FacewrightError(f"it says that it is of {number} pictures.")
    return int(number)


def _is_npz(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith(".npy") for name in archive.namelist())


_WANTED = ("mu", "sigma", "mean", "cov", "count", "convention")


def _of_npz(path: Path) -> dict[str, Any]:
    found = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name not in _WANTED:
                continue
            if info.file_size > _MOST:
                raise FacewrightError(f"`{name}` is too large for any statistics.")
            with archive.open(info) as file:
                found[name] = _array(file, info.file_size)
    return found


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """One .npy of an archive: numbers or text, of no more than it has bytes for."""
    content = file.read(_MOST)
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise FacewrightError(f"it has an array of NumPy's format {version}.")
    header = np.lib.format.read_array_header_1_0
    shape, fortran, kind = (header if version == (1, 0) else np.lib.format.read_array_header_2_0)(
        stream
    )
    if kind.kind not in "fiuU" or math.prod(shape) * kind.itemsize > size:
        raise FacewrightError(f"it has an array of {shorten(str(kind))} {shorten(str(shape))}.")
    values = np.frombuffer(content, kind, math.prod(shape), stream.tell())
    return values.reshape(shape, order="F" if fortran else "C")


def _of_torch(path: Path) -> Mapping[str, Any]:
    # Looks the file through first: what it asks for, and whether it would allocate without end.
    content = read_content(path, again="Get it again from where it was published.")
    if isinstance(content, dict) and any(isinstance(v, torch.Tensor) for v in content.values()):
        return {str(k): v for k, v in content.items() if k in _WANTED}
    with path.open("rb") as file:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
                content = _Arrays(io.BytesIO(archive.read(name))).load()
        else:
            # Before torch 1.6: magic number, version and system come first.
            for _ in range(4):
                content = _Arrays(file).load()
    if not isinstance(content, dict):
        raise FacewrightError("it holds no named arrays.")
    return {
        str(k): v.array() if isinstance(v, _Stored) else v
        for k, v in content.items()
        if k in _WANTED
    }


class _Stored:
    """An array as a pickle tells of it, and not made by it."""

    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        _, shape, kind, fortran, content = self.state
        if (
            not isinstance(kind, _Kind)
            or kind.name not in _FLOATS
            or not isinstance(content, bytes)
        ):
            raise FacewrightError("it has an array of something else than numbers.")
        values = np.frombuffer(content, f"{kind.order}{kind.name}")
        return values.reshape(tuple(int(n) for n in shape), order="F" if fortran else "C")


class _Kind:
    """NumPy's dtype as a pickle tells of it."""

    order = "<"

    def __init__(self, name: Any = None, *_rest: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        self.order = ">" if state[1] == ">" else "<"


def _bytes(text: Any, encoding: Any = "latin1") -> bytes:
    """Of bytes in old pickles, which are spelled as text."""
    if encoding != "latin1" or not isinstance(text, str):
        raise FacewrightError("it has bytes in an unknown spelling.")
    return codecs.latin_1_encode(text)[0]


def _stored(*_about: Any) -> _Stored:
    return _Stored()


class _Arrays(pickle.Unpickler):
    """Takes arrays of numbers out of a pickle; whatever else it asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        numpy = module.split(".")[0] == "numpy"
        if numpy and name == "_reconstruct":
            return _stored
        if numpy and name in ("ndarray", "dtype"):
            return _Kind
        if (module, name) == ("_codecs", "encode"):
            return _bytes
        raise FacewrightError(f"it asks for {shorten(f'{module}.{name}')}, and was not opened.")

    def persistent_load(self, _pid: Any) -> Never:
        raise FacewrightError("it holds tensors, and no arrays.")
