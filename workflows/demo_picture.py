"""Draw the picture that the demo restores: `python -m facewright.workflows.demo_picture`.

A group of rendered people, and the same picture after moderate damage. Faces are about as large as
the 128-pixel crops of the nano models, so nothing is lost by cutting them out.
"""

from pathlib import Path

from ..core.data.scenes import group_scene
from ..core.degradation import Degradation
from ..core.demo import GROUP_GT, GROUP_LQ
from ..headless.images import Picture, write_picture

SCENE_SEED = 20
DAMAGE_SEED = 1
PEOPLE = 5
WIDTH, HEIGHT = 640, 320


def main(scene: int = SCENE_SEED, damage: int = DAMAGE_SEED) -> list[Path]:
    """Write both pictures; the same files every time."""
    gt = group_scene(scene, PEOPLE, width=WIDTH, height=HEIGHT, supersample=2).pixels[None]
    lq, _ = Degradation.preset("moderate")(gt, seed=[damage])
    for path, pixels in ((GROUP_GT, gt), (GROUP_LQ, lq)):
        write_picture(path, pixels[0], Picture(pixels[0]))
    return [GROUP_GT, GROUP_LQ]


if __name__ == "__main__":
    main()
