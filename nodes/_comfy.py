"""What imports ComfyUI, with its siblings _comfy_*: the node API, and what our nodes ask for.

Works with v0.3.64 and newer. `comfy_api.latest` is declared unstable and `comfy` has no promise at
all, so whatever moves there is mended here.
"""

import copy
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import comfy.lora
import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy_api.latest import ComfyExtension, io, ui
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Generator, Tensor, nn

from ..core.errors import FacewrightError
from ..core.host import run_otherwise
from ._comfy_doctor import ComfyDoctor
from ._comfy_files import ComfyFiles
from ._comfy_videos import ComfyVideos
from ._convert import channels_first, to_image
from ._results import without_results
from ._unused import without_unused

if TYPE_CHECKING:
    from ..core.checkpoint.identify import UNetFacts
    from ..core.lora.merge import LoraReport
    from ..core.methods.flipnet import BoostHubs, Condition
    from ..core.modules.autoencoder import AutoencoderKL
    from ..core.restorer import Backbone

__all__ = ["ComfyExtension", "host", "io", "ui"]

_LOG = logging.getLogger(__name__)
_FLOAT32 = "_facewright_float32"
"""Attribute of a VAE's network: the copy in float32, once its decoder has overflowed."""
_IMAGE_MODEL_ROOM = 2**30
"""Bytes that an UPSCALE_MODEL takes for a face of 512 pixels beyond its weights, about."""


class ComfyHost(ComfyDoctor, ComfyFiles, ComfyVideos):
    """ComfyUI as a `nodes._host.Host`."""

    def load_nano(self, lora: bool) -> tuple[Any, Any]:
        from ..core.weights import nano
        from ._comfy_nano import nano_model, nano_vae

        model = nano_model(nano.unet_config(), nano.unet_tensors())
        if lora:
            model, _ = self.apply_lora(model, *nano.lora_tensors(), 1.0)
        return model, nano_vae(nano.load_vae())

    def apply_lora(
        self, model: Any, tensors: dict[str, Tensor], metadata: dict[str, str], strength: float
    ) -> "tuple[Any, LoraReport]":
        from ..core.lora import merge
        from ..core.modules.boosthub import check_loras
        from ._comfy_boosthub import KEY, LORAS

        merge.check_strength(strength)
        # Straight from ComfyUI's table of names: the stock loader goes through another one that
        # has no attention layers under the names a diffusers or peft file gives them.
        names = comfy.utils.unet_to_diffusers(model.model.model_config.unet_config)
        weights = merge.parse_lora(tensors, metadata, names.keys())
        stored = model.model.state_dict()
        keys = {name: f"diffusion_model.{names.get(name)}" for name in weights.changes}
        targets = {name: stored[key] for name, key in keys.items() if key in stored}
        strays = merge.misfits(weights.changes, targets)
        patched = model.clone()
        if not strays:
            for name, change in weights.changes.items():
                merge.check_sum(name, targets[name], change, strength)
            places = {
                merge.kohya_name(m): f"diffusion_model.{names[f'{m}.weight']}"
                for m in weights.modules
            }
            found = comfy.lora.load_lora(merge.to_kohya(weights), places)
            applied = set(patched.add_patches(found, strength))
            strays = [name for name, key in keys.items() if key not in applied]
        if strays:
            other = _facts(model).other
            came = f", and `model` is {other}" if other else ""
            raise merge.unfit(strays, len(weights.changes), came=came)
        for applied in model.get_additional_models_with_key(KEY):
            check_loras(applied.model.config.mode, [metadata])
        patched.set_attachments(LORAS, (*(patched.get_attachment(LORAS) or ()), metadata))
        return patched, merge.LoraReport.of(weights)

    def lacking(self, model: Any) -> str:
        from ..core.lora.lacking import lacking
        from ._comfy_boosthub import LORAS

        return lacking(bool(model.get_attachment(LORAS)), model.patches)

    def apply_boosthub(self, model: Any, hubs: "BoostHubs", condition: "Condition") -> Any:
        from ._comfy_boosthub import apply_boosthub

        return apply_boosthub(model, hubs, condition, _patcher_of(hubs))

    def backbone(self, model: Any, vae: Any) -> "Backbone":
        return ComfyBackbone(model, vae)

    def latent(self, model: Any, z: Tensor) -> Any:
        if not len(z):
            # VAE Decode fails on an empty batch: nodes that wait for this latent are left out.
            return self.nothing()
        return {"samples": model.get_model_object("latent_format").process_out(z)}

    def nothing(self) -> Any:
        return ExecutionBlocker(None)

    def one_step_sampler(self, timestep: int) -> tuple[Any, Any]:
        from ..core.schedule import alpha_bar, sigma_of

        sigma = float(sigma_of(alpha_bar()[timestep]))
        return comfy.samplers.KSAMPLER(_one_step), torch.tensor([sigma, 0.0])

    def progress(self, total: int) -> Any:
        return comfy.utils.ProgressBar(total)

    def check_interrupt(self) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()

    def device(self) -> torch.device:
        return comfy.model_management.get_torch_device()

    def load(self, module: nn.Module) -> torch.device:
        patcher = _patcher_of(module)
        comfy.model_management.load_models_gpu([patcher], force_full_load=True)
        return patcher.load_device

    @contextmanager
    def image_model(self, model: Any) -> Iterator[None]:
        patcher = getattr(model, "patcher", None)  # newer versions keep one with the model
        if patcher is not None:
            comfy.model_management.load_models_gpu(
                [patcher], memory_required=_IMAGE_MODEL_ROOM, force_full_load=True
            )
            yield
            return
        device = self.device()
        needed = comfy.model_management.module_size(model.model) + _IMAGE_MODEL_ROOM
        comfy.model_management.free_memory(needed, device)
        try:
            model.to(device)
            yield
        finally:
            model.to("cpu")  # where ComfyUI's own nodes leave it

    def preview(self, image: Tensor, cls: type) -> Any:
        # Of a picture without faces there is nothing to show, and ComfyUI's own preview fails.
        return ui.PreviewImage(image, cls=cls) if len(image) else None

    def save_pictures(
        self, image: Tensor, prefix: str, texts: Sequence[Mapping[str, str]], cls: type
    ) -> Any:
        from ._comfy_saving import save_pictures

        return save_pictures(image, prefix, texts, cls)

    def show_text(self, text: str, pictures: Tensor | None = None, cls: type | None = None) -> Any:
        shown = ui.PreviewText(text).as_dict()  # web/js/results.js puts it on the node
        if pictures is None:
            return shown
        if not len(pictures):
            # The same keys: of a node that runs once per element of a list, ComfyUI joins them.
            return {**shown, "images": [], "animated": (False,)}
        return {**shown, **ui.PreviewImage(pictures, cls=cls).as_dict()}


