"""The section `data:` of a training config: where photographs come from, one model per source."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from ...core.files.writing import expand_path
from .strict import Strict


def _one_or_several(value: Any) -> str:
    return "several[]" if isinstance(value, list | tuple) else "path[]"


def _path_or_entry(value: Any) -> str:
    return "entry[]" if isinstance(value, dict | Strict) else "path[]"


# The kind is told by the value's shape, so that an error names what is wrong with that kind alone;
# brackets keep it out of the key that people read.
_OnePath = Annotated[Path, Tag("path[]")]
Folders = Annotated[
    _OnePath | Annotated[tuple[Path, ...], Field(min_length=1), Tag("several[]")],
    Discriminator(_one_or_several),
]
"""One folder or a list of several."""


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
    """Image files below `folder`, cut to a centred square and resized to `size`.

    Of several folders, such as FFHQ and its retouched version, pictures of the same name show one
    person, who stays on one side of the split; with `identity: parent` each folder has people of
    its own.
    """

    source: Literal["folder"]
    folder: Folders = Field(description="a folder, or a list of several")


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
    crop: bool = Field(
        False,
        description="cut a random square without resizing, as pairs are cut, in place of the whole "
        "picture resized: for real noise and blur",
    )

    @field_validator("shards")
    @classmethod
    def _paths(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        return _expanded(value) if isinstance(value, str) else tuple(map(_expanded, value))

    @property
    def brings_lq(self) -> bool:
        return self.lq


class PairFolders(Strict):
    """One set of pairs: a folder with both sides, or one of good and one of degraded pictures.

    `{folder: data/sidd, rule: sidd, limit: 1000}` or `{hq: data/good, lq: data/bad}`.
    """

    folder: Path | None = Field(None, description="data set as it is downloaded, or HQ/ and LQ/")
    hq: Path | None = Field(None, description="good pictures")
    lq: Path | None = Field(None, description="degraded ones of the same names")
    rule: Literal["auto", "same-name", "dense-haze", "lol", "sidd", "realblur-j", "beside"] = Field(
        "auto", description="how the files of `folder` are called; `facewright pairs` shows it"
    )
    limit: int | None = Field(None, ge=1, description="how many pairs of it, drawn by their names")
    largest: int | None = Field(None, ge=32, description="as for all sets, for this one alone")

    @model_validator(mode="after")
    def _one_way(self) -> "PairFolders":
        if (self.folder is None) == (self.hq is None) or (self.hq is None) != (self.lq is None):
            raise ValueError("give either `folder`, or `hq` and `lq`")
        if self.hq and self.rule not in ("auto", "same-name"):
            raise ValueError(f"rule {self.rule} is for `folder`; `hq` and `lq` hold the same names")
        return self

    @model_serializer(mode="wrap")
    def _shortly(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # As short as before there were more keys: a run that began then can be resumed.
        return {k: v for k, v in plain(self).items() if v not in (None, "auto")}

    @property
    def place(self) -> Path:
        """What the data set is called after."""
        place = self.folder or self.hq
        assert place is not None
        return place


class PairsData(Source):
    """Pairs of good and degraded pictures, cut alike, with the text file beside the good one as
    caption; beside them, if wanted, faces that are degraded on the fly."""

    source: Literal["pairs"]
    folders: tuple[
        Annotated[_OnePath | Annotated[PairFolders, Tag("entry[]")], Discriminator(_path_or_entry)],
        ...,
    ] = Field(
        min_length=1,
        description="each a folder, or {folder: ..., rule: ..., limit: ..., largest: ...}, or "
        "{hq: ..., lq: ...}",
    )
    faces: Folders | None = Field(
        None, description="folder of good faces, or several, drawn as often as pairs"
    )
    faces_limit: int | None = Field(None, ge=2, description="how many of them")
    largest: int | None = Field(
        None,
        ge=32,
        description="resize pairs before the crop, the shorter side to `size` to this; none: crop "
        "without resizing, which keeps noise and blur as they are",
    )
    captions: bool | None = Field(
        None,
        description="true: each pair must have one; none: read those that are there; false: "
        "read none",
    )
    held_out: float = Field(0.02, gt=0, lt=1, description="share of pictures for validation")
    views: Literal[1] = 1
    references: Literal[0] = 0

    @model_validator(mode="after")
    def _room(self) -> "PairsData":
        sets = [entry.largest for entry in self.folders if isinstance(entry, PairFolders)]
        for largest in filter(None, (self.largest, *sets)):
            if largest < self.size:
                raise ValueError(f"largest {largest} is less than size {self.size}")
        return self

    @property
    def brings_lq(self) -> bool:
        return self.faces is None
