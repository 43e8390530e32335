"""Captions of pictures by a BLIP model of the user's, written as text beside each picture."""

import functools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core import images
from ...core.architecture import OPEN, Between, describe
from ...core.checkpoint.files import read_tensors
from ...core.checkpoint.identify import read_json
from ...core.devices import compute_device, mend_torchvision
from ...core.errors import CheckpointError, FacewrightError, listed, shorten
from ...core.files.writing import written_whole
from ...core.weights.sd_config import TextConfig
from ..jobs.batch import Job, OnJob, Summary, run_jobs, unwatched

SOURCE = "Salesforce/blip-image-captioning-base or -large at huggingface.co (BSD-3 license)"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
VOCABULARY = ("vocab.txt", "tokenizer.json")
_BEAMS, _FEWEST, _MOST = 3, 5, 20
"""Of the beam search, and tokens of a caption: those of BLIP's own demonstration."""
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of CLIP's training pictures, which BLIP takes over; a folder may name others."""


@dataclass(frozen=True, kw_only=True)
class _Vision:
    __pydantic_config__ = OPEN

    hidden_size: Annotated[int, Between(1, 8192)] = 768
    num_hidden_layers: Annotated[int, Between(1, 64)] = 12
    intermediate_size: Annotated[int, Between(1, 65536)] = 3072
    image_size: Annotated[int, Between(8, 2048)] = 384
    patch_size: Annotated[int, Between(1, 256)] = 16


@dataclass(frozen=True, kw_only=True)
class _Blip:
    __pydantic_config__ = OPEN

    vision_config: _Vision = field(default_factory=_Vision)
    text_config: TextConfig = field(default_factory=TextConfig)


def _config(folder: Path) -> dict[str, Any]:
    """What config.json says.

    Raises:
        CheckpointError: it is not there, or of another kind of model.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"There is no config.json in {folder}. A BLIP model is a folder as transformers saves "
            f"it: {', '.join(('config.json', WEIGHTS[0], VOCABULARY[0]))}. Source: {SOURCE}."
        )
    config = read_json(path)
    kind, parts = config.get("model_type"), config.get("architectures")
    captions = not parts or "BlipForConditionalGeneration" in parts
    if kind != "blip" or not captions:
        named = listed([str(p) for p in parts]) if isinstance(parts, list) else "no architecture"
        raise CheckpointError(
            f"{folder} holds a model of type {shorten(kind, 40)} ({named}), and a BLIP model that "
            f"writes captions was expected. Source: {SOURCE}."
        )
    describe(_Blip, config, source=str(path), what="a BLIP model")
    return config


class Captioner:
    """BLIP (arXiv:2201.12086), which describes a picture in a sentence without a question.

    The words are found by beam search with three beams, without chance: the same picture has the
    same caption each time.

    Args:
        folder: of the model, as transformers saves it; nothing is downloaded.

    Raises:
        CheckpointError: no BLIP model that writes captions, or not a whole one.
        FacewrightError: transformers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        mend_torchvision()  # which transformers imports
        try:
            from transformers.models.bert.tokenization_bert import BertTokenizer
            from transformers.models.blip.modeling_blip import BlipForConditionalGeneration
        except (ImportError, RuntimeError) as error:
            raise FacewrightError(
                f"Captions are written by a BLIP model with transformers ({error}). Install it: "
                'pip install "facewright[captions]". Captions of your own do as well: a text file '
                "beside each picture, a.txt for a.png."
            ) from error
        config = _config(folder)
        self.size = int(config.get("vision_config", {}).get("image_size", _Vision.image_size))
        self.mean, self.std = _normalization(folder)
        self._check_files(folder)
        try:
            self.tokenizer: Any = BertTokenizer.from_pretrained(folder, local_files_only=True)
            loaded: Any = BlipForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
            )
            model, told = loaded
        except Exception as error:  # whatever transformers makes of files that do not go together
            raise CheckpointError(
                f"The BLIP model in {folder} cannot be read ({shorten(error, 160)}). Download the "
                "whole folder again."
            ) from error
        missing = [k for k in told["missing_keys"] if not k.endswith("position_ids")]
        if missing or told.get("mismatched_keys"):
            lost = listed([str(key) for key in (missing or told["mismatched_keys"])])
            raise CheckpointError(
                f"The weights in {folder} are not those of a whole BLIP model; missing or of "
                f"another shape: {lost}. Download the folder again."
            )
        self.device = compute_device()
        self.model: Any = model.eval().requires_grad_(False).to(self.device)

    @staticmethod
    def _check_files(folder: Path) -> None:
        there = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
        if there is None:
            raise CheckpointError(
                f"There are no weights in {folder}: {WEIGHTS[0]} was expected (or {WEIGHTS[1]}). "
                f"Source: {SOURCE}."
            )
        read_tensors(there)  # a pickle with more than tensors in it is refused here
        if not any((folder / name).is_file() for name in VOCABULARY):
            # The library would go on with an empty one.
            raise CheckpointError(
                f"There is no vocabulary in {folder}: {VOCABULARY[0]} was expected. Source: "
                f"{SOURCE}."
            )

    def pixels(self, picture: Image.Image) -> Tensor:
        """(1, 3, s, s): the whole picture pressed into BLIP's square, normalized."""
        square = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        return ((values - mean) / std)[None]

    def __call__(self, picture: Image.Image) -> str:
        """A caption in lower case, such as "a woman with a red hat"."""
        with torch.inference_mode():
            tokens = self.model.generate(
                pixel_values=self.pixels(picture).to(self.device),
                num_beams=_BEAMS,
                min_new_tokens=_FEWEST,
                max_new_tokens=_MOST,
                do_sample=False,
            )
        words = tokens[0, 1:]  # behind the mark that starts a caption
        return " ".join(self.tokenizer.decode(words, skip_special_tokens=True).split())


