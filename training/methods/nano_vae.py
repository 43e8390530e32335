"""The nano models' autoencoder: pixels at 1/4 of the size, eight channels of unit variance."""

import copy
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...core.color import YCBCR
from ...core.metrics import feature_distance, psnr, ssim
from ...core.modules.autoencoder import AutoencoderConfig, AutoencoderKL
from ...core.modules.identity import IdentityEncoder
from ...core.weights.nano import load_vae
from ..losses.masks import box_mask
from ..losses.pixel import sobel
from ..recipe import EXPORT_ONLY, Batch, Evaluation, Progress, Recipe, as_metadata
from ..settings.config import Strict


class NanoVAEConfig(Strict):
    ch: int = 16
    ch_mult: tuple[int, ...] = (1, 2, 4)
    z_channels: int = 8
    crop_until: float = Field(0.3, ge=0, le=1, description="share of the budget on quarter crops")
    degraded: float = Field(0.25, ge=0, le=1, description="share of samples that are lq pictures")
    inside: float = Field(2.0, gt=0, description="weight of pixels in the face box")
    outside: float = Field(0.6, gt=0)
    chroma: float = Field(3.0, gt=0, description="stretch of Cb and Cr while training")
    mse: float = 6.0
    edges: float = 0.7
    pooled: float = 2.0
    kl: float = 1e-5
    identity: Path | None = Field(None, description="identity encoder whose features are compared")
    features: float = Field(0.05, ge=0)
    features_from: float = Field(0.5, ge=0, le=1)
    start_from: Path | None = Field(None, description="exported VAE to go on from")
    decoder_only: bool = Field(False, description="keep the latents of `start_from` as they are")


