"""Samples of a nano FLIPNET, in batches: of the bundled files or of a run's export."""

from pathlib import Path
from typing import Self

import torch
from facewright.core.diffusion.boosthub import predicting
from facewright.core.files.known import bundled_path
from facewright.core.lora.files import read_lora
from facewright.core.methods._recognised_faces import load_face_encoder
from facewright.core.methods.flipnet import TEXT_TOKENS, BoostHubs, Condition, nano_files
from facewright.core.modules.face_encoder import append_tokens
from facewright.core.sampling import ddim, guided
from facewright.headless.host.host import HeadlessHost

GUIDANCE = 1.5
BATCH = 16


class Flipnet:
    """One mode of the nano models."""

    def __init__(self, boosthub: Path, encoder: Path | None, lora: Path, steps: int) -> None:
        """
        Args:
            encoder: of face tokens; None samples without them.
            steps: of DDIM.
        """
        base, self.vae = HeadlessHost().load_nano(lora=False)
        self.model, _ = HeadlessHost().apply_lora(base, *read_lora(lora), 1.0)
        self.hubs, self.steps = BoostHubs.from_file(boosthub), steps
        self.encoder = load_face_encoder(encoder) if encoder else None
        width = self.model.config["cross_attention_dim"]
        self.text = torch.zeros(1, TEXT_TOKENS, width)

    @classmethod
    def bundled(cls, mode: str, steps: int) -> Self:
        """The files that come along, mode restore or degrade."""
        boosthub, encoder, lora = map(bundled_path, nano_files(mode))
        return cls(boosthub, encoder if mode == "restore" else None, lora, steps)

    @classmethod
    def of(cls, export: Path, steps: int, *, faces: bool = True) -> Self:
        """The files of a run named nano_flipnet.

        Args:
            faces: whether the face encoder's tokens are given, where the run exported one.
        """
        boosthub, encoder, lora = (
            export / f"nano_flipnet_{part}.safetensors"
            for part in ("boosthub", "face_encoder", "lora")
        )
        return cls(boosthub, encoder if faces and encoder.is_file() else None, lora, steps)

    def sample(self, condition: torch.Tensor, seed: int, phi: float) -> torch.Tensor:
        """(b, 3, h, w) in [0, 1] -> the other side of the pair; the same noise for every phi."""
        parts = [
            self.batch(part, seed * 1000 + i, phi) for i, part in enumerate(condition.split(BATCH))
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def batch(self, condition: torch.Tensor, seed: int, phi: float) -> torch.Tensor:
        """The same of a few pictures at once, all noise from one seed."""
        latent = self.vae.encode(condition * 2 - 1)
        positive = negative = self.text
        if self.encoder is not None:
            positive = append_tokens(self.text, self.encoder(condition))
        looking = HeadlessHost().apply_boosthub(
            self.model, self.hubs, Condition(latent=latent, phi=phi)
        )
        noise = torch.Generator().manual_seed(seed)
        z_t = torch.randn(latent.shape, generator=noise)
        with predicting(looking, positive) as predict:
            away = None if positive is negative else lambda z, t: predict(z, t, negative)
            eps = guided(lambda z, t: predict(z, t, positive), away, GUIDANCE)
            # Trained briefly, they do not mend a bad first step; fresh noise does.
            z_0 = ddim(eps, z_t, steps=self.steps, eta=1.0, generator=noise)
        return self.vae.decode(z_0).add(1).div(2).clamp(0, 1)
