"""FLIPNET (Sec. 4): one network denoises a good and a degraded photograph of the same face side by
side, the one looking at the other through BoostHubs.

`flipnet-restore`: the good one looks at the degraded one. `flipnet-degrade`: the other way round.
Trained are a LoRA of the UNet's attention, the BoostHubs, and, to restore, the adapter of the face
tokens; VAE, text encoder and face encoder stay frozen.
"""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ...core.devices import wide_device
from ...core.diffusion.boosthub import check_fits
from ...core.methods._recognised_faces import RecognisedFaces, RecognisedFacesConfig
from ...core.methods.flipnet import BoostHubConfig, BoostHubs, find_sites
from ...core.modules.face_encoder import FaceEncoder
from ...core.modules.identity import IdentityEncoder
from ...core.people.recogniser import load_recogniser
from ...core.sampling import Predict, ddim, guided
from ...core.schedule import NUM_TRAIN_TIMESTEPS, add_noise, alpha_bar, eps_to_x0
from .._backbone import load_backbone
from .._lora import ATTENTION_TARGETS, LORA_LAYERS, LoraLayers, add_lora, merged_state
from .._text import NoText, TextEncoder
from ..losses.extractors import ExtractorConfig
from ..recipe import Batch, Evaluation, Progress
from ..settings.config import ConfigError, Strict, TrainConfig
from ..settings.data_sections import Photographs
from ._joint import JointDenoiser, Prompt
from ._latent import LatentConfig, LatentRecipe
from .flipnet_faces import encoder_within

_MEASURED = (50, 200, 400, 600, 800)
"""Timesteps at which held-out noise predictions are scored."""


class SamplingConfig(Strict):
    """How the picture grid is sampled."""

    steps: int = Field(10, ge=1, le=NUM_TRAIN_TIMESTEPS, description="of DDIM")
    eta: float = Field(0.0, ge=0, le=1, description="share of fresh noise in every step")
    cfg: float = Field(1.5, ge=1, description="scale of classifier-free guidance")
    negative: str = Field("", description="negative prompt")


class StartConfig(Strict):
    """Exported files to start from in place of fresh weights, of either mode."""

    boosthub: Path
    lora: Path | None = Field(None, description="none: a fresh LoRA")


class FlipConfig(LatentConfig):
    start: StartConfig | None = Field(
        None, description="the other mode has learned already where to look: few steps are enough"
    )
    text: Path | None = Field(
        None, description="diffusers folder of SD 2.1-base, for its text encoder; none: no prompts"
    )
    tokens: int = Field(77, ge=1, description="length of the prompt of zeros where `text` is none")
    rank: int = Field(64, ge=1)
    alpha: float = Field(64, gt=0)
    lora_layers: LoraLayers = Field("attention", description=LORA_LAYERS)
    boosthub_train: Literal["whole", "lora"] = Field(
        "whole",
        description="lora: W_O, and a LoRA of `rank` and `alpha` on W_Q, W_K and W_V, which stay "
        "the base's self-attention's; a third of the weights and optimiser states",
    )
    phi: float = Field(1.0, ge=0, description="enhance weight in training, Eq. 5")
    drop_text: float = Field(0.5, ge=0, le=1, description="share of samples with the empty prompt")
    clean_condition: float = Field(
        0.0, ge=0, le=1, description="share of samples whose condition has no noise, as in use"
    )
    weighting: Literal["eps", "v"] = Field(
        "eps", description="v: errors divided by alpha_bar(t), so that late timesteps count too"
    )
    sampling: SamplingConfig = SamplingConfig.model_validate({})
    name: str = Field("flipnet", description="start of the exported files' names")

    @model_validator(mode="after")
    def _reads(self) -> Self:
        if self.backbone.source == "sd" and "text" not in self.model_fields_set:
            raise ValueError(
                "FLIPNET reads prompts, and `text` names no text encoder; name the diffusers "
                "folder of SD 2.1-base, or write `text: null` for prompts of zeros"
            )
        return self


class FaceRecogniserConfig(Strict):
    """A recogniser's vector as face tokens: FLIPNET's comparison in Fig. 4."""

    path: Path = Field(description="weights of ArcFace, AdaFace, or a nano identity encoder")
    tokens: int = Field(
        256, ge=1, description="made of the vector; as many as the face encoder in its place gives"
    )
    hidden: int = Field(512, ge=1, description="of the adapter")


