"""Faces restored by FLIPNET: sampled from noise by a model that looks at the degraded ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from ..geometry.face import DenseLandmarker
from ..modules.face_encoder import FaceEncoder, append_tokens
from ..options import check_options, option
from ..restorer import decode_finite, from_padded, padded
from ..sampling import SCHEDULERS, euler, guided, noisy, sigmas
from ._spec import ManyStepBackbone

if TYPE_CHECKING:
    from ..people.person import Person
    from ..people.recogniser import Recogniser
    from ._recognised_faces import RecognisedFaces


@dataclass(frozen=True, kw_only=True)
class FlipnetOptions:
    """How FLIPNET samples; the defaults are those of its paper on Stable Diffusion 2.1."""

    phi: float = option(
        1.0,
        "How much the degraded face counts. 0: not at all; 1: as trained; more: closer to it.",
        low=0.0,
        high=2.0,
        step=0.01,
    )
    steps: int = option(50, "Steps from noise to the restored face.", low=1, high=1000)
    guidance: float = option(
        1.5, "How much the prompt counts; 1: no guidance.", low=0.0, high=100.0, step=0.1
    )
    prompt: str = option("a portrait photo of a person", "What the pictures show.")
    negative: str = option(
        "low quality, blurry, poorly rendered hands", "What they should not be like."
    )
    face_tokens: bool = option(True, "Add what the face encoder sees to the prompt.")
    lq_timestep: int = option(
        0,
        "Noise on the degraded face where it is looked at, in training timesteps: with more, its "
        "finest details are taken less literally.",
        low=0,
        high=300,
    )
    lq_seed: int = option(0, "Seed of that noise.", low=0, high=2**64 - 1)
    scheduler: str = option("ddim_uniform", "Noise levels of the steps.", choices=SCHEDULERS)
    fresh_noise: float = option(
        0.0, "Share of fresh noise in each step.", low=0.0, high=1.0, step=0.05
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, kw_only=True)
class NanoFlipnetOptions(FlipnetOptions):
    """The same for the bundled models, which read no text and predict badly at high noise."""

    steps: int = option(30, "Steps from noise to the restored face.", low=1, high=1000)
    prompt: str = option("", "What the pictures show; the nano models read no text.")
    negative: str = option("", "What they should not be like; the nano models read no text.")
    scheduler: str = option("normal", "Noise levels of the steps.", choices=SCHEDULERS)
    fresh_noise: float = option(
        1.0, "Share of fresh noise in each step.", low=0.0, high=1.0, step=0.05
    )


@dataclass(frozen=True, kw_only=True)
class FlipnetFaces:
    """A `FaceRestorer`.

    Every face starts from the same noise, so that none depends on the others, and the frames of a
    video differ by what they show alone.
    """

    backbone: ManyStepBackbone
    hubs: nn.Module
    """`core.methods.flipnet.BoostHubs`."""
    encoder: "FaceEncoder | RecognisedFaces"
    size: int
    device: torch.device
    options: FlipnetOptions
    """Where none are given."""
    recogniser: "Recogniser | None" = None
    landmarker: DenseLandmarker | None = None
    takes_people: bool = False

    def check(self) -> None:
        """Raise FacewrightError where the parts do not go together."""
        side = 8 * self.backbone.factor
        nothing = torch.zeros(1, 3, side, side)
        self.backbone.looking_at(self.hubs, self.backbone.encode(nothing))
        append_tokens(self.backbone.read(self.options.prompt), self.encoder.adapter.positions[None])

    @torch.no_grad()
    def restore(
        self,
        lq: Tensor,
        people: "Sequence[Person | None]",
        *,
        options: Any = None,
        generator: Generator | None = None,
        chunk_size: int = 4,
        on_chunk: Callable[[int], object] = lambda faces: None,
    ) -> Tensor:
        """See `FaceRestorer`; of the generator its seed is taken.

        Raises:
            FacewrightError: a prompt for models that read no text.
            NonFiniteError: the decoder gave NaN or infinity, even in float32.
        """
        options = options or self.options
        seed = 0 if generator is None else generator.initial_seed()
        prompts = self.backbone.read(options.prompt), self.backbone.read(options.negative)
        restored = torch.empty_like(lq)
        for part, place in zip(lq.split(chunk_size), restored.split(chunk_size), strict=True):
            if len(part):
                place.copy_(self._sample(part.to(self.device), *prompts, options, seed))
                on_chunk(len(part))
        return restored

    def _sample(
        self, lq: Tensor, text: Tensor, negative: Tensor, options: FlipnetOptions, seed: int
    ) -> Tensor:
        z_lq = self.backbone.encode(padded(lq, self.backbone.factor))
        positive = text
        if options.face_tokens:
            positive = append_tokens(text, self.encoder(lq).float().cpu())
        looking = self.backbone.looking_at(
            self.hubs,
            z_lq,
            phi=options.phi,
            timestep=options.lq_timestep,
            seed=options.lq_seed,
            one_noise=True,
        )
        levels = sigmas(options.scheduler, options.steps)
        x = noisy(torch.zeros_like(z_lq), seed, float(levels[0]), one_noise=True)
        # Not the stream the first noise came from: x would run along it.
        fresh = Generator().manual_seed((seed + 1) % 2**64)
        with looking.predicting(positive) as predict:
            eps = guided(
                lambda z_t, t: predict(z_t, t, positive),
                lambda z_t, t: predict(z_t, t, negative),
                options.guidance,
            )
            z_0 = euler(eps, x, levels, eta=options.fresh_noise, generator=fresh, one_noise=True)
        return from_padded(decode_finite(z_0, self.backbone), lq)
