"""Draw the pictures that the demos restore: `python -m facewright.workflows.demo_picture`.

Rendered people, and the same pictures after damage. The faces of the group are about as large as
the 128-pixel crops of the nano models, so nothing is lost by cutting them out. The single face has
the 512 pixels that published degradations are meant for; its damage is what the nano models know
as `severe` at their own size.
"""

from pathlib import Path

from torch import Tensor

from ..core.data.faces3d import photos
from ..core.data.scenes import group_scene
from ..core.degradation import Degradation
from ..core.demo import FACE_GT, FACE_LQ, GROUP_GT, GROUP_LQ
from ..headless.images import Picture, write_picture

SCENE_SEED = 20
DAMAGE_SEED = 1
PEOPLE = 5
WIDTH, HEIGHT = 640, 320
# Nobody the nano models were trained on or measured with.
PERSON_SEED = 2**41 + 7 * 2**20 + 9
FACE_DAMAGE_SEED = 3
FACE_SIZE = 512
FACE_REDUCTION = (24, 24)


def main(scene: int = SCENE_SEED, damage: int = DAMAGE_SEED) -> list[Path]:
    """Write all pictures; the same files every time."""
    group = group_scene(scene, PEOPLE, width=WIDTH, height=HEIGHT, supersample=2).pixels[None]
    _write(group, GROUP_GT)
    _write(Degradation.preset("moderate")(group, seed=[damage])[0], GROUP_LQ)
    face = photos(PERSON_SEED, PERSON_SEED, FACE_SIZE, aligned=False, supersample=2).pixels
    _write(face, FACE_GT)
    harder = Degradation.preset("severe", scale=FACE_REDUCTION)
    _write(harder(face, seed=[FACE_DAMAGE_SEED])[0], FACE_LQ)
    return [GROUP_GT, GROUP_LQ, FACE_GT, FACE_LQ]


def _write(pixels: Tensor, path: Path) -> None:
    write_picture(path, pixels[0], Picture(pixels[0]))


if __name__ == "__main__":
    main()
