"""Prompts to tokens: Stable Diffusion 2.1's CLIP text encoder, from its diffusers folder."""

import functools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..checkpoint import read_tensors
from ..errors import CheckpointError, FacewrightError, shorten
from ..weights.sd_config import TextConfig, part_config

_WEIGHTED = re.compile(r"(?<!\\)[()]|\bembedding:")
"""What ComfyUI gives a meaning beyond the words: "(word:1.2)" and "embedding:name"."""

TEXT_FOLDERS = ("tokenizer", "text_encoder")
"""Of a diffusers folder: what it takes to read a prompt."""


def read_caption(picture: Path) -> str:
    """Text of the `.txt` file beside a picture; empty where there is none.

    Raises:
        FacewrightError: the file cannot be read, or is not in UTF-8.
    """
    path = picture.with_suffix(".txt")
    if not path.is_file():
        return ""
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise FacewrightError(
            f"The caption {path} is not in UTF-8 (byte {error.start + 1}: {error.reason}). Save it "
            "again in that encoding."
        ) from error
    except OSError as error:
        raise FacewrightError(f"The caption {path} cannot be read ({error}).") from error


@dataclass(frozen=True)
class Clip:
    """CLIP of the headless host; nothing is read before the first prompt."""

    path: Path
    """The checkpoint: only a diffusers folder has tokenizer and text encoder side by side."""

    def encode(self, text: str) -> Tensor:
        """(1, 77, 1024) for one prompt of a workflow.

        Raises:
            CheckpointError: no tokenizer and text encoder at `path`.
            FacewrightError: transformers is not installed; a prompt that takes ComfyUI to read.
        """
        if _WEIGHTED.search(text):
            raise FacewrightError(
                f"The prompt {text!r} has weights in parentheses or an embedding. Write it in "
                "plain words, or run this workflow with --server."
            )
        tokenizer, _ = self._parts()
        ids, longest = tokenizer(text).input_ids, tokenizer.model_max_length
        if len(ids) > longest:
            raise FacewrightError(
                f"The prompt {text[:40]!r}... is {len(ids)} tokens long; {longest} fit. Shorten it."
            )
        return self.caption(text)

    def caption(self, text: str) -> Tensor:
        """(1, 77, 1024) for the words as they stand, cut after 77 tokens: as training reads them.

        Raises:
            CheckpointError: no tokenizer and text encoder at `path`.
            FacewrightError: transformers is not installed.
        """
        tokenizer, encoder = self._parts()
        full = {"padding": "max_length", "max_length": tokenizer.model_max_length}
        padded = tokenizer(text, truncation=True, return_tensors="pt", **full)
        with torch.no_grad():
            return encoder(padded.input_ids).last_hidden_state.float()

    def _parts(self) -> tuple[Any, Any]:
        """Tokenizer and text encoder."""
        for part in TEXT_FOLDERS:
            if not (self.path / part).is_dir():
                raise CheckpointError(
                    f"Without ComfyUI, text is read by the diffusers folder of SD 2.1-base only, "
                    f"and {self.path.name} has no folder {part!r} in it. Choose that folder as "
                    "checkpoint, or run this workflow with --server."
                )
        return _load(self.path)


def check_encoder(folder: Path) -> None:
    """Refuse a folder with a text encoder that transformers should not be given.

    Raises:
        CheckpointError: sizes beyond any text encoder, or a pickle with more than weights in it.
    """
    part_config(folder, TextConfig, "a text encoder")
    pickled = folder / "pytorch_model.bin"
    if pickled.is_file() and not (folder / "model.safetensors").is_file():
        read_tensors(pickled)


@functools.lru_cache(maxsize=1)
def _load(folder: Path) -> tuple[Any, Any]:
    from .library import diffusers_classes

    diffusers_classes()  # makes transformers importable beside a torchvision for another torch
    try:
        from transformers.models.clip.modeling_clip import CLIPTextModel
        from transformers.models.clip.tokenization_clip import CLIPTokenizer
    except (ImportError, RuntimeError) as error:
        raise FacewrightError(
            f"Prompts need transformers ({error}). Install it with `pip install transformers`."
        ) from error
    check_encoder(folder / "text_encoder")
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        encoder = CLIPTextModel.from_pretrained(folder / "text_encoder", local_files_only=True)
    except Exception as error:  # whatever transformers makes of files that do not go together
        raise CheckpointError(
            f"The tokenizer and text encoder in {folder} cannot be read ({shorten(error, 160)}). "
            "Download the whole folder of the model again."
        ) from error
    return tokenizer, encoder.eval()
