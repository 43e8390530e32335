"""FLIPNET's BoostHub: attention from one image branch into another, beside every self-attention.

    F_ro = W_O Attn(W_Qx F_x, W_Ky F_y, W_Vy F_y)                   (FLIPNET, Eq. 4)
    F_joint = Self-Attn(F_x) + phi F_ro                             (Eq. 5)

x is what is being denoised, y what it is told to look at: to restore, y is the degraded photograph;
flip the two, and the same network learns how real photographs are degraded. Information flows one
way, so W_Ky F_y and W_Vy F_y do not depend on x and are computed once per image ("cached"); running
both branches side by side in every call ("joint") is how the weights are trained. Hosts differ in
how they reach the UNet's self-attention; what happens there is `BoostHubs.joined`, for all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

import torch
from torch import Tensor, nn

from ..architecture import CLOSED, Between, SavedNetwork
from ..errors import CheckpointError, FacewrightError, shorten
from ..files.known import BASE, BASE_WITH_TEXT, NANO_BASE, NANO_SIZE, KnownFile, bundled, trained
from ..geometry.face import FaceAnalyzer
from ..lora.files import read_lora
from ..modules.boosthub import MODES, Attention, BoostHub, Conditioning, attend
from ..schedule import add_noise, alpha_bar
from ._flipnet_faces import FlipnetFaces, FlipnetOptions, NanoFlipnetOptions
from ._recognised_faces import load_face_encoder
from ._spec import ModelSource, RestorerSpec

BOOSTHUB_FORMAT = "flipnet-boosthub"
TEXT_TOKENS = 77
"""Length of a prompt, also of the zeros that stand for one where a model reads no text."""
_SITE_END = ".attn1.to_q.weight"


@dataclass(frozen=True, kw_only=True)
class BoostHubConfig:
    """Where the BoostHubs sit, and what they were trained for.

    Attributes:
        sites: path of each transformer block in diffusers' UNet -> channels.
        dim_head: channels per attention head (64 in SD 2.1).
        mode: "restore" (the condition is the degraded image) or "degrade" (the good one).
        base: name of the UNet, for people and messages.
    """

    __pydantic_config__ = CLOSED

    sites: Annotated[dict[str, Annotated[int, Between(1, 16384)]], Between(1, 512)]
    dim_head: Annotated[int, Between(1, 16384)]
    mode: Literal["restore", "degrade"] = "restore"
    base: str = "sd21-base"

    def __post_init__(self) -> None:
        if any(dim % self.dim_head for dim in self.sites.values()):
            raise FacewrightError(
                f"its self-attentions' channels should be multiples of its heads' {self.dim_head}"
            )

    def check_mode(self, mode: str, source: str) -> None:
        """Raise CheckpointError where weights of file `source` were trained for the other mode."""
        if self.mode != mode:
            raise CheckpointError(
                f'{source} was trained to {self.mode}, not to {mode}. Choose the file for "{mode}".'
            )


class BoostHubs(SavedNetwork):
    """One BoostHub per self-attention of a UNet (16 in SD 2.1, 49.6 M parameters)."""

    format = BOOSTHUB_FORMAT
    config_type = BoostHubConfig
    what = "BoostHub weights"
    config: BoostHubConfig

    def __init__(self, config: BoostHubConfig) -> None:
        super().__init__()
        self.config = config
        # Module names may not contain dots.
        self.hubs = nn.ModuleDict(
            {
                _module_name(site): BoostHub(dim, dim // config.dim_head)
                for site, dim in config.sites.items()
            }
        )

    def __getitem__(self, site: str) -> BoostHub:
        return cast("BoostHub", self.hubs[_module_name(site)])

    @classmethod
    def beside(cls, unet: Mapping[str, Tensor], config: BoostHubConfig) -> Self:
        """Fresh BoostHubs: W_Q, W_K, W_V copied from each self-attention, W_O zero.

        Args:
            unet: the UNet's tensors under diffusers' names.
            config: its `sites` as `find_sites` finds them.
        """
        hubs = cls(config)
        with torch.no_grad():
            for site in config.sites:
                for name in ("to_q", "to_k", "to_v"):
                    weight = unet[f"{site}.attn1.{name}.weight"]
                    getattr(hubs[site], name).weight.copy_(weight)
        return hubs

    def joined(
        self,
        site: str,
        f: Tensor,
        out: Tensor,
        state: Conditioning,
        *,
        chunks: int = 1,
        attention: Attention = attend,
    ) -> Tensor:
        """F_joint at a site, or what the self-attention gave where there is nothing to add.

        Args:
            site: path of the transformer block.
            f: (r, n, d) features after the LayerNorm, of all rows of this call.
            out: (r, n, d) what the self-attention made of them.
            state: of this run; filled in phase "capture".
            chunks: groups of rows that each hold the whole batch (positive and negative prompt).
            attention: the host's.

        Raises:
            FacewrightError: another patch changed the number of tokens, or the condition holds
                neither one image nor as many as are sampled.
        """
        if site not in self.config.sites:
            return out
        if f.shape != out.shape:
            raise FacewrightError(
                f"The self-attention at {site} took {tuple(f.shape)} and gave {tuple(out.shape)}: "
                "something else on this model merges or drops tokens (ToMe, HyperTile and the "
                "like). Take that node out before Apply BoostHub."
            )
        hub = self[site]
        if state.phase == "capture":
            state.kept[site] = hub.project(f)
            return out
        if state.phi == 0:
            return out
        if state.phase == "joint":
            mine = len(f) - state.rows
            read = hub.read(f[:mine], *hub.project(f[mine:]), attention)
            return torch.cat([out[:mine] + state.phi * read, out[mine:]])
        k, v = (rows_for(x.to(f), len(f), chunks) for x in state.kept[site])
        return out + state.phi * hub.read(f, k, v, attention)

    def named_tensors(self) -> dict[str, Tensor]:
        """`<site>.boosthub.to_q.weight` and the like."""
        return {
            f"{site}.boosthub.{name}": value
            for site in self.config.sites
            for name, value in self[site].state_dict().items()
        }

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], **about: Any
    ) -> Self:
        """See `SavedNetwork`."""
        renamed = {}
        for key, value in tensors.items():
            site, _, name = key.partition(".boosthub.")
            renamed[f"hubs.{_module_name(site)}.{name}"] = value
        return super().from_tensors(renamed, metadata, **about)


def find_sites(unet: Mapping[str, Any]) -> dict[str, int]:
    """Self-attention sites of a UNet given by its tensors under diffusers' names -> channels."""
    return {
        key.removesuffix(_SITE_END): value.shape[1]
        for key, value in unet.items()
        if key.endswith(_SITE_END)
    }


