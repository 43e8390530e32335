"""The library diffusers, which is imported only where a model is built from it."""

import functools

from ..devices import mend_torchvision
from ..errors import FacewrightError


@functools.cache
def diffusers_classes() -> tuple[type, type]:
    """`UNet2DConditionModel` and `AutoencoderKL`, imported as narrowly as diffusers allows.

    Raises:
        FacewrightError: diffusers is not installed, or cannot be imported.
    """
    mend_torchvision()  # transformers and peft, which diffusers imports, would fail on it
    try:
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    except (ImportError, RuntimeError) as error:
        raise FacewrightError(
            f"diffusers cannot be imported ({str(error).strip().splitlines()[0]}). Install it with "
            '`pip install "facewright[headless]"`, or run inside ComfyUI, which does not need it.'
        ) from error
    return UNet2DConditionModel, AutoencoderKL
