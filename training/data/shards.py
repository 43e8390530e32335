"""Photos in tar shards after WebDataset's convention, each read by its place in the tar.

Members that share a name up to the first dot of its last part are one sample (WebDataset's
`base_plus_ext`). A folder that is packed as it is gives the same photos, people, split, order and
digest as the folder.

Own code, because sample n of a run may be any member of any shard: the webdataset package reads
shards as streams alone (its former indexed reader `wids` cut names at 100 bytes, stopped at a cut
tar, and fetched URLs by a shell command).
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ...core.geometry.square import centred_square
from ..settings.data_sections import ShardsData
from ..settings.strict import ConfigError
from .cutting import random_square
from .damage import UnreadableError, inside
from .files import AGAIN, SUFFIXES, decode_picture, digest_of, to_tensor
from .shard_files import ShardFile, shard_files
from .sources import Photo, Photos, grouped, split_photos, whole_picture
from .tar_index import Member, read_index


@dataclass
class ShardSample:
    """The members of one photo."""

    shard: Path
    picture: Member
    lq: Member | None = None
    caption: Member | None = None
    key: str = ""
    """Name of the photo, another for every photo of the set."""

    @property
    def path(self) -> str:
        """Its place in a folder, as far as a shard keeps it."""
        return _under(self.stem, self.picture.name)

    @property
    def stem(self) -> str:
        """The key without the number that tells one person's pictures apart."""
        return re.sub(rf"{AGAIN}[0-9]+$", "", self.key)


@dataclass
class ShardPhotos(Photos):
    """Pictures in shards, cut to a centred square and resized, or at random without resizing."""

    samples: list[ShardSample]
    people: list[int]
    size: int
    captions: bool
    damaged: dict[str, str] = field(repr=False)
    crop: bool = False

    def __post_init__(self) -> None:
        self.by_identity = grouped(self.people)

    def name(self, index: int) -> str:
        return self.samples[index].key

    def load(self, index: int, seed: int = 0) -> Photo:
        sample = self.samples[index]
        with inside(sample.shard.parent):
            members = [member for member in (sample.picture, sample.lq) if member]
            images = [_picture(sample.shard, member) for member in members]
            caption = _caption(sample.shard, sample.caption) if sample.caption else ""
        pixels, *lq = self._cut(images, seed, f"{sample.shard}: {sample.picture.name}")
        box = whole_picture(self.size)
        return Photo(pixels, box, self.people[index], lq[0] if lq else None, caption)

    def _cut(self, images: list[Image.Image], seed: int, name: str) -> list[Tensor]:
        if self.crop:
            rng = np.random.default_rng([4, seed])  # as pairs in folders
            return random_square(images, self.size, rng, name=name)
        return [to_tensor(centred_square(image, self.size)) for image in images]

    def digest(self) -> str:
        members = ((s.key, m) for s in self.samples for m in (s.picture, s.lq, s.caption) if m)
        return digest_of((_under(key, m.name), m.size) for key, m in members)

    def damage(self) -> dict[str, str]:
        return self.damaged


def _picture(shard: Path, member: Member) -> Image.Image:
    return decode_picture(_content(shard, member), f"{shard}: {member.name}")


