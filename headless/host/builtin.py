"""The few core nodes of ComfyUI that our shipped workflows use, under their own names."""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.devices import compute_device
from ...core.diffusion.backbone import OneStepSampler, denoise
from ...core.diffusion.loading import load_checkpoint, load_vae
from ...core.diffusion.text import Clip
from ...core.errors import FacewrightError, shorten
from ...core.files.known import IMAGE_MODELS
from ...core.host import host
from ...core.images import read_picture
from ...core.modules.spandrel import load_image_model
from ...core.node_api import io
from ...core.pipeline.upscale import Upscaler
from ...core.weights.model_folders import check_name
from ..workflows.input_files import input_file
from . import builtin_sampling, videos
from .plain import PlainNode
from .saving import context, save_pictures


class LoadImage(PlainNode):
    """A picture of the input folder, or one named by hand; alpha goes to MASK as 1 - alpha."""

    # A plain string: what may be chosen is any file, not a list.
    INPUTS = (io.String.Input("image"),)
    OUTPUTS = (io.Image.Output(), io.Mask.Output())

    @classmethod
    def execute(cls, image: str | Path | Tensor) -> io.NodeOutput:
        if isinstance(image, Tensor):
            see_through = (
                1 - image[..., 3:].sum(-1) if image.shape[-1] == 4 else torch.zeros(1, 64, 64)
            )
            return io.NodeOutput(image[..., :3], see_through)
        run = context.get()
        path = input_file("LoadImage", image, run.input_dir, run.named)
        if path is None:
            raise FacewrightError(f"There is no file {shorten(image)} in {run.input_dir}.")
        pixels = read_picture(path).pixels
        mask = 1 - pixels[3] if len(pixels) == 4 else torch.zeros(64, 64)
        return io.NodeOutput(pixels[:3].permute(1, 2, 0)[None].contiguous(), mask[None])


class ImageBatch(PlainNode):
    """Two batches as one; the second is cut to the shape of the first and resized, as there."""

    INPUTS = (io.Image.Input("image1"), io.Image.Input("image2"))
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def execute(cls, image1: Tensor, image2: Tensor) -> io.NodeOutput:
        h, w = image1.shape[1:3]
        if image2.shape[1:3] != (h, w):
            x = image2.movedim(-1, 1)
            height, width = x.shape[-2:]
            # ComfyUI's rounding, to the pixel.
            top = round((height - height * (width / height) / (w / h)) / 2)
            left = round((width - width * (w / h) / (width / height)) / 2)
            top, left = max(top, 0), max(left, 0)
            x = x[..., top : height - top, left : width - left]
            image2 = F.interpolate(x, (h, w), mode="bilinear").movedim(1, -1)
        return io.NodeOutput(torch.cat([image1, image2]))


class SaveImage(PlainNode):
    """PNGs `<prefix>_00001_.png`, numbered on, with the workflow in their metadata."""

    INPUTS = (io.Image.Input("images"), io.String.Input("filename_prefix", default="ComfyUI"))
    IS_OUTPUT = True

    @classmethod
    def execute(cls, images: Tensor, filename_prefix: str) -> io.NodeOutput:
        return io.NodeOutput(ui={"images": save_pictures(images, filename_prefix)})


class PreviewImage(PlainNode):
    INPUTS = (io.Image.Input("images"),)
    IS_OUTPUT = True

    @classmethod
    def execute(cls, images: Tensor) -> io.NodeOutput:
        return io.NodeOutput(ui={"images": images})


class PreviewAny(PlainNode):
    INPUTS = (io.AnyType.Input("source"),)
    IS_OUTPUT = True

    @classmethod
    def execute(cls, source: Any) -> io.NodeOutput:
        return io.NodeOutput(ui={"text": (str(source),)})


class CheckpointLoaderSimple(PlainNode):
    """SD 2.1-base."""

    INPUTS = (io.String.Input("ckpt_name"),)
    OUTPUTS = (io.Model.Output(), io.Clip.Output(), io.Vae.Output())

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        path = host.model_path("checkpoints", ckpt_name)
        model, vae = load_checkpoint(path)
        return io.NodeOutput(model, Clip(path), vae)


class VAELoader(PlainNode):
    INPUTS = (io.String.Input("vae_name"),)
    OUTPUTS = (io.Vae.Output(),)

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(host.model_path("vae", vae_name)))


