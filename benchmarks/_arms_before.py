"""Make the files that arms start from and that no stage exports as they are needed."""

from collections.abc import Callable

import torch
from facewright.benchmarks._arms import (
    FRESH_FACES,
    FRESH_VRE,
    SHELF,
    SHELF_PEOPLE,
    TRAINED,
    Places,
)
from facewright.benchmarks._flipnet_sampling import Flipnet
from facewright.core.images import Picture, write_picture
from facewright.core.methods.osdface import PromptProjection
from facewright.core.modules.face_encoder import FaceEncoder
from facewright.training.data.opening import open_source
from facewright.training.methods.base import standardise
from facewright.training.methods.flipnet_faces import encoder_within
from facewright.training.methods.vre import load_embedder
from facewright.training.settings.data_sections import WorldData

STEPS = 15
"""Steps of DDIM for every picture of the shelf."""
BATCH = 16
FIRST_SEED = 9000
"""Seed of the first batch's noise; another batch adds the number of its first picture."""


def prepare(places: Places, needs: set[str], say: Callable[[str], None]) -> dict[str, str]:
    """Make what is needed and can be made; the others, and why not."""
    blocked = {}
    for need in sorted(needs - {SHELF}):
        source = (FRESH_VRE | FRESH_FACES)[need]
        if not places.path(source).is_file():
            blocked[need] = f"{places.path(source)} is not there; train {TRAINED[source]} first"
        elif need in FRESH_VRE:
            fresh_vre(places, need)
        else:
            fresh_faces(places, need)
    if SHELF in needs:
        shelf(places, say)
    return blocked


def fresh_vre(places: Places, made: str) -> None:
    """An embedder with an untrained projection, its tokens of rms 1 as a base wants them.

    The base was trained with the projection of the bundled embedder. Beside that, any other is at a
    disadvantage that has nothing to do with association; two such ones are comparable.
    """
    embedder = load_embedder(places.path(FRESH_VRE[made]))
    c = embedder.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        projection = PromptProjection(c.encoder.z_channels, c.proj_hidden, c.proj_out)
    standardise(projection, embedder.quantize.embedding.weight)
    embedder.embedding_change.load_state_dict(projection.state_dict())
    places.path(made).parent.mkdir(parents=True, exist_ok=True)
    embedder.save(places.path(made), trained=False)


def fresh_faces(places: Places, made: str) -> None:
    """A face encoder with an untrained adapter, the same one for all."""
    encoder = encoder_within(places.path(FRESH_FACES[made]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adapter = FaceEncoder(encoder.config).adapter
    encoder.adapter.load_state_dict(adapter.state_dict())
    places.path(made).parent.mkdir(parents=True, exist_ok=True)
    encoder.save(places.path(made), trained=False)


@torch.no_grad()
def shelf(places: Places, say: Callable[[str], None]) -> None:
    """One picture by the bundled degradation mode of each training photo, as `facewright
    synthesize` would name it and training's `off_shelf` reads it. What is there is not made again.
    """
    folder = places.path(SHELF)
    data = WorldData(source="world", cache=places.runs / "world", identities=SHELF_PEOPLE)
    photos, _ = open_source(data)
    numbers = [i for group in photos.by_identity for i in group]
    folder.mkdir(parents=True, exist_ok=True)
    flipnet = None
    for start in range(0, len(numbers), BATCH):
        some = numbers[start : start + BATCH]
        paths = [folder / f"{photos.name(i)}_1.png" for i in some]
        if all(path.is_file() for path in paths):
            continue
        flipnet = flipnet or Flipnet.bundled("degrade", STEPS)
        good = torch.stack([photos.load(i).pixels for i in some]).float() / 255
        for path, picture in zip(paths, flipnet.batch(good, FIRST_SEED + start, 1.0), strict=True):
            write_picture(path, picture, Picture(picture))
        say(f"shelf: {start + len(some)} of {len(numbers)} pictures")
