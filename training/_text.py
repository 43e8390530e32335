"""Captions to prompt tokens: Stable Diffusion 2.1's CLIP text encoder, or none."""

from pathlib import Path

import torch
from torch import Tensor, nn

from ..core.devices import mend_torchvision
from ..core.errors import CheckpointError


class TextEncoder(nn.Module):
    """SD 2.1's tokenizer and text encoder from its diffusers folder."""

    def __init__(self, folder: Path) -> None:
        """Raises CheckpointError where `tokenizer` or `text_encoder` is not in the folder."""
        super().__init__()
        from ..core.diffusion.text import check_encoder

        mend_torchvision()  # which transformers imports
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer

        for part in ("tokenizer", "text_encoder"):
            if not (folder / part).is_dir():
                raise CheckpointError(
                    f"{folder} has no folder `{part}`. Give the diffusers folder of SD 2.1-base "
                    "as `text`, or leave `text` out to train without prompts."
                )
        check_encoder(folder / "text_encoder")
        self.tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        self.model = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)

    @torch.no_grad()
    def forward(self, captions: list[str]) -> Tensor:
        """(b, 77, 1024)."""
        tokens = self.tokenizer(
            captions,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return self.model(tokens.input_ids.to(self.model.device)).last_hidden_state


class NoText(nn.Module):
    """A prompt of zeros, whatever the caption: for base models that never read."""

    prompt: Tensor

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.register_buffer("prompt", torch.zeros(tokens, width), persistent=False)

    def forward(self, captions: list[str]) -> Tensor:
        """(b, tokens, width)."""
        return self.prompt.expand(len(captions), -1, -1)
