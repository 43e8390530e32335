"""Whether a file is a picture or a video, told from its first bytes: names say what they like."""

from pathlib import Path

_HEAD = 1024
_PICTURES = (
    b"\x89PNG",
    b"\xff\xd8\xff",  # JPEG
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, and raw formats made of it
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\0\0\0\x0cjP  ",  # JPEG 2000
    b"\xff\x4f\xff\x51",
    b"\xff\x0a",  # JPEG XL
    b"\0\0\0\x0cJXL ",
    b"\x76\x2f\x31\x01",  # OpenEXR
)
_VIDEOS = (
    b"\x1a\x45\xdf\xa3",  # Matroska, WebM
    b"\0\0\x01\xba",  # MPEG
    b"\0\0\x01\xb3",
    b"FLV\x01",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # WMV
    b"OggS",
    b"\x06\x0e\x2b\x34",  # MXF
    b"\x1f\x07\0",  # DV
    b"GIF8",
)
_PICTURE_BRANDS = {b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}


def is_picture(path: Path) -> bool:
    """Whether it begins as a picture does.

    Raises:
        OSError: it cannot be read.
    """
    head = _head(path)
    return (
        head.startswith(_PICTURES)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[4:8] == b"ftyp" and head[8:12] in _PICTURE_BRANDS)
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS)
        or (
            head[:1] == b"P"
            and head[1:2] in b"1234567fF"
            and head[2:3] in b" \t\r\n"
            and _netpbm(head)
        )
        or _tga(head)
    )


def is_video(path: Path) -> bool:
    """Whether it begins as a video does. Playlists, which name other files, do not count.

    Raises:
        OSError: it cannot be read.
    """
    head = _head(path)
    return (
        head.startswith(_VIDEOS)
        or (head[4:8] == b"ftyp" and head[8:12] not in _PICTURE_BRANDS)
        or head[4:8] in {b"moov", b"mdat", b"wide", b"free", b"skip"}
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or any(
            len(head) > k + 376 and head[k::step][:2] == b"GG" for k, step in ((0, 188), (4, 192))
        )
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _netpbm(head: bytes) -> bool:
    """A number, the width, comes next, perhaps after comments."""
    lines = [line for line in head[2:].split(b"\n") if not line.lstrip().startswith(b"#")]
    return bool(lines) and b"".join(lines).lstrip()[:1].isdigit()


def _tga(head: bytes) -> bool:
    """Targa begins with no mark; its header leaves few numbers open."""
    return (
        len(head) >= 18
        and head[1] in (0, 1)
        and head[2] in (1, 2, 3, 9, 10, 11)
        and head[16] in (1, 8, 15, 16, 24, 32)
        and not head[17] & 0b11000000
        and head[12:14] != b"\0\0" != head[14:16]
    )
