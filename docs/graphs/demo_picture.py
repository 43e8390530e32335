"""Draw the pictures that the demos restore: `python -m facewright.docs.graphs.demo_picture`.

Rendered people, and the same pictures after damage. The faces of the groups are about as large as
the 128-pixel crops of the nano models, so nothing is lost by cutting them out. The single face has
the 512 pixels that published degradations are meant for; its damage is what the nano models know
as `severe` at their own size.

Ada and Bo have photographs for albums, besides the group of three in which they stand beside
somebody whom no album knows; Ada also has a damaged picture of her own.
"""

from pathlib import Path

import torch
from torch import Tensor

from ...core import demo
from ...core.degradation import Degradation
from ...core.images import Picture, write_picture
from ...training.world.faces3d import photos
from ...training.world.scenes import group_scene

SCENE_SEED = 20
DAMAGE_SEED = 1
PEOPLE = 5
WIDTH, HEIGHT = 640, 320
# Nobody the nano models were trained on or measured with.
PERSON_SEED = 2**41 + 7 * 2**20 + 9
FACE_DAMAGE_SEED = 3
FACE_SIZE = 512
FACE_REDUCTION = (24, 24)

_NEVER_USED = 2**40 + 2**39 + 2**37
ADA, BO, STRANGER = _NEVER_USED + 19, _NEVER_USED + 12, _NEVER_USED + 37
"""Identity seeds: red hair and moles; grey with glasses; dark hair.

The nano recogniser is sure of each in any light: no two of ten photographs have a cosine below 0.8.
"""
PEOPLE_SEED = 6
PEOPLE_WIDTH = 480
# Poses, expressions and lights that differ, chosen by looking; counted from the identity seed.
ADA_ALBUM = (2, 4, 6, 8)
BO_ALBUM = (1, 3, 5, 6)
ADA_SHOT = 10
ADA_SIZE = 160
ADA_DAMAGE_SEED = 4
PHOTO_SIZE = 256


def main(scene: int = SCENE_SEED, damage: int = DAMAGE_SEED) -> list[Path]:
    """Write all pictures; the same files every time."""
    group = group_scene(scene, PEOPLE, width=WIDTH, height=HEIGHT, supersample=2).pixels[None]
    moderate = Degradation.preset("moderate")
    face = photos(PERSON_SEED, PERSON_SEED, FACE_SIZE, aligned=False, supersample=2).pixels
    harder = Degradation.preset("severe", scale=FACE_REDUCTION)
    three = group_scene(
        PEOPLE_SEED, [ADA, BO, STRANGER], width=PEOPLE_WIDTH, height=HEIGHT, supersample=2
    ).pixels[None]
    ada = _photos(ADA, (ADA_SHOT,), ADA_SIZE)
    written = {
        demo.GROUP_GT: group,
        demo.GROUP_LQ: moderate(group, seed=[damage])[0],
        demo.FACE_GT: face,
        demo.FACE_LQ: harder(face, seed=[FACE_DAMAGE_SEED])[0],
        demo.PEOPLE_GT: three,
        demo.PEOPLE_LQ: moderate(three, seed=[PEOPLE_SEED])[0],
        demo.ADA_GT: ada,
        demo.ADA_LQ: Degradation.preset("severe")(ada, seed=[ADA_DAMAGE_SEED])[0],
        demo.ADA_PHOTOS: _strip(_photos(ADA, ADA_ALBUM)),
        demo.BO_PHOTOS: _strip(_photos(BO, BO_ALBUM)),
    }
    for path, pixels in written.items():
        write_picture(path, pixels[0], Picture(pixels[0]))
    return list(written)


def _photos(person: int, shots: tuple[int, ...], size: int = PHOTO_SIZE) -> Tensor:
    seeds = [person + shot for shot in shots]
    return photos([person] * len(shots), seeds, size, aligned=False, supersample=2).pixels


def _strip(pictures: Tensor) -> Tensor:
    return torch.cat(list(pictures[:, None]), dim=-1)


if __name__ == "__main__":
    main()