class RestoreConfig(FlipConfig):
    face_encoder: Path | None = Field(
        None,
        description="file of face-associate; or of face-autoencoder, branch lq, to go without "
        "association",
    )
    face_recogniser: FaceRecogniserConfig | None = Field(None, description="in its place")
    drop_face: float = Field(0.3, ge=0, le=1, description="share of samples without face tokens")
    mse: float = Field(1.0, ge=0, description="lambda_mse of L_rm, on [0, 1]")
    perceptual: float = Field(0.01, ge=0, description="lambda_p of L_rm")
    extractor: ExtractorConfig | None = Field(None, description="what `perceptual` looks through")
    pixel_weight: Literal["alpha_bar", "none"] = Field(
        "alpha_bar", description="weight of a sample's pixel terms by its timestep"
    )
    decoded: int = Field(4, ge=0, description="samples of a batch whose x_0 is decoded; memory")

    @model_validator(mode="after")
    def _nothing_missing(self) -> Self:
        """A term that has a weight and no network would be left out without a word."""
        if self.perceptual and self.decoded and self.extractor is None:
            raise ValueError(
                f"`perceptual` is {self.perceptual:g}, and no `extractor` names the network that "
                "this term looks through; name its file, or write `perceptual: 0`"
            )
        return self

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.face_encoder is None) == (self.face_recogniser is None):
            raise ValueError(
                "the face tokens come from one of `face_encoder` (a file of face-associate) and "
                "`face_recogniser`: name one, and set the other to null"
            )
        return self


