"""The two loops of the training benchmark: `PlainLoop` by hand, `OurLoop` the engine's."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from facewright.core.devices import compute_device
from facewright.core.methods.osdface import VisualRepresentationEmbedder
from facewright.core.modules.iresnet import IResNet
from facewright.core.modules.vgg import VGG16
from facewright.core.schedule import alpha_bar
from facewright.training._lora import LORA_TARGETS
from facewright.training.data import Batches
from facewright.training.loop.engine import Engine
from facewright.training.methods.onestep import OneStepRecipe
from facewright.training.recipe import Batch, Recipe
from facewright.training.settings.config import TrainConfig
from torch import Tensor, nn
from torch.nn import Conv2d, GroupNorm

from ._training_setup import Shape, set_start

Losses = dict[str, float]
"""`<phase>/<term>` and `<phase>/grad_norm` of one step, under the engine's names."""


class OurLoop:
    """The engine with its recipe, as `facewright train onestep` runs them between two logs."""

    def __init__(
        self, config: TrainConfig, steps: int, recipe: Callable[[Any], Recipe] = OneStepRecipe
    ) -> None:
        """`steps`: as many as will be taken at most; a cache knows their pictures beforehand."""
        self.engine = engine = Engine(recipe(config.recipe), config)
        engine.log = self
        for net in engine.bare.values():
            set_start(net.named_parameters())
        batches = engine.open_data()
        if config.cache:
            stream = batches.train(first_step=0)
            for _ in range(steps):
                (batch,) = next(stream)
                know(engine.recipe, batch)
        torch.manual_seed(config.seed + 1)
        self.stream = batches.train(first_step=0)

    def scalars(self, logged: Losses, step: int) -> None:
        """In the place of the engine's log."""
        self.logged = logged

    def step(self) -> Losses:
        self.engine.train_step(next(self.stream))
        others = ("/lr", "/real", "/fake")
        return {k: v for k, v in self.logged.items() if not k.endswith(others)}


def know(recipe: Recipe, batch: Batch) -> None:
    """Have the cache of a stage keep what its frozen networks say of a batch."""
    if isinstance(recipe, OneStepRecipe):
        recipe._inputs(batch, sample=False)
    else:
        recipe._encode(batch, "lq", sample=False)
        recipe._faces(batch)
    recipe._encode(batch, "gt", sample=False)


def device_of(config: TrainConfig) -> torch.device:
    """Where the engine would train."""
    return torch.device("cpu") if config.cpu else compute_device()


