"""Identity encoders of rendered faces: one for losses, another, never in a loss, for scores."""

from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...core.errors import FacewrightError
from ...core.modules.identity import IdentityConfig, IdentityEncoder
from ..recipe import EXPORT_ONLY, Batch, Evaluation, Progress, Recipe, as_metadata
from ..settings.config import Strict


class IdentityRecipeConfig(Strict):
    name: str = Field("nano_identity_loss", description="file name of the export")
    ch: tuple[int, ...] = (32, 64, 96, 128)
    input_size: int = 64
    scale: float = Field(14.0, gt=0, description="1 / temperature of the softmax over people")
    noise: float = Field(0.04, ge=0)
    gain: float = Field(0.15, ge=0, description="spread of the random brightness factor")


class IdentityRecipe(Recipe):
    """InfoNCE: of all people in a batch, find the one in your own second photo.

    Loss = CE(s e_1 e_2^T, identity) along both axes, s = `scale` (arXiv:1807.03748, Eq. 4).
    The data section needs `views: 2`.
    """

    stage = "nano_identity"
    changeable = EXPORT_ONLY
    Config = IdentityRecipeConfig
    config: IdentityRecipeConfig

    def build(self) -> dict[str, nn.Module]:
        config = IdentityConfig(ch=self.config.ch, input_size=self.config.input_size)
        return {"encoder": IdentityEncoder(config)}

    def losses(self, phase: str, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        people = batch["identity"].view(-1, 2)
        if (people[:, 0] != people[:, 1]).any():
            raise FacewrightError("Identity training needs `data.views: 2` and an even batch size.")
        embeddings = self.nets["encoder"](self._augment(batch)).float().view(len(people), 2, -1)
        logits = self.config.scale * embeddings[:, 0] @ embeddings[:, 1].T
        # A person met twice in one batch is no stranger to herself.
        twice = (people[:, :1] == people[:, :1].T) & ~torch.eye(
            len(people), dtype=torch.bool, device=people.device
        )
        logits = logits.masked_fill(twice, -torch.inf)
        target = torch.arange(len(people), device=logits.device)
        loss = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        return {"info_nce": loss / 2}

    def _augment(self, batch: Batch) -> Tensor:
        """Light that differs between photos; half of the photos degraded where the run has lq."""
        x = batch["gt"]
        if "lq" in batch:
            x = torch.where(torch.rand(len(x), 1, 1, 1, device=x.device) < 0.3, batch["lq"], x)
        size = self.config.input_size
        if x.shape[-1] > size:
            x = F.interpolate(x, (size, size), mode="area")
        gain = 1 + self.config.gain * torch.randn(len(x), 1, 1, 1, device=x.device)
        return (x * gain + self.config.noise * torch.randn_like(x)).clamp(0, 1)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Rank-1: how often the nearest other photo shows the same person."""
        encoder = self.nets["encoder"]
        embeddings, people, degraded = [], [], []
        for batch in batches:
            embeddings.append(encoder(batch["gt"]))
            people.append(batch["identity"])
            if "lq" in batch:
                degraded.append(encoder(batch["lq"]))
        e, who = torch.cat(embeddings), torch.cat(people)
        metrics = retrieval(e, e, who)
        if degraded:
            lq = retrieval(torch.cat(degraded), e, who)
            metrics |= {f"lq_{k}": v for k, v in lq.items()}
        return Evaluation(metrics)

    def export(self, folder: Path, facts: dict) -> list[Path]:
        path = folder / f"{self.config.name}.safetensors"
        self.nets["encoder"].save(path, **as_metadata(facts))
        return [path]


def retrieval(query: Tensor, gallery: Tensor, people: Tensor) -> dict[str, float]:
    """How well people are found again: rank-1 rate, and mean cosines of the same and of others.

    Args:
        query, gallery: (n, d) embeddings of the same n photographs; none is compared with itself.
        people: (n,) who is on them.
    """
    itself = torch.eye(len(query), dtype=torch.bool, device=query.device)
    cosine = query @ gallery.T
    nearest = cosine.masked_fill(itself, -2).argmax(1)
    same = (people[:, None] == people[None]) & ~itself
    return {
        "rank1": (people[nearest] == people).float().mean().item(),
        "same": cosine[same].mean().item(),
        "different": cosine[people[:, None] != people[None]].mean().item(),
    }
