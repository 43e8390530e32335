"""What a one-step restorer is told: the tokens of the picture, or a control in their place."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from ...core.methods.osdface import (
    PromptProjection,
    VisualRepresentationEmbedder,
    VREConfig,
    other_tokens,
)

PromptKind = Literal["vre", "learned", "zeros", "shuffled", "dape"]
PROMPT = (
    "what the UNet is told. vre: tokens of the picture. Controls of OSDFace's Table 4 and of its "
    "claim: learned: the same learned tokens for every picture; zeros; shuffled: the tokens of "
    "another picture; dape: tags of DAPE's in the text beside each picture, read by `text`"
)
"""Description of the option that chooses among them."""
_KEPT = 64
"""Pictures whose tokens are kept for `shuffled`."""


class LearnedPrompt(nn.Module):
    """The same tokens for every picture, learned with the restorer; N(0, 0.02) at first."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(tokens, width) * 0.02)

    def forward(self, rows: Tensor) -> Tensor:
        """(b, ...) -> (b, tokens, width); of `rows` only their number counts."""
        return self.tokens.expand(len(rows), -1, -1)


def projection_of(kind: PromptKind, vre: VREConfig, projection: PromptProjection) -> nn.Module:
    """The network between what `_inputs` gives and the prompt, to be trained with the UNet.

    Args:
        projection: the embedder's own, a copy.
    """
    if kind in ("vre", "shuffled"):
        return projection.requires_grad_(True)
    return LearnedPrompt(vre.num_tokens, vre.proj_out) if kind == "learned" else nn.Identity()


class OtherPictures:
    """Tokens of the pictures that were seen last, to be given in place of a picture's own.

    So a prompt is as rich as the embedder's and says nothing of the picture. A batch may hold one
    picture: others are those of the steps before. Before the first of them there are none, and the
    codes are -1.
    """

    def __init__(self) -> None:
        self.codes: Tensor | None = None
        """(m, n), the latest last."""

    def drawn(self, tokens: Tensor) -> Tensor:
        """For training: those of pictures drawn at random, (b, n); `tokens` are kept for others."""
        kept = tokens[:0] if self.codes is None else self.codes.to(tokens.device)
        self.codes = torch.cat([kept, tokens])[-_KEPT:]
        if not len(kept):  # the neighbour's, if there is one
            return tokens.roll(1, 0) if len(tokens) > 1 else torch.full_like(tokens, -1)
        chosen = torch.randint(len(kept), (len(tokens),), device=tokens.device)
        return kept[chosen]

    def given(self, tokens: Tensor) -> Tensor:
        """As the exported embedder gives them: the same ones for the same picture."""
        kept = tokens[:0] if self.codes is None else self.codes
        return other_tokens(tokens, kept.to(tokens.device))


def exported(
    vre: VisualRepresentationEmbedder,
    kind: PromptKind,
    projection: nn.Module,
    others: OtherPictures,
) -> VisualRepresentationEmbedder:
    """The embedder as a restorer takes it, with what was trained; its file says which control.

    Args:
        vre: the frozen one that training began with.
        kind: all but "dape", whose prompts no embedder makes.
        projection: what `projection_of` gave, trained.
    """
    if kind == "dape":
        raise ValueError("no embedder makes the prompts of dape")
    tensors = vre.state_dict()
    learned = projection.state_dict()
    if kind == "learned":
        tensors["learned"] = learned["tokens"]
    else:
        tensors |= {f"embedding_change.{k}": v for k, v in learned.items()}
    if kind == "shuffled":
        none = torch.empty(0, vre.config.num_tokens, dtype=torch.int64)
        tensors["others"] = none if others.codes is None else others.codes
    config = replace(vre.config, prompt=kind, others=len(tensors.get("others", ())))
    whole = VisualRepresentationEmbedder(config)
    whole.load_state_dict(tensors)
    return whole
