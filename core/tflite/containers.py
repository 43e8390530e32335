"""Files from the disk: a single `.tflite`, or several in a `.task`, which is a zip archive."""

import os
import zipfile
from pathlib import Path

from ..checkpoint.files import check_is_a_file
from ..errors import CheckpointError, shorten
from ..files.confined import is_plain

_MOST_BYTES = 128 * 2**20
"""Of a file; the largest that MediaPipe offers for faces has 4 MB."""
_MOST_MEMBERS = 64
_SLACK = 4
"""Times its own size that an archive may unpack to: weights hardly shrink."""

_AGAIN = "Download it again from its source."


def read_tflite(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a `.tflite` file, for `load_tflite`.

    Raises:
        CheckpointError: it is missing, empty, a web page or far too large.
    """
    path = Path(path)
    check_is_a_file(path, _AGAIN)
    _check_size(path)
    return path.read_bytes()


def read_task(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """The members of a MediaPipe `.task` file by name; nothing is written anywhere.

    Raises:
        CheckpointError: missing, no archive, damaged, or made to exhaust whoever unpacks it.
    """
    path = Path(path)
    name = shorten(path.name)
    check_is_a_file(path, _AGAIN)
    if not zipfile.is_zipfile(path):  # not told by its first bytes: some stand before the archive
        raise CheckpointError(
            f"{name} is no .task file of MediaPipe, which is a zip archive. {_AGAIN}"
        )
    _check_size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _members(archive, name, _SLACK * path.stat().st_size + 2**20)
    except CheckpointError:
        raise
    except Exception as error:  # zipfile raises a dozen kinds on damaged files
        raise CheckpointError(
            f"{name} is a damaged archive ({shorten(error, 160)}). {_AGAIN}"
        ) from error


def _members(archive: zipfile.ZipFile, name: str, room: int) -> dict[str, bytes]:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > _MOST_MEMBERS or sum(info.file_size for info in infos) > room:
        raise CheckpointError(
            f"{name} unpacks to {len(infos)} files of {sum(i.file_size for i in infos)} bytes; "
            f"at most {_MOST_MEMBERS} files and {room} bytes are expected of it. {_AGAIN}"
        )
    members: dict[str, bytes] = {}
    for info in infos:
        if not is_plain(info.filename) or info.filename in members:
            raise CheckpointError(
                f"{name} holds a file called {shorten(info.filename)}, whose name leads elsewhere "
                f"or stands there twice. {_AGAIN}"
            )
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"{name} holds {shorten(info.filename)} in a compression that MediaPipe never "
                f"uses. {_AGAIN}"
            )
        members[info.filename] = archive.read(info)  # no more than `file_size`, and its CRC checked
    return members


def _check_size(path: Path) -> None:
    size = path.stat().st_size
    if size > _MOST_BYTES:
        raise CheckpointError(
            f"{shorten(path.name)} has {size / 2**20:.0f} MB; a model of MediaPipe has a few. "
            "Check that it is the right file."
        )
