"""A tiny FLIPNET to train: its files on disk and its recipes; `flip` of conftest."""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from facewright.core.checkpoint import make_metadata, save_safetensors
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.modules.autoencoder import AutoencoderConfig, AutoencoderKL
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.modules.identity import IdentityConfig, IdentityEncoder
from facewright.training.methods import flipnet as stage
from torch import nn

UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (8, 16),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
    "use_linear_projection": True,
    "norm_num_groups": 4,
}
VAE = AutoencoderConfig(
    ch=4, ch_mult=(1, 2, 2), num_res_blocks=1, attn_levels=(), mid_attn=False, z_channels=4,
    groups=1,
)  # fmt: skip
FACE = AutoencoderConfig(
    ch=4, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), z_channels=5, groups=1
)
MODES = {"restore": stage.RestoreRecipe, "degrade": stage.DegradeRecipe}


@dataclass
class Flip:
    folder: Path

    def __post_init__(self):
        torch.manual_seed(0)
        unet, vae = self.unet(), AutoencoderKL(VAE)
        config = {k: v for k, v in unet.config.items() if not k.startswith("_")}
        save_safetensors(
            self.folder / "unet.safetensors", unet.state_dict(), make_metadata("nano-unet", config)
        )
        save_safetensors(
            self.folder / "vae.safetensors",
            vae.state_dict(),
            make_metadata("nano-vae", asdict(VAE)),
        )
        FaceEncoder(FaceEncoderConfig(encoder=FACE, input_size=8, hidden=6, width=12)).save(
            self.folder / "face.safetensors"
        )
        IdentityEncoder(IdentityConfig(ch=(8, 8, 8), dim=8, input_size=16)).save(
            self.folder / "identity.safetensors"
        )

    def unet(self):
        return diffusers_classes()[0](**UNET)

    def values(self, mode, **changes):
        values = {
            "backbone": {
                "source": "nano",
                "unet": self.folder / "unet.safetensors",
                "vae": self.folder / "vae.safetensors",
            },
            "tokens": 5,
            "rank": 2,
            "alpha": 4,
            "sampling": {"steps": 2},
            "metric_encoder": self.folder / "identity.safetensors",
        }
        if mode == "restore":
            values |= {
                "face_encoder": self.folder / "face.safetensors",
                "extractor": {"kind": "nano", "path": self.folder / "identity.safetensors"},
            }
        return {**values, **changes}

    def start(self, mode, **changes):
        torch.manual_seed(0)
        cls = MODES[mode]
        recipe = cls(cls.Config(**self.values(mode, **changes)))
        nets = recipe.build()
        recipe.trained = tuple(nets)
        frozen = recipe.frozen()
        for net in frozen.values():
            net.requires_grad_(False).eval()
        recipe.nets = {**frozen, **nets}
        return recipe

    @staticmethod
    def wake(recipe):
        """Trained weights that start at zero get values, so that they count."""
        torch.manual_seed(5)
        with torch.no_grad():
            for name, p in recipe.nets["denoiser"].named_parameters():
                if "lora_B" in name or ("to_out" in name and "hubs" in name):
                    p.normal_(0, 0.2)

    @staticmethod
    def batch(b=3, size=32):
        generator = torch.Generator().manual_seed(3)
        gt = torch.rand(b, 3, size, size, generator=generator)
        lq = (gt + 0.2 * torch.randn(gt.shape, generator=generator)).clamp(0, 1)
        return {"gt": gt, "lq": lq, "box": torch.tensor([[4.0, 4.0, 27.0, 27.0]] * b)}

    @staticmethod
    def trainable(net):
        return {n: p for n, p in net.named_parameters() if p.requires_grad}


class Words(nn.Module):
    """Prompts that say how long the caption is."""

    def forward(self, captions):
        prompts = torch.tensor([float(len(c)) for c in captions])[:, None, None].expand(-1, 5, 12)
        return prompts * torch.tensor([1.0, 1, 1, 1, 0])[:, None]