def check_sites(
    config: BoostHubConfig, unet: Mapping[str, int], heads: Mapping[str, int], *, model: str
) -> None:
    """Refuse BoostHub weights that belong to another UNet.

    Args:
        config: of the weights.
        unet: site -> channels of the UNet they are to be put on.
        heads: site -> attention heads there; SD 1.5 and 2.1 differ in nothing else.
        model: its name, for the message.

    Raises:
        CheckpointError: sites, channels or heads differ.
    """
    wanted = {site: dim // config.dim_head for site, dim in config.sites.items()}
    if config.sites != unet or wanted != dict(heads):
        theirs = _summary(config.sites, wanted)
        ours = _summary(unet, heads)
        raise CheckpointError(
            f"These BoostHub weights were made for {config.base} ({theirs}), but {model} has "
            f"{ours}. Load the model they belong to, or weights trained on this model."
        )


def _summary(sites: Mapping[str, int], heads: Mapping[str, int]) -> str:
    if not sites:
        return "no self-attention"
    widths, counts = (
        ", ".join(str(v) for v in sorted(set(values.values()))) for values in (sites, heads)
    )
    return f"{len(sites)} self-attentions of {widths} channels and {counts} heads"


def check_condition(condition: int, images: int) -> None:
    """Refuse a condition that is neither one image for all nor one for each.

    Raises:
        FacewrightError: `condition` images for `images` that are sampled.
    """
    if condition not in (1, images):
        raise FacewrightError(
            f"The condition of Apply BoostHub holds {condition} images, but {images} are sampled. "
            "Give one condition image for all, or one for each image of the latent batch."
        )


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What the BoostHubs on a model look at, and how.

    Attributes:
        latent: (b, c, h, w) as the VAE gives it; of any size, one image for all or one for each.
        phi: enhance weight of Eq. 5.
        timestep: noise level of the condition branch, 0 to 999; at 0 it is clean.
        seed: of the condition branch's noise.
        mode: "cached": its keys and values are computed once per run; "joint": in every call.
        tokens: (1 or b, n, d) prompt of the condition branch; None: the positive one.
        one_noise: the same noise on every image, so that none depends on the others.
    """

    latent: Tensor
    phi: float = 1.0
    timestep: int = 0
    seed: int = 0
    mode: Literal["cached", "joint"] = "cached"
    tokens: Tensor | None = None
    one_noise: bool = False

    def check_latent(self, channels: int) -> None:
        """Raise FacewrightError where a model with latents of `channels` cannot look at this."""
        if self.latent.ndim != 4 or self.latent.shape[1] != channels:
            raise FacewrightError(
                f"`condition` of Apply BoostHub is a latent of shape {tuple(self.latent.shape)}, "
                f"but the model takes (images, {channels}, height, width). Encode the condition "
                "image with the VAE that belongs to the model."
            )
        # With phi 0 nobody looks: NaN is as good as any.
        if self.phi and not torch.isfinite(self.latent).all():
            raise FacewrightError(
                "`condition` of Apply BoostHub holds NaN or infinite numbers. Encode its picture "
                "in float32 (ComfyUI: start it with --fp32-vae), and look whether it is sound."
            )

    def branch(self, z_y: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
        """Input of the condition branch: latents at `timestep` and tokens, a row for each image.

        The noise is drawn on the CPU; `seed` alone decides it.

        Args:
            z_y: (b, c, h, w) `latent` at the model's scale.
            positive: (1 or b, n, d) the prompt of what is sampled.

        Raises:
            FacewrightError: prompt and latent are of different batches.
        """
        tokens = positive if self.tokens is None else self.tokens
        rows = max(len(z_y), len(tokens))
        if {len(z_y), len(tokens)} - {1, rows}:
            raise FacewrightError(
                f"The condition of Apply BoostHub holds {len(z_y)} images, but its prompt is for "
                f"{len(tokens)}. Take both from the same batch of faces."
            )
        if self.timestep:
            generator = torch.Generator().manual_seed(self.seed)
            drawn = z_y[:1] if self.one_noise else z_y
            eps = torch.randn(drawn.shape, generator=generator).to(z_y)
            z_y = add_noise(z_y, eps, alpha_bar()[self.timestep][None])
        return z_y.expand(rows, -1, -1, -1), tokens.expand(rows, -1, -1)


ALREADY_APPLIED = (
    "This model has been through an Apply BoostHub already, and one condition is all it can look "
    "at. Connect the model from before that node."
)


def rows_for(x: Tensor, rows: int, chunks: int = 1) -> Tensor:
    """What belongs to the condition's images (1 or b, ...), for every row of a call: (rows, ...).

    Args:
        chunks: groups of rows that each hold the whole batch.

    Raises:
        FacewrightError: as `check_condition`.
    """
    images = rows // chunks
    check_condition(len(x), images)
    x = x.expand(images, *x.shape[1:]).contiguous()
    return x if chunks == 1 else x.repeat(chunks, *[1] * (x.ndim - 1))


def _module_name(site: str) -> str:
    return site.replace(".", "/")


RESTORE_FILES = (
    trained("flipnet_restore", "boosthub", "FLIPNET's BoostHubs to restore", "flipnet-restore"),
    trained("flipnet_restore", "face_encoder", "FLIPNET's face encoder", "flipnet-restore"),
    trained("flipnet_restore", "lora", "FLIPNET's UNet LoRA to restore", "flipnet-restore"),
)
DEGRADE_FILES = (
    trained("flipnet_degrade", "boosthub", "FLIPNET's BoostHubs to degrade", "flipnet-degrade"),
    trained("flipnet_degrade", "lora", "FLIPNET's UNet LoRA to degrade", "flipnet-degrade"),
)


def nano_files(mode: str) -> tuple[KnownFile, ...]:
    """The bundled BoostHubs, face encoder and LoRA for a mode.

    Raises:
        CheckpointError: there is no such mode.
    """
    if mode not in MODES:  # it may come from a workflow
        raise CheckpointError(f"FLIPNET knows no mode {shorten(mode)!r}, only restore and degrade.")
    stage = f"flipnet-{mode}"
    return (
        bundled(f"nano_flipnet_{mode}_boosthub", "nano BoostHubs", stage, "boosthub"),
        bundled("nano_face_encoder", "the nano face encoder", stage, "face_encoder"),
        bundled(f"nano_flipnet_{mode}_lora", "FLIPNET's nano LoRA", stage, "lora"),
    )


def _load(
    files: Mapping[KnownFile, Path],
    source: ModelSource,
    analyzer: FaceAnalyzer,
    options: FlipnetOptions,
    size: int,
) -> FlipnetFaces:
    base, boosthub, encoder, lora = files.values()
    device = source.device()
    hubs = BoostHubs.from_file(boosthub)
    hubs.config.check_mode("restore", boosthub.name)
    faces = FlipnetFaces(
        backbone=source.backbone(base, read_lora(lora)),
        hubs=hubs.to(device),
        encoder=load_face_encoder(encoder).to(device),
        size=size,
        device=device,
        options=options,
    )
    faces.check()
    return faces


SPECS = (
    RestorerSpec(
        name="flipnet",
        help="which starts from noise, in many steps",
        files=(BASE, *RESTORE_FILES),
        needed=lambda source: (BASE_WITH_TEXT, *RESTORE_FILES),
        further_files=DEGRADE_FILES,
        build=partial(_load, options=FlipnetOptions(), size=512),
        analyzer="auto",
        options=FlipnetOptions,
    ),
    RestorerSpec(
        name="nano-flipnet",
        help="its demo models for rendered faces",
        files=(NANO_BASE, *nano_files("restore")),
        build=partial(_load, options=NanoFlipnetOptions(), size=NANO_SIZE),
        analyzer="nano",
        options=NanoFlipnetOptions,
    ),
)
