"""ComfyUI's core nodes for sampling in many steps, under their own names and with its numbers."""

import torch
from torch import Tensor

from ...core.diffusion.backbone import Model
from ...core.diffusion.boosthub import predicting
from ...core.diffusion.text import Clip
from ...core.errors import FacewrightError
from ...core.host import host
from ...core.node_api import io
from ...core.sampling import SCHEDULERS, euler, guided, noisy, sigmas
from ...nodes._convert import from_conditioning, to_conditioning
from .plain import PlainNode

SAMPLERS = {"euler": 0.0, "ddim": 0.0, "euler_ancestral": 1.0}
"""Name -> share of fresh noise. Without a mask, ComfyUI's ddim is Euler's method."""


class CLIPTextEncode(PlainNode):
    """A prompt in plain words, for SD 2.1-base loaded from its diffusers folder."""

    INPUTS = (io.String.Input("text", multiline=True), io.Clip.Input("clip"))
    OUTPUTS = (io.Conditioning.Output(),)

    @classmethod
    def execute(cls, text: str, clip: Clip) -> io.NodeOutput:
        return io.NodeOutput(to_conditioning(clip.encode(text)))


class EmptyLatentImage(PlainNode):
    """Four channels at an eighth of the size; KSampler makes them the model's channels."""

    INPUTS = (
        io.Int.Input("width", default=512, min=16),
        io.Int.Input("height", default=512, min=16),
        io.Int.Input("batch_size", default=1, min=1),
    )
    OUTPUTS = (io.Latent.Output(),)

    @classmethod
    def execute(cls, width: int, height: int, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput({"samples": torch.zeros(batch_size, 4, height // 8, width // 8)})


class KSampler(PlainNode):
    """Euler's method on ComfyUI's noise levels, from ComfyUI's noise.

    euler_ancestral draws its fresh noise on the CPU from seed + 1, as ComfyUI has come to do there;
    its earlier versions, and its GPUs, draw other noise.
    """

    INPUTS = (
        io.Model.Input("model"),
        io.Int.Input("seed", default=0, min=0, control_after_generate=True),
        io.Int.Input("steps", default=20, min=1, max=1000),
        io.Float.Input("cfg", default=8.0, min=0.0, max=100.0),
        # Plain strings: what ComfyUI knows beyond these is refused in a sentence.
        io.String.Input("sampler_name", default="euler"),
        io.String.Input("scheduler", default="normal"),
        io.Conditioning.Input("positive"),
        io.Conditioning.Input("negative"),
        io.Latent.Input("latent_image"),
        io.Float.Input("denoise", default=1.0, min=0.0, max=1.0),
    )
    OUTPUTS = (io.Latent.Output(),)

    @classmethod
    def validate_inputs(cls, sampler_name: str | None, scheduler: str | None) -> bool | str:
        for what, value, known in (
            ("sampler", sampler_name, SAMPLERS),
            ("scheduler", scheduler, SCHEDULERS),
        ):
            if value is not None and value not in known:
                return (
                    f"Without ComfyUI there is no {what} {value!r}, only {', '.join(known)}. "
                    "Choose one of these, or run this workflow with --server."
                )
        return True

    @classmethod
    def execute(
        cls,
        model: Model,
        seed: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        positive: list,
        negative: list,
        latent_image: dict,
        denoise: float,
    ) -> io.NodeOutput:
        problem = cls.validate_inputs(sampler_name, scheduler)
        if problem is not True:
            raise FacewrightError(problem)
        if "noise_mask" in latent_image:
            raise FacewrightError(
                "The latent has a mask; sampling inside a mask takes ComfyUI. Run this workflow "
                "with --server, or leave the mask out."
            )
        if denoise <= 0:
            return io.NodeOutput(latent_image)
        z = _with_channels(latent_image["samples"], model.config["in_channels"])
        prompts = [_prompt(p, len(z)) for p in (positive, negative)]
        levels = sigmas(scheduler, steps, denoise)
        bar = host.progress(len(levels) - 1)

        def on_step(done: int, x_0: Tensor) -> None:
            bar.update(1)
            host.check_interrupt()

        with predicting(model, prompts[0]) as predict:
            wanted, unwanted = (lambda z_t, t, p=p: predict(z_t, t, p) for p in prompts)
            x = noisy(z * model.scaling_factor, seed, float(levels[0]))
            # Not the stream the first noise came from: x would run along it.
            fresh = torch.Generator().manual_seed((seed + 1) % 2**64)
            anew = {"eta": SAMPLERS[sampler_name], "generator": fresh}
            x_0 = euler(guided(wanted, unwanted, cfg), x, levels, on_step=on_step, **anew)
        return io.NodeOutput({**latent_image, "samples": (x_0 / model.scaling_factor).cpu()})


def _with_channels(z: Tensor, channels: int) -> Tensor:
    """An empty latent of another model serves as well; any other has to fit."""
    if z.shape[1] == channels:
        return z.float()
    if z.any():
        raise FacewrightError(
            f"The latent has {z.shape[1]} channels, but the model works on {channels}. Encode the "
            "picture with the VAE that belongs to the model."
        )
    return torch.zeros(len(z), channels, *z.shape[2:])


def _prompt(conditioning: list, images: int) -> Tensor:
    tokens = from_conditioning(conditioning)
    extras = sorted(conditioning[0][1].keys() - {"pooled_output"})
    if extras:
        raise FacewrightError(
            f"The prompt carries {', '.join(extras)}, which takes ComfyUI. Run this workflow with "
            "--server."
        )
    if len(tokens) not in (1, images):
        raise FacewrightError(
            f"The prompt is for {len(tokens)} faces, but {images} latents are sampled. Give one "
            "latent for each face."
        )
    return tokens


NODES = (CLIPTextEncode, EmptyLatentImage, KSampler)
