"""What arms need before they can be trained and no stage exports as it is needed."""

import torch
from facewright.benchmarks._arms import MADE, SHELF, SHELF_PEOPLE, UNASSOCIATED, Places
from facewright.benchmarks._flipnet_sampling import Flipnet
from facewright.core.errors import FacewrightError
from facewright.core.images import Picture, write_picture
from facewright.training.data.opening import open_source
from facewright.training.methods.vre import load_embedder
from facewright.training.settings.data_sections import WorldData

STEPS = 15
"""Of DDIM, for every picture of the shelf."""
BATCH = 16
FIRST_SEED = 9000
"""Of the noise, one seed for each batch of pictures."""
_VQ = "$runs/vre_lq_nano/export/vq_lq.safetensors"


def prepare(places: Places, needs: set[str], say=lambda text: None) -> None:
    """Make what the runner makes itself, and see that everything else is there.

    Raises:
        FacewrightError: something is missing; says which command makes it.
    """
    wanted = needs | ({_VQ} if UNASSOCIATED in needs else set())
    missing = [n for n in sorted(wanted & MADE.keys()) if not places.path(n).is_file()]
    if missing:
        lines = "\n".join(f"  {places.path(n)}: {MADE[n]}" for n in missing)
        raise FacewrightError(f"These arms go on from runs that are not there yet:\n{lines}")
    if UNASSOCIATED in needs:
        unassociated(places)
    if SHELF in needs:
        shelf(places, say)


def unassociated(places: Places) -> None:
    """Embedder and codebook of vre-lq, which never saw the good branch, with the projection that
    the base was trained to listen to: all that is missing is the association.

    A projection of its own would be fresh beside a trained one, which is another difference.
    """
    path = places.path(UNASSOCIATED)
    if path.is_file():
        return
    embedder = load_embedder(places.path(_VQ))
    listened_to = load_embedder(places.weights / "nano_vre.safetensors")
    embedder.embedding_change.load_state_dict(listened_to.embedding_change.state_dict())
    path.parent.mkdir(parents=True, exist_ok=True)
    embedder.save(path, trained=False)


@torch.no_grad()
def shelf(places: Places, say=lambda text: None) -> None:
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
