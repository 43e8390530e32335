"""The nano models as ComfyUI's MODEL and VAE, and ComfyUI's patchers around networks of ours."""

from typing import Any

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.supported_models
import comfy.utils
import torch
from torch import Tensor, nn

from ..core.checkpoint import load_strict
from ..core.modules.autoencoder import AutoencoderKL


def module_patcher(module: nn.Module) -> Any:
    """ComfyUI's patcher of any network: it says where the network is, and when it is freed."""
    # The plain patcher: the dynamic one of newer versions streams ComfyUI's own layers only.
    return comfy.model_patcher.ModelPatcher(
        module,
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def vae_patcher(vae: Any) -> Any:
    """The same of a VAE's network, on the devices that ComfyUI chose for it."""
    return comfy.model_patcher.ModelPatcher(
        vae.first_stage_model,
        load_device=vae.device,
        offload_device=comfy.model_management.vae_offload_device(),
    )


class _NanoLatents(comfy.latent_formats.LatentFormat):
    latent_channels = 8


class NanoConfig(comfy.supported_models.SD20):
    latent_format = _NanoLatents


class _Multiple(float):
    """A channel multiple such as 1.5, of which ComfyUI's UNet code makes numbers of channels."""

    def __mul__(self, channels: float) -> int:
        return round(float(self) * channels)

    __rmul__ = __mul__


def nano_model(config: dict, tensors: dict[str, Tensor]) -> Any:
    """A MODEL from a diffusers UNet2DConditionModel config and its tensors.

    Raises:
        CheckpointError: tensors missing, unexpected or of another shape.
    """
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    depths = [int("CrossAttn" in kind) for kind in config["down_block_types"]]
    model_config = NanoConfig(
        {
            "image_size": config["sample_size"],
            "in_channels": config["in_channels"],
            "out_channels": config["out_channels"],
            "model_channels": channels[0],
            "channel_mult": [_Multiple(c / channels[0]) for c in channels],
            "num_res_blocks": [layers] * len(channels),
            "transformer_depth": [d for d in depths for _ in range(layers)],
            "transformer_depth_output": [d for d in depths for _ in range(layers + 1)],
            "transformer_depth_middle": 1,
            "context_dim": config["cross_attention_dim"],
            "use_linear_in_transformer": config["use_linear_projection"],
            "use_spatial_transformer": True,
            "use_temporal_attention": False,
            "adm_in_channels": None,
            "legacy": False,
        }
    )
    # What diffusers calls attention_head_dim is, for these models, the number of heads.
    model_config.unet_config["num_head_channels"] = channels[-1] // config["attention_head_dim"][-1]
    model_config.set_inference_dtype(torch.float32, None)
    model_config.custom_operations = _operations(config["norm_num_groups"])
    device = comfy.model_management.unet_offload_device()
    model = comfy.model_base.BaseModel(model_config, device=device)
    names = comfy.utils.unet_to_diffusers(model_config.unet_config)
    renamed = {names.get(k, k): v.float() for k, v in tensors.items()}
    load_strict(model.diffusion_model, renamed, source="the nano UNet")
    return module_patcher(model)


def _operations(groups: int) -> type:
    """ComfyUI's layers, with the number of GroupNorm groups that its UNet code fixes at 32."""

    class Operations(comfy.ops.disable_weight_init):
        class GroupNorm(comfy.ops.disable_weight_init.GroupNorm):
            def __init__(self, num_groups: int, num_channels: int, **kwargs: Any) -> None:
                super().__init__(groups, num_channels, **kwargs)

    return Operations


def nano_vae(autoencoder: AutoencoderKL) -> Any:
    """A VAE around our own autoencoder, for our nodes and for ComfyUI's VAE Encode and Decode."""
    # The smallest VAE ComfyUI knows sets up devices and dtype; then it gets our network.
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    vae.first_stage_model = autoencoder
    vae.patcher = vae_patcher(vae)
    factor, width = autoencoder.config.factor, autoencoder.config.ch
    vae.latent_channels = autoencoder.config.z_channels
    vae.downscale_ratio = vae.upscale_ratio = factor
    # About a dozen full-resolution feature maps are alive at once.
    vae.memory_used_encode = lambda shape, dtype: 12 * 4 * width * shape[2] * shape[3]
    vae.memory_used_decode = lambda shape, dtype: 12 * 4 * width * shape[2] * shape[3] * factor**2
    return vae
