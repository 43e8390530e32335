"""What a file is, told from its first bytes where that can be told: names say what they like."""

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
_SOUNDS = (
    b"fLaC",
    b"ID3",  # MP3
    b"OggS",
    b"#!AMR",
    b"MAC ",  # Monkey's Audio
    b"wvpk",  # WavPack
    b"caff",
    b".snd",
)
_SCENES = ".glb .gltf .obj .mtl .fbx .stl .ply .usd .usda .usdc .usdz .dae .vrm .bvh .splat .spz"
SCENES = frozenset((*_SCENES.split(), ".ksplat"))
"""Suffixes of 3D models, many of which are plain text that begins anyhow."""
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


def is_sound(path: Path) -> bool:
    """Whether it begins as a sound does, or as a video, which may have one.

    Raises:
        OSError: it cannot be read.
    """
    head = _head(path)
    return (
        head.startswith(_SOUNDS)
        or (head[:4] in {b"RIFF", b"RF64"} and head[8:12] == b"WAVE")
        or (head[:4] == b"FORM" and head[8:12] in {b"AIFF", b"AIFC"})
        # MPEG audio and AAC without a container. Layer I would be any text in UTF-16.
        or (head[:1] == b"\xff" and head[1:2] > b"\xdf" and head[1] & 0b110 != 0b110)
        or is_video(path)
    )


def is_scene(path: Path) -> bool:
    """Whether it is a 3D model by its name."""
    return path.suffix.lower() in SCENES


def is_latent(path: Path) -> bool:
    """Whether it begins as safetensors do, as which ComfyUI saves latents.

    Raises:
        OSError: it cannot be read.
    """
    return path.suffix.lower() == ".latent" and _head(path)[8:9] == b"{"


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
