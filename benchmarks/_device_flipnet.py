"""A training step of FLIPNET's restoration mode as one writes it with diffusers, peft and torch."""

import copy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from facewright.core.diffusion.library import diffusers_classes
from facewright.core.modules.autoencoder import AutoencoderConfig
from facewright.core.modules.face_encoder import FaceEncoder, FaceEncoderConfig
from facewright.core.modules.vgg import VGG19
from facewright.core.schedule import alpha_bar
from facewright.training.data import Batches
from facewright.training.methods.flipnet import RestoreConfig
from facewright.training.settings.config import TrainConfig
from torch import Tensor, nn

from ._training_loops import Losses, _adamw, device_of
from ._training_setup import PAPER, Shape, paper_values, set_start, written

FLIPNET_PAPER = PAPER.with_name("flipnet_restore_paper.yaml")
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
TINY_FACES = FaceEncoderConfig(
    encoder=AutoencoderConfig(
        ch=32, ch_mult=(1, 2), num_res_blocks=1, attn_levels=(), z_channels=8
    ),
    input_size=16,
    hidden=16,
)
TEXT_TOKENS = 77


def write_flipnet_files(folder: Path, *, tiny: bool) -> None:
    """The face encoder and VGG-19, beside what `write_files` wrote."""
    FaceEncoder(TINY_FACES if tiny else None).save(folder / "faces.safetensors")
    tensors = {k.replace("features_.", "features."): v for k, v in VGG19().state_dict().items()}
    for value in tensors.values():
        if value.ndim == 4:  # torch's own start lets activations die away over 16 layers
            nn.init.kaiming_normal_(value, nonlinearity="relu")
    torch.save(tensors, folder / "vgg19.pth")


def flipnet_config(
    folder: Path, shape: Shape, arm: str, device: str, **changes: object
) -> TrainConfig:
    """flipnet_restore_paper.yaml on these files: without prompts, every picture degraded in one
    way, as the cache needs it."""
    values = paper_values(FLIPNET_PAPER, folder, shape, arm, device)
    del values["off_shelf"]
    values["data"]["captions"] = False
    values["recipe"] |= {
        "backbone": {"source": "sd", "path": str(folder)},
        "text": None,
        "tokens": TEXT_TOKENS,
        "face_encoder": str(folder / "faces.safetensors"),
        "extractor": {"kind": "vgg19", "path": str(folder / "vgg19.pth")},
    }
    return written(folder, arm, values | changes, RestoreConfig)