class _Trained(nn.Module):
    """Encode, sample, decode in one `forward`."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, logvar = self.vae.moments(pixels)
        z = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        return self.vae.decode(z), mean, logvar


class NanoVAERecipe(Recipe):
    """Face-weighted L1 and MSE in (Y, k Cb, k Cr), edges, low frequencies, a little KL.

    The colour space keeps a narrow net from washing out colour; it is folded into the first and
    last convolution on export, as are the latents' mean and variance into the 1x1 ones, so what is
    exported is an ordinary RGB autoencoder with scaling factor 1.
    """

    stage = "nano_vae"
    changeable = EXPORT_ONLY
    Config = NanoVAEConfig
    config: NanoVAEConfig

    def build(self) -> dict[str, nn.Module]:
        c = self.config
        vae = AutoencoderKL(
            AutoencoderConfig(
                ch=c.ch, ch_mult=c.ch_mult, num_res_blocks=1, attn_levels=(), mid_attn=False,
                z_channels=c.z_channels, groups=1,
            )
        )  # fmt: skip
        with torch.no_grad():
            # A posterior that starts narrow, so that the first steps are those of an autoencoder.
            vae.quant_conv.weight[c.z_channels :] *= 0.1
            vae.quant_conv.get_parameter("bias")[c.z_channels :] = -5
        self.colour = weighted_ycbcr(c.chroma)
        if c.start_from:
            vae = load_vae(c.start_from).train().requires_grad_(True)
            fold_colour(vae, torch.linalg.inv(self.colour))
        if c.decoder_only:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)
        return {"vae": _Trained(vae)}

    def frozen(self) -> dict[str, nn.Module]:
        path = self.config.identity
        return {"identity": IdentityEncoder.from_file(path)} if path else {}

    def adam_only(self) -> tuple[str, ...]:
        return ("conv_in", "conv_out", "quant_conv")

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        c, x, mask = self.config, batch["gt"], self._mask(batch)
        if "lq" in batch and c.degraded:
            chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < c.degraded
            x = torch.where(chosen, batch["lq"], x)
        weight = c.outside + (c.inside - c.outside) * mask
        cropped = progress.fraction < c.crop_until
        if cropped:
            x, weight = _crops(x, weight)
        target = self._to_net(x)
        decoded, mean, logvar = self.nets["vae"](target)
        # Halved: errors on the scale of [0, 1] pictures.
        error = (decoded.float() - target) / 2
        terms = {
            "l1": (weight * error.abs()).mean(),
            "mse": c.mse * (weight * error.pow(2)).mean(),
            "edges": c.edges * (weight * sobel(error).abs().mean(1, keepdim=True)).mean(),
            "pooled": c.pooled * F.avg_pool2d(error, 8).abs().mean(),
            "kl": c.kl * (mean.pow(2) + logvar.exp() - logvar - 1).float().mean(),
        }
        if "identity" in self.nets and progress.fraction >= c.features_from and not cropped:
            features = self.nets["identity"].features
            with torch.no_grad():
                wanted = features(x)[:3]
            found = features(self._to_rgb(decoded.float()))[:3]
            terms["features"] = c.features * feature_distance(found, wanted).mean()
        return terms

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        sums: dict[str, list[Tensor]] = {}
        images, latents, vae = {}, [], self.nets["vae"].vae
        for batch in batches:
            x, mask = batch["gt"], self._mask(batch)
            mean, _ = vae.moments(self._to_net(x))
            decoded = self._to_rgb(vae.decode(mean)).clamp(0, 1)
            latents.append(mean)
            values = {
                "psnr": psnr(decoded, x),
                "ssim": ssim(decoded, x),
                "face_psnr": psnr(decoded, x, mask),
                "face_ssim": ssim(decoded, x, mask),
            }
            shown = {"gt": x, "VAE(gt)": decoded}
            if "lq" in batch:
                lq = batch["lq"]
                again = self._to_rgb(vae.decode(vae.moments(self._to_net(lq))[0])).clamp(0, 1)
                values["face_psnr_of_lq"] = psnr(again, lq, mask)
                shown |= {"lq": lq, "VAE(lq)": again}
            images = images or shown
            for key, value in values.items():
                sums.setdefault(key, []).append(value)
        z = torch.cat(latents)
        self.latent_mean, self.latent_std = z.mean((0, 2, 3)), z.std((0, 2, 3))
        return Evaluation({k: torch.cat(v).mean().item() for k, v in sums.items()}, images)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        vae = copy.deepcopy(self.nets["vae"].vae).cpu().float()
        fold_colour(vae, self.colour.cpu())
        if not self.config.decoder_only:
            fold_latent_scale(vae, self.latent_mean.cpu(), self.latent_std.cpu())
        path = folder / "nano_vae.safetensors"
        vae.save(path, **as_metadata(facts))
        return [path]

    def _mask(self, batch: Batch) -> Tensor:
        return box_mask(batch["box"], *batch["gt"].shape[-2:])

    def _to_net(self, rgb: Tensor) -> Tensor:
        x = torch.einsum("ij,bjhw->bihw", self.colour.to(rgb), rgb * 2 - 1)
        return x.contiguous(memory_format=torch.channels_last)

    def _to_rgb(self, x: Tensor) -> Tensor:
        inverse = torch.linalg.inv(self.colour).to(x)
        return torch.einsum("ij,bjhw->bihw", inverse, x).add(1).div(2)


def _crops(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Two crops of half the side from every picture: half the cost, twice the variety."""
    h, w = x.shape[2] // 2, x.shape[3] // 2
    pictures, weights = [], []
    for _ in range(2):
        top = int(torch.randint(0, x.shape[2] - h + 1, ()))
        left = int(torch.randint(0, x.shape[3] - w + 1, ()))
        pictures.append(x[:, :, top : top + h, left : left + w])
        weights.append(weight[:, :, top : top + h, left : left + w])
    return torch.cat(pictures), torch.cat(weights)


def weighted_ycbcr(chroma: float) -> Tensor:
    """(3, 3) RGB -> (Y, k Cb, k Cr)."""
    return torch.tensor(YCBCR) * torch.tensor([[1.0], [chroma], [chroma]])


@torch.no_grad()
def fold_colour(vae: AutoencoderKL, colour: Tensor) -> None:
    """Make a net that works in `colour` (3, 3) space one that takes and gives RGB. Exact."""
    inverse = torch.linalg.inv(colour)
    first, last = vae.encoder.conv_in, vae.decoder.conv_out
    first.weight.copy_(torch.einsum("oihw,ij->ojhw", first.weight, colour))
    last.weight.copy_(torch.einsum("ij,jchw->ichw", inverse, last.weight))
    bias = last.get_parameter("bias")
    bias.copy_(inverse @ bias)


@torch.no_grad()
def fold_latent_scale(vae: AutoencoderKL, mean: Tensor, std: Tensor) -> None:
    """Make latents leave with zero mean and unit variance per channel, and enter so. Exact."""
    z = len(mean)
    enter, leave = vae.post_quant_conv, vae.quant_conv
    leave.weight[:z] /= std.view(-1, 1, 1, 1)
    bias = leave.get_parameter("bias")
    bias[:z] = (bias[:z] - mean) / std
    bias[z:] -= 2 * std.log()
    enter.get_parameter("bias").add_(enter.weight[:, :, 0, 0] @ mean)
    enter.weight *= std.view(1, -1, 1, 1)