host = ComfyHost()
run_otherwise(lambda: host)
if server := getattr(sys.modules.get("server"), "PromptServer", None):  # not where a test loads us
    server.instance.add_on_prompt_handler(without_results)
    server.instance.add_on_prompt_handler(without_unused)


class ComfyBackbone:
    """A ComfyUI MODEL + VAE; ComfyUI keeps ownership of devices, memory, LoRAs and patches."""

    def __init__(self, model: Any, vae: Any) -> None:
        _facts(model).check_base("`model`")
        vae.throw_exception_if_invalid()
        self.model, self.vae = model, vae
        self.factor = vae.spacial_compression_encode()
        self._format = model.get_model_object("latent_format")
        if vae.latent_channels != self._format.latent_channels:
            raise FacewrightError(
                f"The VAE makes latents of {vae.latent_channels} channels, but the model expects "
                f"{self._format.latent_channels}. Connect the VAE that belongs to the model: the "
                "one of the same checkpoint or of the same loader node."
            )

    def encode(self, pixels: Tensor, generator: Generator | None = None) -> Tensor:
        from ..core.modules.autoencoder import posterior_sample

        image = to_image((pixels + 1) / 2)
        if generator is None:
            return self._format.process_in(self.vae.encode(image))
        mean, logvar = _posterior_vae(self.vae).encode(image).chunk(2, dim=1)
        z = posterior_sample(mean, logvar.clamp(-30, 20), generator)
        return self._format.process_in(z)

    def denoise(self, z_t: Tensor, t: int, cond: Tensor) -> Tensor:
        expected = self.model.model.model_config.unet_config.get("context_dim", cond.shape[-1])
        if cond.shape[-1] != expected:
            raise FacewrightError(
                f"The conditioning has {cond.shape[-1]} channels, but the model expects "
                f"{expected}. Use the embedder and the model that were trained together "
                "(OSDFace: Stable Diffusion 2.1-base)."
            )
        sampler, sigmas = host.one_step_sampler(t)
        latents = self._format.process_out(z_t)
        conditioning = [[cond, {}]]
        x_0 = comfy.sample.sample_custom(
            self.model,
            torch.zeros_like(latents),
            1.0,
            sampler,
            sigmas,
            conditioning,
            conditioning,
            latents,
            disable_pbar=True,
        )
        return self._format.process_in(x_0)

    def decode(self, z_0: Tensor, *, full_precision: bool = False) -> Tensor:
        remembered = getattr(self.vae.first_stage_model, _FLOAT32, None)
        if full_precision:
            remembered = remembered or _float32_vae(self.vae)
        vae = copy.copy(remembered or self.vae)
        vae.process_output = _keeping_non_finite(vae.process_output)
        return channels_first(vae.decode(self._format.process_out(z_0)))[:, :3] * 2 - 1


