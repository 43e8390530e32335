"""The section `data:` of a training config: where photographs come from, one model per source."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ...core.files.writing import expand_path
from .strict import Strict


class Source(Strict):
    """What all sources have."""

    size: int = Field(512, ge=32, le=2**14, description="pixels")
    workers: int = Field(
        2, ge=0, le=512, description="processes that prepare batches; 0 = this one"
    )
    views: int = Field(1, ge=1, description="photos of one identity that stand together in a batch")
    references: int = Field(0, ge=0, description="other photos of the person with each, at most")
    mirror: bool = Field(
        True, description="flip a half of the training samples left to right, with all they hold"
    )

    @property
    def brings_lq(self) -> bool:
        """Whether every photo comes with its degraded counterpart."""
        return False


class WorldData(Source):
    """Procedurally rendered faces, cached once as uint8 under `cache`."""

    source: Literal["world"]
    cache: Path = Path("runs/world")
    size: int = Field(128, ge=32, le=2**14, description="pixels")
    identities: int = Field(2000, ge=2)
    photos: int = Field(4, ge=1, description="photos of each identity")
    seed: int = Field(1, ge=0, lt=2**20, description="identities and photos come of it")
    held_out: int = Field(64, ge=1, description="identities of the validation split")
    jitter: float = Field(1.0, ge=0, description="error of the alignment; 1 = a good detector's")
    workers: int = Field(0, ge=0, le=512)


class Photographs(Source):
    """What sources of photographs have."""

    held_out: float = Field(0.02, gt=0, lt=1, description="share of identities for validation")
    identity: Literal["file", "parent"] = Field(
        "file",
        description="what tells two people apart: the file or the folder it lies in. `references` "
        "need the folder",
    )
    captions: bool = Field(False, description="read the text file beside each picture")


class FolderData(Photographs):
    """Image files below `folder`, cut to a centred square and resized to `size`."""

    source: Literal["folder"]
    folder: Path


def _expanded(path: str) -> str:
    return path if "://" in path else str(expand_path(path))


class ShardsData(Photographs):
    """Pictures in WebDataset tar shards, local or at any URL that fsspec reads, cut as in a folder.

    Members that share a name up to its first dot belong together: `ada/001.jpg`, its caption
    `ada/001.txt`, its degraded counterpart `ada/001.lq.png`. Who is on a picture stands in its
    name, not in a JSON member: then the list of members alone tells it, a folder packed as it is
    keeps its people, and `identity` means the same as for a folder.
    """

    source: Literal["shards"]
    shards: str | Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="data/ffhq-{000000..000069}.tar, data/*.tar, s3://bucket/ffhq-{00..69}.tar"
    )
    cache: Path = Field(
        Path("runs/shards"),
        description="folder of what the shards contain and of local copies of those from a URL",
    )
    lq: bool = Field(False, description="every picture has an .lq member: take it, degrade nothing")

    @field_validator("shards")
    @classmethod
    def _paths(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return _expanded(value) if isinstance(value, str) else tuple(map(_expanded, value))

    @property
    def brings_lq(self) -> bool:
        return self.lq


class PairFolders(Strict):
    """Good and degraded pictures of the same names in two folders."""

    hq: Path
    lq: Path


class PairsData(Source):
    """Pairs of good and degraded pictures, cut alike, with the text file beside the good one as
    caption; beside them, if wanted, faces that are degraded on the fly."""

    source: Literal["pairs"]
    folders: tuple[Path | PairFolders, ...] = Field(
        min_length=1, description="each with HQ/<name> and LQ/<name>, or {hq: ..., lq: ...}"
    )
    faces: Path | None = Field(None, description="folder of good faces, drawn as often as pairs")
    faces_limit: int | None = Field(None, ge=2, description="how many of them")
    largest: int = Field(768, ge=32, description="pairs: shorter side before the crop, at most")
    held_out: float = Field(0.02, gt=0, lt=1, description="share of pictures for validation")
    views: Literal[1] = 1
    references: Literal[0] = 0

    @model_validator(mode="after")
    def _room(self) -> "PairsData":
        if self.largest < self.size:
            raise ValueError(f"largest {self.largest} is less than size {self.size}")
        return self

    @property
    def brings_lq(self) -> bool:
        return self.faces is None