class PlainHub(nn.Module):
    """Eq. 4's matrices of one site."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.to_q, self.to_k, self.to_v = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.to_out = nn.Linear(dim, dim)


class SideBySide:
    """A self-attention whose first half of rows looks at the second half, too (Eq. 4 and 5)."""

    def __init__(self, hub: PlainHub, heads: int, inner: Any) -> None:
        self.hub, self.heads, self.inner = hub, heads, inner

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *args: Any, **kw: Any) -> Tensor:
        out = self.inner(attn, hidden_states, *args, **kw)
        mine, theirs = hidden_states.chunk(2)
        b, n, d = mine.shape

        def heads(x: Tensor) -> Tensor:
            return x.view(b, n, self.heads, d // self.heads).transpose(1, 2)

        hub = self.hub
        q, k, v = heads(hub.to_q(mine)), heads(hub.to_k(theirs)), heads(hub.to_v(theirs))
        read = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        out_mine, out_theirs = out.chunk(2)
        return torch.cat([out_mine + hub.to_out(read), out_theirs])


class PlainFlip:
    """Both branches in one call, Eq. 7 and 8; the face encoder and VGG-19 are this package's."""

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        unet_class, vae_class = diffusers_classes()  # before peft, which imports torchvision
        from peft import LoraConfig

        c, device = config.recipe, device_of(config)
        self.c, self.device = c, device
        unet = unet_class.from_pretrained(folder, subfolder="unet").requires_grad_(False)
        unet.add_adapter(
            LoraConfig(
                r=c.rank,
                lora_alpha=c.alpha,
                init_lora_weights="gaussian",
                target_modules=TARGETS,
            )
        )
        self.hubs = nn.ModuleDict()
        for name, block in unet.named_modules():
            if hasattr(block, "attn1"):
                hub = PlainHub(block.norm1.normalized_shape[0])
                self.hubs[name.replace(".", "/")] = hub
                block.attn1.set_processor(SideBySide(hub, block.attn1.heads, block.attn1.processor))
        self.unet, self.hubs = unet.to(device).train(), self.hubs.to(device)
        vae = vae_class.from_pretrained(folder, subfolder="vae")
        self.vae = vae.requires_grad_(False).to(device)
        self.factor = vae.config.scaling_factor
        self.encoder = FaceEncoder.from_file(c.face_encoder).requires_grad_(False).to(device)
        self.adapter = copy.deepcopy(self.encoder.adapter).requires_grad_(True)
        self.vgg = VGG19.from_file(c.extractor.path).to(device)
        self.alpha_bar = alpha_bar().float().to(device)
        set_start((f"unet.{k}", p) for k, p in self.unet.named_parameters())
        set_start((f"hubs.hubs.{k}", p) for k, p in self.hubs.named_parameters())
        set_start((f"adapter.{k}", p) for k, p in self.adapter.named_parameters())
        nets = (self.unet, self.hubs, self.adapter)
        self.trained = [p for net in nets for p in net.parameters() if p.requires_grad]
        self.optimizer = _adamw(self.trained, config, "main")
        self.clip = config.optimizers["main"].clip
        self.stream = Batches(config, device).train(first_step=0)
        self.seed = config.seed + 1
        torch.manual_seed(self.seed)

    def step(self) -> Losses:
        (batch,) = next(self.stream)
        gt, lq, c, device = batch["gt"], batch["lq"], self.c, self.device
        b = len(gt)
        with torch.no_grad():
            z_0 = torch.cat([self.encode(gt), self.encode(lq)])
            torch.rand(b, device=device)  # which prompts are dropped; here all are empty
            latents = self.encoder.latents(lq)
        kept = torch.rand(b, device=device) >= c.drop_face
        t = torch.randint(0, 1000, (2 * b,), device=device)
        torch.rand(2 * b, device=device)  # which conditions have no noise; here none
        eps = torch.randn_like(z_0)
        a = self.alpha_bar[t].view(-1, 1, 1, 1)
        z_t = a.sqrt() * z_0 + (1 - a).sqrt() * eps

        seen = self.adapter(latents)
        text = seen.new_zeros(b, TEXT_TOKENS, seen.shape[2])
        tokens = torch.cat([text, seen], 1)
        there = kept[:, None].expand(-1, seen.shape[1])
        there = torch.cat([torch.ones_like(text[..., 0], dtype=torch.bool), there], 1)
        predicted = self.unet(
            z_t,
            t,
            encoder_hidden_states=torch.cat([tokens, tokens]),
            encoder_attention_mask=torch.cat([there, there]),
        ).sample
        errors = (predicted - eps).square().mean((1, 2, 3))
        n = min(c.decoded, b)
        x_0 = (z_t[:n] - (1 - a[:n]).sqrt() * predicted[:n]) / a[:n].sqrt()
        restored = (self.vae.decode(x_0 / self.factor).sample + 1) / 2
        with torch.no_grad():
            wanted = self.vgg.features(gt[:n])
        stages = [
            F.mse_loss(x, y) for x, y in zip(self.vgg.features(restored), wanted, strict=True)
        ]
        terms = {
            "eps_input": errors[:b].mean() / 2,
            "eps_condition": errors[b:].mean() / 2,
            "mse": c.mse * F.mse_loss(restored, gt[:n]),
            "perceptual": c.perceptual * torch.stack(stages).mean(),
        }
        torch.stack([*terms.values()]).sum().backward()
        norm = nn.utils.clip_grad_norm_(self.trained, self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {f"main/{k}": v.item() for k, v in terms.items()} | {"main/grad_norm": norm.item()}

    def encode(self, pictures: Tensor) -> Tensor:
        return self.vae.encode(pictures * 2 - 1).latent_dist.sample() * self.factor