def _facts(model: Any) -> "UNetFacts":
    """What tells whether a MODEL is SD 2.1-base; of ours nothing that says otherwise."""
    from ..core.checkpoint.identify import UNetFacts
    from ._comfy_nano import NanoConfig

    config = model.model.model_config
    if isinstance(config, NanoConfig):
        return UNetFacts()
    unet, sampling = config.unet_config, model.get_model_object("model_sampling")
    return UNetFacts(
        context=unet.get("context_dim"),
        channels=unet.get("in_channels", 4),
        class_embedding=unet.get("adm_in_channels") is not None,
        velocity=isinstance(sampling, comfy.model_sampling.V_PREDICTION),
    )


def _one_step(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict | None = None,
    callback: Any = None,
    disable: bool | None = None,
) -> Tensor:
    """Sampler function: `x` itself is the noisy latent, whatever noise level it really has.

    ComfyUI divides the input by sqrt(sigma^2 + 1); multiplied first, the UNet sees `x` exactly.
    """
    sigma = sigmas[0]
    noisy = x * (sigma**2 + 1).sqrt()
    denoised = model(noisy, sigma.expand(len(x)), **(extra_args or {}))
    if callback is not None:
        callback({"x": x, "i": 0, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
    return denoised


def _patcher_of(module: nn.Module) -> Any:
    """The one patcher of a network of ours, kept on it so that both are freed together."""
    from ._comfy_nano import module_patcher

    patcher = getattr(module, "_facewright_patcher", None)
    if patcher is None:
        patcher = module._facewright_patcher = module_patcher(module)
    return patcher


def _keeping_non_finite(process: Any) -> Any:
    """`process` clamps, which turns infinity into white; NaN tells the caller to decode again."""

    def processed(pixels: Tensor) -> Tensor:
        broken = ~torch.isfinite(pixels)  # before `process`, which may work in place
        return process(pixels).masked_fill(broken, torch.nan)

    return processed


def _float32_vae(vae: Any) -> Any:
    """A copy of the VAE in float32, remembered beside it: one that overflows does so again.

    The user's own stays as it is, and both are freed together.
    """
    from ._comfy_nano import vae_patcher

    _LOG.warning(
        "The VAE's decoder left the range of %s. Facewright decodes with a copy in float32 until "
        "the VAE is loaded again.",
        str(vae.vae_dtype).removeprefix("torch."),
    )
    clone = copy.copy(vae)
    clone.first_stage_model = copy.deepcopy(vae.first_stage_model).float()
    clone.vae_dtype = torch.float32
    clone.patcher = vae_patcher(clone)
    setattr(vae.first_stage_model, _FLOAT32, clone)
    return clone


class _KeepMoments(nn.Module):
    def forward(self, moments: Tensor) -> tuple[Tensor, dict]:
        return moments, {}


class _Moments(nn.Module):
    """The nano autoencoder, encoding to mean and log-variance."""

    def __init__(self, autoencoder: "AutoencoderKL") -> None:
        super().__init__()
        self.autoencoder = autoencoder

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.cat(self.autoencoder.moments(pixels), dim=1)


def _posterior_vae(vae: Any) -> Any:
    """A view of the VAE whose `encode` gives mean and log-variance instead of the mean."""
    model = vae.first_stage_model
    clone = copy.copy(vae)
    if hasattr(model, "moments"):
        clone.first_stage_model = _Moments(model)
    elif isinstance(getattr(model, "regularization", None), nn.Module):
        clone.first_stage_model = copy.copy(model)
        clone.first_stage_model._modules = {**model._modules, "regularization": _KeepMoments()}
    else:
        raise FacewrightError(
            "This VAE has no posterior to sample from (it is no KL autoencoder). "
            'Set `posterior` to "mean".'
        )
    return clone
