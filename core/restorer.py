"""The seam between a method's maths and whoever owns the diffusion model, and the one-step restore.

ComfyUI's MODEL + VAE, diffusers' UNet + VAE and a ten-line test double are all a `Backbone`.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from .errors import FacewrightError, NonFiniteError, check_image
from .schedule import alpha_bar, eps_to_x0

ONE_STEP_TIMESTEP = 399
"""The single timestep OSDFace was trained and is run at (released infer.py)."""


class Backbone(Protocol):
    """A latent diffusion model, whoever owns its weights.

    Pixels are (b, 3, h, w) in [-1, 1] with h and w multiples of `factor`; latents are
    (b, c, h / factor, w / factor), already multiplied by the VAE's scaling factor.
    """

    factor: int
    """Pixels per latent cell along one axis: 8 for Stable Diffusion, 4 for the nano models."""

    def encode(self, pixels: Tensor, generator: Generator | None = None) -> Tensor:
        """Posterior mean, or a posterior sample where a generator is given."""
        ...

    def denoise(self, z_t: Tensor, t: int, cond: Tensor) -> Tensor:
        """x_0 predicted in a single call at integer timestep `t`; `cond` is (b, n, d)."""
        ...

    def decode(self, z_0: Tensor, *, full_precision: bool = False) -> Tensor:
        """Pixels, not clamped. `full_precision` asks for float32 weights and activations, which
        the backbone may keep to from then on."""
        ...


def one_step(
    predict: Callable[[Tensor, int, Tensor], Tensor], z_t: Tensor, t: int, cond: Tensor
) -> Tensor:
    """x_0 = (z_t - sqrt(1 - a) eps(z_t, t, cond)) / sqrt(a), a = alpha_bar(t); differentiable.

    OSDFace (arXiv:2411.17163), Eq. 2, with z_t = z_lq.

    Args:
        predict: (z_t, t, cond) -> eps (b, c, h, w).
        z_t: (b, c, h, w).
        t: integer in [0, 999].
        cond: (b, n, d).
    """
    return eps_to_x0(z_t, predict(z_t, t, cond), alpha_bar()[t][None])


def restore_one_step(
    lq: Tensor,
    cond: Tensor,
    backbone: Backbone,
    *,
    timestep: int = ONE_STEP_TIMESTEP,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Restore faces in one denoising step: the LQ latent plays the part of z_t.

    z_lq = E(lq); x_0 = (z_lq - sqrt(1 - a) eps(z_lq, t, cond)) / sqrt(a); restored = D(x_0)
    (OSDFace, arXiv:2411.17163, Eq. 2). No noise is added.

    This is the only place of the inference path where the pixel range changes:
    [0, 1] outside, [-1, 1] towards the backbone.

    Args:
        lq: (b, 3, h, w) in [0, 1], any h and w; b = 0 gives an empty result.
        cond: (b, n, d) conditioning, or (1, n, d) shared by the batch.
        backbone: the diffusion model the weights were trained against.
        timestep: integer in [0, 999].
        generator: None takes the mean of the VAE posterior (repeatable); a generator samples it,
            as the released inference does.

    Returns:
        restored (b, 3, h, w) in [0, 1] with dtype and device of `lq`, and z_0 (b, c, h', w').

    Raises:
        FacewrightError: shapes that do not fit together.
        NonFiniteError: the decoder gave NaN or infinity twice, the second time in float32.
    """
    cond = _one_cond_per_image(lq, cond)
    h, w = lq.shape[-2:]
    if not len(lq):
        # No model was asked, so the number of latent channels is not known.
        return lq, lq.new_zeros(0, 4, -(-h // backbone.factor), -(-w // backbone.factor))
    z_lq = backbone.encode(padded(lq, backbone.factor), generator)
    z_0 = backbone.denoise(z_lq, timestep, cond)
    pixels = decode_finite(z_0, backbone)
    return from_padded(pixels, lq), z_0


def padded(lq: Tensor, factor: int) -> Tensor:
    """Pixels as a backbone encodes them: in [-1, 1], sides multiples of its `factor`."""
    h, w = lq.shape[-2:]
    # Replicated edges instead of a resize: the restored pixels stay where the input pixels were.
    return F.pad(lq * 2 - 1, (0, -w % factor, 0, -h % factor), "replicate")


def from_padded(pixels: Tensor, lq: Tensor) -> Tensor:
    """What a backbone decoded as a picture in [0, 1], of the size, dtype and device of `lq`."""
    h, w = lq.shape[-2:]
    return pixels[..., :h, :w].add(1).div(2).clamp(0, 1).to(lq)


def decode_finite(z_0: Tensor, backbone: Backbone) -> Tensor:
    """Pixels of latents in about [-1, 1], not clamped, by float32 where half precision fails.

    Of a batch only the faces that came out with NaN or infinity are decoded again.

    Raises:
        NonFiniteError: the decoder gave NaN or infinity twice, the second time in float32.
    """
    pixels = backbone.decode(z_0)
    sound = _finite(z_0).to(pixels.device)
    again = ~_finite(pixels) & sound
    if again.any():
        # Half precision overflows in some VAE decoders; a black picture would hide that.
        found = backbone.decode(z_0[again.to(z_0.device)], full_precision=True)
        pixels[again] = found.to(pixels)
    if not sound.all() or not _finite(pixels).all():
        decoder = "the VAE decoder, even after a second decode in float32"
        raise NonFiniteError(
            "The restored image contains NaN or infinity, coming from "
            f"{decoder if sound.all() else 'the latent'}. Load the model in float32 or bfloat16 "
            "(command line: --dtype fp32; ComfyUI: start with --fp32-unet and --fp32-vae), or use "
            "a VAE file known to be fp16-safe."
        )
    return pixels


def _finite(x: Tensor) -> Tensor:
    """(b, ...) -> (b,): which of a batch hold finite numbers alone."""
    return torch.isfinite(x).flatten(1).all(1)


def restore_in_chunks(
    lq: Tensor,
    cond: Tensor,
    backbone: Backbone,
    *,
    chunk_size: int,
    on_chunk: Callable[[int], object] = lambda faces: None,
    timestep: int = ONE_STEP_TIMESTEP,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """`restore_one_step` for batches of any length, `chunk_size` images at a time.

    Gives what one large batch would, in bounded memory. Arguments, result and errors are those of
    `restore_one_step`.

    Args:
        chunk_size: images that are restored together, >= 1.
        on_chunk: called after every chunk with the number of images in it; an exception that it
            raises ends the work.
    """
    cond = _one_cond_per_image(lq, cond)
    restored, z_0 = torch.empty_like(lq), []
    chunks = zip(*(x.split(chunk_size) for x in (lq, cond, restored)), strict=True)
    for part, part_cond, place in chunks:
        pixels, z = restore_one_step(
            part.contiguous(), part_cond, backbone, timestep=timestep, generator=generator
        )
        place.copy_(pixels)
        z_0.append(z)
        on_chunk(len(part))
    return restored, torch.cat(z_0)


def _one_cond_per_image(lq: Tensor, cond: Tensor) -> Tensor:
    check_image(lq, name="lq")
    if len(cond) not in (1, len(lq)):
        raise FacewrightError(
            f"`conditioning` holds {len(cond)} faces but `image` holds {len(lq)}. Encode the "
            "conditioning from the very images that are restored: connect the same crops to "
            "VRE Encode and to the restorer."
        )
    return cond.expand(len(lq), -1, -1)