def _content(shard: Path, member: Member) -> bytes:
    # Opened anew each time: no handles that cross into worker processes or run out.
    try:
        with shard.open("rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
    except OSError as error:
        raise UnreadableError(shard, error) from error
    if len(data) < member.size:
        raise UnreadableError(f"{shard}: {member.name}", "the shard has become shorter")
    return data


def _caption(shard: Path, member: Member) -> str:
    try:
        return _content(shard, member).decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UnreadableError(f"{shard}: {member.name}", f"not in UTF-8 ({error})") from error


def open_shards(config: ShardsData) -> tuple[ShardPhotos, ShardPhotos]:
    """Training and validation photographs; no person is in both.

    Raises:
        ConfigError: a shard is not there or compressed; fewer than two people; no captions, or a
            picture without a degraded one, where the config asks for them.
    """
    patterns = (config.shards,) if isinstance(config.shards, str) else config.shards
    samples, damaged = _read_all(shard_files(patterns, config.cache), config)
    groups = _groups(samples, config.identity)
    if len(people := set(groups)) < 2:
        raise ConfigError(
            f"The shards {', '.join(patterns)} hold {len(samples)} pictures of {len(people)} "
            "people, at least 2 are needed. A picture's name goes on after its first dot with "
            f"nothing but {', '.join(SUFFIXES)}"
            + ("; with `identity: parent` it begins with the person's folder." * (len(people) == 1))
            + "".join(f" {shard}: {why}." for shard, why in list(damaged.items())[:3])
        )

    def split(chosen: list[int], people: list[int]) -> ShardPhotos:
        photos = [samples[i] for i in chosen]
        return ShardPhotos(photos, people, config.size, config.captions, damaged, config.crop)

    return split_photos(groups, config.held_out, split)


def _groups(samples: list[ShardSample], identity: str) -> list[str]:
    """What the person of each is called: as in a folder, the parent's path, or the own of the first
    picture of the name."""
    if identity == "parent":
        return [posixpath.dirname(sample.key) or "." for sample in samples]
    first: dict[str, str] = {}
    for sample in samples:
        first.setdefault(sample.stem, sample.path)
    return [first[sample.stem] for sample in samples]


def _read_all(
    shards: list[ShardFile], config: ShardsData
) -> tuple[list[ShardSample], dict[str, str]]:
    """All samples in the order a folder would have, and what is damaged."""
    found: dict[str, list[tuple[ShardFile, ShardSample]]] = defaultdict(list)
    damaged: dict[str, str] = {}
    for shard in shards:
        try:
            index = read_index(shard.path, config.cache)
        except OSError as error:
            damaged[str(shard.path)] = str(error)
            continue
        if index.damage:
            damaged[str(shard.path)] = index.damage
        for key, sample in _samples(shard.path, index.members, damaged):
            if config.lq and sample.lq is None:
                _explain_missing_lq(sample, key, bool(index.damage), damaged)
                continue
            found[key].append((shard, sample))
    everything = list(_told_apart(found))
    if config.captions and everything and not any(s.caption for s in everything):
        raise ConfigError(
            f"`captions` is true, and none of the {len(everything)} pictures has a text beside it: "
            f"a member {everything[0].key}.txt was expected, for example. Pack captions with the "
            "pictures, or take `captions` out of the config to train without text."
        )
    for sample in everything:
        sample.lq = sample.lq if config.lq else None
        sample.caption = sample.caption if config.captions else None
    return sorted(everything, key=lambda s: s.path.split("/")), damaged


def _samples(
    shard: Path, members: list[Member], damaged: dict[str, str]
) -> Iterator[tuple[str, ShardSample]]:
    """Members of a shard put together by the name up to the first dot of its last part."""
    parts: dict[str, dict[str, Member]] = defaultdict(dict)
    for member in members:
        match = re.fullmatch(r"(?:\./)*((?:.*/)?[^/.]+)\.([^/]+)", member.name)
        kind = _kind(match[2].lower()) if match else None
        if match is None or not kind:
            continue
        other = parts[match[1]].get(kind)
        if other and other.name != member.name:
            why = f"shares its name up to the first dot with {other.name}, which is taken"
            damaged[f"{shard}: {member.name}"] = why
        else:  # of two members of one name a tar means the last
            parts[match[1]][kind] = member
    for key, found in parts.items():
        if "picture" in found:
            yield key, ShardSample(shard, found["picture"], found.get("lq"), found.get("caption"))


def _kind(ending: str) -> str | None:
    """Which part of a sample has a name with this ending; other members are of no use here."""
    if f".{ending}" in SUFFIXES:
        return "picture"
    if ending.startswith("lq.") and ending[2:] in SUFFIXES:
        return "lq"
    return "caption" if ending == "txt" else None


def _told_apart(found: dict[str, list[tuple[ShardFile, ShardSample]]]) -> Iterator[ShardSample]:
    """Samples with their keys; where shards number theirs alike, the shard's name is part of it."""
    for key, entries in found.items():
        folder, base = posixpath.split(key)
        names = [shard.name for shard, _ in entries]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"Two shards are called {names[0]}, and both have {key}. Rename one of them."
            )
        for shard, sample in entries:
            # The folder stays in front: it says who that is.
            sample.key = posixpath.join(folder, f"{shard.name}-{base}") if len(entries) > 1 else key
            yield sample


def _explain_missing_lq(
    sample: ShardSample, key: str, in_damaged: bool, damaged: dict[str, str]
) -> None:
    name = f"{sample.shard}: {sample.picture.name}"
    if not in_damaged:
        raise ConfigError(
            f"`lq` is true, and {name} has no degraded picture: a member {key}.lq.png was expected "
            "(or another ending). Pack one with each picture, or set `lq: false` and degrade on "
            "the fly."
        )
    damaged[name] = "its degraded picture is missing"


def _under(key: str, name: str) -> str:
    """A member's name where its sample is called `key`."""
    return f"{key}.{posixpath.basename(name).partition('.')[2]}"