def _normalization(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return _MEAN, _STD
    said = read_json(path)
    mean, std = (said.get(key, default) for key, default in
                 (("image_mean", _MEAN), ("image_std", _STD)))  # fmt: skip

    def three(values: Any) -> bool:
        return (
            isinstance(values, list | tuple)
            and len(values) == 3
            and all(isinstance(v, int | float) and abs(v) < 1e3 for v in values)
        )

    if not (three(mean) and three(std) and all(v > 0 for v in std)):
        raise CheckpointError(
            f"{path} should hold three numbers each as image_mean and image_std, came "
            f"{shorten(json.dumps([mean, std]), 80)}. Download the folder again."
        )
    return tuple(mean), tuple(std)


@dataclass(frozen=True)
class Captioning:
    """What a job of captions does; the model is read for the first picture."""

    model: Path

    def __call__(self, job: Job) -> dict[str, Any]:
        picture = images.read_picture(job.source)
        text = _captioner(self.model)(Image.fromarray(images.to_array(picture.pixels[:3])))
        if not text:
            raise FacewrightError(
                f"The model in {self.model} says nothing of {job.source}. Write its caption into "
                f"{job.target} yourself."
            )
        with written_whole(job.target) as temporary:
            temporary.write_text(f"{text}\n", encoding="utf-8")
        return {"caption": text}


@functools.lru_cache(maxsize=1)
def _captioner(model: Path) -> Captioner:
    return Captioner(model)


def caption_jobs(pictures: Iterable[Path]) -> list[Job]:
    """A job for each picture; of several that share a caption's file, for the first."""
    first: dict[Path, Path] = {}
    for picture in pictures:
        first.setdefault(picture.with_suffix(".txt"), picture)
    return [Job(source, target, source.name) for target, source in first.items()]


def write_captions(
    jobs: Sequence[Job], model: Path, *, overwrite: bool = False, on_job: OnJob = unwatched
) -> Summary:
    """Write what is missing, `a.txt` beside `a.png`; a caption that is there stays.

    Args:
        model: folder of a BLIP model.
        overwrite: write all anew.

    Raises:
        FacewrightError: as `Captioner`, before the first picture.
    """
    todo = [job for job in jobs if overwrite or not _written(job)]
    if todo:
        _captioner(model)
    return run_jobs(jobs, Captioning(model), overwrite=overwrite, finished=_written, on_job=on_job)


def _written(job: Job) -> bool:
    try:
        return bool(job.target.read_bytes().strip())
    except OSError:
        return False