class UpscaleModelLoader(PlainNode):
    """A network that spandrel runs, also where packs for face restoring keep theirs."""

    INPUTS = (io.String.Input("model_name"),)
    OUTPUTS = (io.UpscaleModel.Output(),)

    @classmethod
    def execute(cls, model_name: str) -> io.NodeOutput:
        check_name(model_name)
        there = (f for f in IMAGE_MODELS if host.folders.find(f, model_name))
        path = host.model_path(next(there, IMAGE_MODELS[0]), model_name)
        return io.NodeOutput(load_image_model(path))


class ImageUpscaleWithModel(PlainNode):
    """Each picture enlarged in tiles, by the code of `facewright restore --upscale`."""

    INPUTS = (io.UpscaleModel.Input("upscale_model"), io.Image.Input("image"))
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def execute(cls, upscale_model: Any, image: Tensor) -> io.NodeOutput:
        upscaler = Upscaler(upscale_model, "The upscale model")
        device = compute_device()
        upscaler.network.to(device)
        pictures = [upscaler.enlarged(x[..., :3].movedim(-1, 0), device) for x in image]
        return io.NodeOutput(torch.stack(pictures).movedim(1, -1).contiguous())


class VAEEncode(PlainNode):
    INPUTS = (io.Image.Input("pixels"), io.Vae.Input("vae"))
    OUTPUTS = (io.Latent.Output(),)

    @classmethod
    def execute(cls, pixels: Tensor, vae: Any) -> io.NodeOutput:
        x = pixels[..., :3].movedim(-1, 1)
        # ComfyUI crops centrally to a multiple of the VAE's factor.
        h, w = (size // vae.factor * vae.factor for size in x.shape[-2:])
        top, left = (x.shape[-2] - h) // 2, (x.shape[-1] - w) // 2
        x = x[..., top : top + h, left : left + w]
        return io.NodeOutput({"samples": vae.encode(x * 2 - 1).cpu()})


class VAEDecode(PlainNode):
    INPUTS = (io.Latent.Input("samples"), io.Vae.Input("vae"))
    OUTPUTS = (io.Image.Output(),)

    @classmethod
    def execute(cls, samples: dict, vae: Any) -> io.NodeOutput:
        z = samples["samples"]
        if not len(z):  # of a picture without faces; its number of channels is not known
            h, w = (size * vae.factor for size in z.shape[-2:])
            return io.NodeOutput(torch.zeros(0, h, w, 3))
        pixels = vae.decode(z).cpu()
        return io.NodeOutput(pixels.add(1).div(2).clamp(0, 1).movedim(1, -1).contiguous())


class SamplerCustom(PlainNode):
    """Runs our one-step sampler; any other SAMPLER needs a real ComfyUI."""

    INPUTS = (
        io.Model.Input("model"),
        io.Boolean.Input("add_noise", default=True),
        io.Int.Input("noise_seed", default=0, control_after_generate=True),
        io.Float.Input("cfg", default=8.0),
        io.Conditioning.Input("positive"),
        io.Conditioning.Input("negative"),
        io.Sampler.Input("sampler"),
        io.Sigmas.Input("sigmas"),
        io.Latent.Input("latent_image"),
    )
    OUTPUTS = (io.Latent.Output("output"), io.Latent.Output("denoised_output"))

    @classmethod
    def execute(
        cls,
        model: Any,
        add_noise: bool,
        noise_seed: int,
        cfg: float,
        positive: list,
        negative: list,
        sampler: Any,
        sigmas: Tensor,
        latent_image: dict,
    ) -> io.NodeOutput:
        if not isinstance(sampler, OneStepSampler):
            raise FacewrightError(
                "Without ComfyUI only facewright's One-Step Sampler can be used. Run this workflow "
                "with --server."
            )
        if cfg != 1 or add_noise:
            raise FacewrightError(
                "One-step restoration takes no guidance and no noise: set cfg to 1 and add_noise "
                "to false."
            )
        z = latent_image["samples"]
        cond = torch.cat([c for c, _ in positive])
        if len(cond) not in (1, len(z)):
            raise FacewrightError(
                f"The conditioning holds {len(cond)} faces, the latent batch {len(z)}."
            )
        scale = model.scaling_factor
        x_0 = denoise(model, z * scale, sampler.timestep, cond.expand(len(z), -1, -1)) / scale
        latent = {**latent_image, "samples": x_0.cpu()}
        return io.NodeOutput(latent, latent)


BUILTIN = (
    LoadImage,
    ImageBatch,
    SaveImage,
    PreviewImage,
    PreviewAny,
    CheckpointLoaderSimple,
    VAELoader,
    UpscaleModelLoader,
    ImageUpscaleWithModel,
    VAEEncode,
    VAEDecode,
    SamplerCustom,
    *builtin_sampling.NODES,
    *videos.NODES,
)