class PlainLoop:
    """OSDFace's second stage as one writes it with diffusers, peft and torch.

    The embedder, VGG-16, the recogniser and the DataLoader are this package's: both loops need them
    and there is nothing to compare. All else is written out.
    """

    def __init__(self, folder: Path, shape: Shape, config: TrainConfig) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from peft import LoraConfig

        c, device = config.recipe, device_of(config)
        self.weights, self.timestep = c.weights, c.timestep
        lora = LoraConfig(
            r=c.rank,
            lora_alpha=c.alpha,
            init_lora_weights="gaussian",
            target_modules=list(LORA_TARGETS),
        )
        unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet").requires_grad_(False)
        self.discriminator = Discriminator(copy.deepcopy(unet), lora).to(device).train()
        unet.add_adapter(lora)
        self.unet = unet.to(device).train()
        vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
        self.vae = vae.requires_grad_(False).to(device)
        self.vre = VisualRepresentationEmbedder.from_files(c.vre).to(device)
        self.projection = copy.deepcopy(self.vre.embedding_change).requires_grad_(True)
        vgg, (alpha, beta) = VGG16.from_file(c.extractor.path)
        self.dists = Dists(vgg, alpha, beta).to(device)
        recogniser = IResNet(shape.recogniser)
        recogniser.load_state_dict(torch.load(c.recogniser.path, weights_only=True))
        self.recogniser = recogniser.eval().requires_grad_(False).to(device)
        a = alpha_bar()[self.timestep]
        self.signal, self.noise = a.sqrt().item(), (1 - a).sqrt().item()

        set_start((f"unet.{k}", p) for k, p in self.unet.named_parameters())
        set_start(self.discriminator.named_parameters())
        generator = [*self.unet.parameters(), *self.projection.parameters()]
        self.generated = [p for p in generator if p.requires_grad]
        self.judging = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.optimizer = _adamw(self.generated, config, "generator")
        self.judge_optimizer = _adamw(self.judging, config, "discriminator")
        self.clip = {name: o.clip for name, o in config.optimizers.items()}
        self.stream = Batches(config, device).train(first_step=0)
        self.seed = config.seed + 1
        torch.manual_seed(self.seed)

    def step(self) -> Losses:
        (batch,) = next(self.stream)
        gt, lq, w = batch["gt"], batch["lq"], self.weights
        with torch.no_grad():
            rows = self.vre.quantize.lookup(self.vre.tokenize(lq))
            z_lq, z_gt = self.encode(lq), self.encode(gt)

        self.judge_requires_grad(False)
        prompt = self.projection(rows)
        eps = self.unet(z_lq, self.timestep, encoder_hidden_states=prompt).sample
        z_0 = (z_lq - self.noise * eps) / self.signal
        restored = (self.vae.decode(z_0 / self.vae.config.scaling_factor).sample + 1) / 2
        perceptual = self.dists(restored, gt) + self.dists(sobel(restored), sobel(gt))
        terms = {
            "mse": w.mse * F.mse_loss(restored, gt),
            "perceptual": w.perceptual * perceptual.mean(),
            "identity": w.identity * self.identity(restored, gt),
            "gan": w.gan * F.softplus(-self.discriminator(z_0, prompt)).mean(),
        }
        sum(terms.values()).backward()
        norm = nn.utils.clip_grad_norm_(self.generated, self.clip["generator"])
        self.optimizer.step()
        self.optimizer.zero_grad()

        self.judge_requires_grad(True)
        prompt, z_0 = prompt.detach(), z_0.detach()
        logits = self.discriminator(torch.cat([z_gt, z_0]), torch.cat([prompt, prompt]))
        real, fake = logits.chunk(2)
        bce = (F.softplus(-real).mean() + F.softplus(fake).mean()) / 2
        bce.backward()
        judge_norm = nn.utils.clip_grad_norm_(self.judging, self.clip["discriminator"])
        self.judge_optimizer.step()
        self.judge_optimizer.zero_grad()
        return {f"generator/{k}": v.item() for k, v in terms.items()} | {
            "generator/grad_norm": norm.item(),
            "discriminator/bce": bce.item(),
            "discriminator/grad_norm": judge_norm.item(),
        }

    def encode(self, pictures: Tensor) -> Tensor:
        posterior = self.vae.encode(pictures * 2 - 1).latent_dist
        return posterior.sample() * self.vae.config.scaling_factor

    def judge_requires_grad(self, wanted: bool) -> None:
        for p in self.judging:
            p.requires_grad_(wanted)

    def identity(self, restored: Tensor, gt: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.recogniser(arcface_crop(gt))
        return 1 - F.cosine_similarity(self.recogniser(arcface_crop(restored)), wanted).mean()


class Discriminator(nn.Module):
    """The way down of a UNet with a LoRA, on latents at a random timestep, and two layers more."""

    def __init__(self, unet: nn.Module, lora: object) -> None:
        super().__init__()
        channels = unet.config.block_out_channels[-1]
        del unet.up_blocks, unet.conv_norm_out, unet.conv_act, unet.conv_out
        unet.add_adapter(lora)
        self.encoder = unet
        self.head = nn.Sequential(
            Conv2d(channels, 2 * channels, 4, 1, 1),
            GroupNorm(32, 2 * channels),
            nn.SiLU(),
            Conv2d(2 * channels, 1, 4, 1, 1),
        )
        self.register_buffer("alpha_bar", alpha_bar().float(), persistent=False)

    def forward(self, z_0: Tensor, prompt: Tensor) -> Tensor:
        t = torch.randint(0, len(self.alpha_bar), (len(z_0),), device=z_0.device)
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        h = a.sqrt() * z_0 + (1 - a).sqrt() * torch.randn_like(z_0)
        unet = self.encoder
        embedded = unet.time_embedding(unet.time_proj(t))
        h = unet.conv_in(h)
        for block in unet.down_blocks:
            if getattr(block, "has_cross_attention", False):
                h, _ = block(h, embedded, encoder_hidden_states=prompt)
            else:
                h, _ = block(h, embedded)
        return self.head(unet.mid_block(h, embedded, encoder_hidden_states=prompt))


class Dists(nn.Module):
    """As in the DISTS_pytorch package, with its weights normalised once."""

    def __init__(self, vgg: VGG16, alpha: Tensor, beta: Tensor) -> None:
        super().__init__()
        self.vgg = vgg
        total = alpha.sum() + beta.sum()
        self.register_buffer("alpha", alpha / total)
        self.register_buffer("beta", beta / total)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        maps_x = [x, *self.vgg.features(x)]
        maps_y = [y, *self.vgg.features(y)]
        sizes = [m.shape[1] for m in maps_x]
        alphas, betas = self.alpha.split(sizes, 1), self.beta.split(sizes, 1)
        similar = 0
        for a, b, fx, fy in zip(alphas, betas, maps_x, maps_y, strict=True):
            mean_x, mean_y = fx.mean([2, 3], keepdim=True), fy.mean([2, 3], keepdim=True)
            texture = (2 * mean_x * mean_y + 1e-6) / (mean_x**2 + mean_y**2 + 1e-6)
            var_x = ((fx - mean_x) ** 2).mean([2, 3], keepdim=True)
            var_y = ((fy - mean_y) ** 2).mean([2, 3], keepdim=True)
            cov = (fx * fy).mean([2, 3], keepdim=True) - mean_x * mean_y
            structure = (2 * cov + 1e-6) / (var_x + var_y + 1e-6)
            similar = similar + (a * texture + b * structure).sum(1).flatten()
        return 1 - similar


def sobel(images: Tensor) -> Tensor:
    """Edges of the grey picture, three times."""
    kernel = images.new_tensor([[1, 0, -1], [2, 0, -2], [1, 0, -1]])[None, None]
    grey = images.mean(1, keepdim=True)
    g_x = F.conv2d(grey, kernel, padding=1)
    g_y = F.conv2d(grey, kernel.transpose(2, 3), padding=1)
    return torch.sqrt(g_x**2 + g_y**2 + 1e-6).repeat(1, 3, 1, 1)


def arcface_crop(faces: Tensor) -> Tensor:
    """FFHQ-aligned faces in [0, 1] as ArcFace wants them: 112 px, in [-1, 1]."""
    x0, y0, x1, y1 = (round(v * faces.shape[-1] / 512) for v in (64.8, 61.2, 448.2, 444.7))
    cut = F.interpolate(
        faces[..., y0:y1, x0:x1], (112, 112), mode="bilinear", align_corners=False, antialias=True
    )
    return cut * 2 - 1


def _adamw(params: list[nn.Parameter], config: TrainConfig, phase: str) -> torch.optim.AdamW:
    o = config.optimizers[phase]
    return torch.optim.AdamW(params, o.lr, betas=o.betas, weight_decay=o.weight_decay)