class _FlipRecipe(LatentRecipe):
    """L_ldm = ||eps - eps_theta(x_tx, y_ty, t_x, t_y, c)||^2 over both branches (Eq. 7)."""

    Config = FlipConfig
    config: FlipConfig
    method = "flipnet"
    settings = (
        "Load LoRA (all modules).lora={name}_lora.safetensors",
        "Load BoostHub.boosthub={name}_boosthub.safetensors",
    )
    large = ("codec", "text", "denoiser.unet")
    needs_lq = True
    mode: ClassVar[Literal["restore", "degrade"]]
    input_key: ClassVar[str]
    condition_key: ClassVar[str]

    def _face_encoder(self) -> FaceEncoder | RecognisedFaces | None:
        """Whose tokens the prompt carries."""
        return None

    def check_data(self, config: TrainConfig) -> None:
        data, text = config.data, self.config.text
        if not isinstance(data, Photographs):
            return
        if text is None and data.captions:
            raise ConfigError(
                "`data.captions` is true, and no `recipe.text` names the text encoder that would "
                "read them. Name the diffusers folder of SD 2.1-base, or take `captions` out."
            )
        if text and "captions" not in data.model_fields_set:
            raise ConfigError(
                "`recipe.text` names a text encoder, and the section `data:` does not say whether "
                "the pictures have captions. Write `captions: true` there to read the text file "
                "beside each picture, or `captions: false` to train with empty prompts."
            )

    def build(self) -> dict[str, nn.Module]:
        c = self.config
        self.alpha_bar = alpha_bar()
        self.backbone = load_backbone(c.backbone)
        unet = self.backbone.unet
        tensors = unet.state_dict()
        sites = find_sites(tensors)
        heads = unet.get_submodule(f"{next(iter(sites))}.attn1").heads
        hubs = BoostHubs.beside(
            tensors,
            BoostHubConfig(
                sites=sites,
                dim_head=next(iter(sites.values())) // heads,
                mode=self.mode,
                base=self.backbone.name,
            ),
        )
        if c.start:
            learned = BoostHubs.from_file(c.start.boosthub)
            check_fits(learned, unet, self.backbone.name)
            hubs.load_state_dict(learned.state_dict())
        if c.boosthub_train == "lora":
            add_lora(hubs, c.rank, c.alpha, ATTENTION_TARGETS[:3])
            for site in sites:
                # It starts at zero: a LoRA alone would leave nothing for the others to learn from.
                hubs[site].to_out.requires_grad_(True)
        self._begin_lora(c.start.lora if c.start else None)
        self.face_encoder = self._face_encoder()
        adapter = None
        if self.face_encoder:
            adapter = copy.deepcopy(self.face_encoder.adapter).requires_grad_(True)
        return {"denoiser": JointDenoiser(unet, hubs, adapter, merged=c.merged)}

    def frozen(self) -> dict[str, nn.Module]:
        c, nets = self.config, super().frozen()
        width = self.backbone.unet.config.cross_attention_dim
        nets["text"] = TextEncoder(c.text) if c.text else NoText(c.tokens, width)
        if self.face_encoder:
            nets["face_encoder"] = self.face_encoder
        return nets

    def adam_only(self) -> tuple[str, ...]:
        return ("lora_", "adapter")

    def _text(self, batch: Batch) -> Tensor:
        return self.nets["text"](batch.get("caption") or [""] * len(batch["gt"]))

    def _faces(self, batch: Batch) -> Tensor | None:
        if not self.face_encoder:
            return None
        with torch.no_grad():
            look = self.nets["face_encoder"].latents
            return self.remembered("faces", "face_encoder", batch, "lq", look)

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        c, b = self.config, len(batch["gt"])
        z_0 = torch.cat(
            [
                self._encode(batch, key, sample=c.sample_latents)
                for key in (self.input_key, self.condition_key)
            ]
        )
        text = self._text(batch)
        dropped = torch.rand(b, device=self.device) < c.drop_text
        text = torch.where(dropped[:, None, None], self.nets["text"]([""]), text)
        faces, kept = self._faces(batch), None
        if faces is not None and isinstance(c, RestoreConfig):
            kept = torch.rand(b, device=self.device) >= c.drop_face
        t = torch.randint(0, NUM_TRAIN_TIMESTEPS, (2 * b,), device=self.device)
        clean = torch.rand(2 * b, device=self.device) < c.clean_condition
        clean[:b] = False
        t = t.masked_fill(clean, 0)
        eps = torch.randn_like(z_0)
        a = self.alpha_bar[t.cpu()]
        z_t = torch.where(clean[:, None, None, None], z_0, add_noise(z_0, eps, a))
        predicted = self.nets["denoiser"](z_t, t, text, faces, kept, c.phi).float()
        errors = (predicted - eps).square().mean((1, 2, 3))
        if c.weighting == "v":
            # |v - v_theta|^2 = |eps - eps_theta|^2 / alpha_bar, v = sqrt(a) eps - sqrt(1 - a) x_0
            # (arXiv:2202.00512, App. D): a plain mean hardly feels what happens near pure noise,
            # where the picture is laid out.
            errors = errors / a.to(errors)
        # What carries no noise has none to predict.
        errors = errors.masked_fill(clean, 0)
        noisy = (~clean[b:]).sum().clamp(min=1)
        terms = {"eps_input": errors[:b].mean() / 2, "eps_condition": errors[b:].sum() / noisy / 2}
        return terms | self._pixel_terms(z_t[:b], predicted[:b], a[:b], batch)

    def _pixel_terms(self, z_t: Tensor, eps: Tensor, a: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Terms on the input branch's predicted x_0."""
        return {}

    def _prompts(self, batch: Batch) -> tuple[Prompt, Prompt]:
        """Positive and negative, as inference gives them."""
        denoiser = self.nets["denoiser"]
        negative = self.nets["text"]([self.config.sampling.negative] * len(batch["gt"]))
        positive = denoiser.prompt(self._text(batch), self._faces(batch))
        return positive, Prompt(negative)

    def sample(self, batch: Batch, noise: Tensor, *, phi: float = 1.0) -> Tensor:
        """Pictures (b, 3, h, w) in [0, 1] of the input branch, from pure noise and the condition.

        The condition branch runs once, clean; its keys and values serve both prompts.
        """
        s, denoiser = self.config.sampling, self.nets["denoiser"]
        positive, negative = self._prompts(batch)
        z_y = self._encode(batch, self.condition_key, sample=False)

        def given(prompt: Prompt) -> Predict:
            return lambda z, t: denoiser.denoise(z, t, prompt, phi=phi)

        predict = guided(given(positive), given(negative), s.cfg)
        fresh = torch.Generator().manual_seed(0)
        with denoiser.looking_at(z_y, positive):
            z_0 = ddim(predict, noise, steps=s.steps, eta=s.eta, generator=fresh)
        return self._decode(z_0).clamp(0, 1)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Noise errors by timestep, with the condition and without it (phi = 0); sampled pictures
        of the first batch and their scores against the truth in the face box."""
        denoiser, seen = self.nets["denoiser"], {}
        images: dict[str, Tensor] = {}
        for batch in batches:
            z_0 = self._encode(batch, self.input_key, sample=False)
            prompt, _ = self._prompts(batch)
            z_y = self._encode(batch, self.condition_key, sample=False)
            with denoiser.looking_at(z_y, prompt):
                for t in _MEASURED:
                    eps = torch.randn_like(z_0)
                    z_t = add_noise(z_0, eps, self.alpha_bar[t])
                    for phi, ending in ((1.0, ""), (0.0, "_alone")):
                        error = (denoiser.denoise(z_t, t, prompt, phi=phi) - eps).square()
                        seen.setdefault(f"eps_mse_t{t}{ending}", []).append(error.mean((1, 2, 3)))
            if not images:
                made = self.sample(batch, torch.randn_like(z_0))
                compared, gt = {"lq": batch["lq"], f"{self.mode}d": made}, {"gt": batch["gt"]}
                images = compared | gt if self.mode == "restore" else gt | compared
                for name, picture in compared.items():
                    for key, value in self._scores(picture, batch).items():
                        seen.setdefault(f"{name}/{key}", []).append(value)
        return Evaluation({k: torch.cat(v).mean().item() for k, v in seen.items()}, images)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        """The LoRA and the BoostHubs."""
        denoiser = self.nets["denoiser"]
        dtype, training = self._stored(facts)
        lora = self._save_lora(folder, denoiser.bare_unet, facts, mode=self.mode)
        path, hubs, c = (
            folder / f"{self.config.name}_boosthub.safetensors",
            denoiser.hubs,
            self.config,
        )
        if c.boosthub_train == "lora":
            # Files hold whole weights, however they were trained: readers need to know one kind.
            hubs = BoostHubs(hubs.config)
            hubs.load_state_dict(merged_state(denoiser.hubs))
            about = {"boosthub_train": "lora", "rank": str(c.rank), "alpha": str(c.alpha)}
            training = {**about, **training}
        hubs.save(path, dtype=dtype, **training)
        return [lora, path]


class RestoreRecipe(_FlipRecipe):
    """L_rm = L_ldm + lambda_mse L_mse + lambda_p L_p (Eq. 8), face tokens in the prompt."""

    stage = "flipnet-restore"
    workflow = "flipnet_restore"
    settings = (
        *_FlipRecipe.settings,
        "Load Face Encoder.face_encoder={name}_face_encoder.safetensors",
    )
    Config = RestoreConfig
    config: RestoreConfig
    face_encoder: FaceEncoder | RecognisedFaces
    mode = "restore"
    input_key, condition_key = "gt", "lq"

    def _face_encoder(self) -> FaceEncoder | RecognisedFaces:
        path, other = self.config.face_encoder, self.config.face_recogniser
        if other is None:
            return encoder_within(cast("Path", path))
        recogniser = load_recogniser(other.path, calibrated=False)
        net = recogniser.net
        config = RecognisedFacesConfig(
            num_tokens=other.tokens,
            hidden=other.hidden,
            width=self.backbone.unet.config.cross_attention_dim,
            nano=net.config if isinstance(net, IdentityEncoder) else None,
        )
        return RecognisedFaces(recogniser, config)

    def frozen(self) -> dict[str, nn.Module]:
        c, nets = self.config, super().frozen()
        if c.extractor and c.perceptual:
            nets["extractor"] = c.extractor.load()
        return nets

    def _pixel_terms(self, z_t: Tensor, eps: Tensor, a: Tensor, batch: Batch) -> dict[str, Tensor]:
        c = self.config
        n = min(c.decoded, len(z_t))  # the first ones: a batch is in random order
        if not n:
            return {}
        x_0 = eps_to_x0(z_t[:n], eps[:n], a[:n])
        # Not clamped: an overshooting pixel must still feel its error.
        restored, gt = self._decode(x_0), batch["gt"][:n]
        weight = a[:n].to(restored)
        if c.pixel_weight == "none":
            # In float64, as this mean has always been taken, where the device has it.
            has = wide_device(restored.device) == restored.device
            weight = torch.ones_like(weight, dtype=a.dtype if has else None)
        mse = (restored - gt).square().mean((1, 2, 3))
        terms = {"mse": c.mse * (weight * mse).mean()}
        if "extractor" in self.nets:
            look = self.nets["extractor"].features
            with torch.no_grad():
                wanted = look(gt)
            stages = [
                (a - b).square().mean((1, 2, 3))
                for a, b in zip(look(restored), wanted, strict=True)
            ]
            distance = torch.stack(stages).mean(0)
            terms["perceptual"] = c.perceptual * (weight * distance).mean()
        return terms

    def export(self, folder: Path, facts: dict) -> list[Path]:
        """The LoRA, the BoostHubs, and the face encoder with the adapter trained with them."""
        encoder = copy.deepcopy(self.face_encoder).cpu()
        adapter = self.nets["denoiser"].adapter.state_dict()
        encoder.adapter.load_state_dict({k: v.cpu() for k, v in adapter.items()})
        path = folder / f"{self.config.name}_face_encoder.safetensors"
        dtype, training = self._stored(facts)
        encoder.save(path, dtype=dtype, **cast("dict[str, Any]", training))
        return [*super().export(folder, facts), path]


class DegradeRecipe(_FlipRecipe):
    """L_dm = L_ldm: the degraded photograph is denoised looking at the good one; text alone."""

    stage = "flipnet-degrade"
    workflow = "flipnet_degrade"
    goes_into = "`start` of stage `flipnet-restore`, and `facewright synthesize`"
    mode = "degrade"
    input_key, condition_key = "lq", "gt"
