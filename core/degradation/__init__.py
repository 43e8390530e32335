"""Low-quality faces from good ones, on the fly, by seed.

    lq, recipes = Degradation.preset("severe")(gt, seed=[3, 4, 5])
    lq_again = Degradation.replay(gt, recipes)

Each image has its own seed and goes its own way: what happens to it does not depend on the batch,
and its recipe (plain dicts, ready for JSON) brings it back exactly. The classic order is

    blur -> downsample -> Gaussian noise -> JPEG -> upsample to the original size
"""

from .engine import Degradation
from .passes import Preset
from .presets import MAX_TAPS, PRESETS
from .recipe import describe
from .steps import jpeg

__all__ = ["MAX_TAPS", "PRESETS", "Degradation", "Preset", "describe", "jpeg"]
