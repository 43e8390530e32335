"""Real-looking degraded pictures of good faces, made beforehand by FLIPNET's degradation mode."""

import functools
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor

from ...core.devices import asked_device, asked_format
from ...core.diffusion.backbone import DiffusersBackbone
from ...core.diffusion.boosthub import check_fits, predicting
from ...core.diffusion.source import DiffusersModels
from ...core.diffusion.text import TEXT_FOLDERS, read_caption
from ...core.errors import CheckpointError, FacewrightError
from ...core.files.known import BASE, NANO_BASE, bundled_path
from ...core.geometry.square import centred_square
from ...core.host import host
from ...core.images import PICTURE_SUFFIXES, Picture, read_picture, to_array, write_picture
from ...core.lora.files import read_lora
from ...core.methods.flipnet import BoostHubs, Condition, nano_files
from ...core.modules.boosthub import check_loras
from ...core.restorer import decode_finite
from ...core.sampling import ddim, ddim_timesteps, guided
from ...core.schedule import NUM_TRAIN_TIMESTEPS
from ...core.weights import nano
from ..jobs.batch import OnJob, Summary, unwatched
from ..jobs.manifest import Record
from ..jobs.planning import Job
from ..jobs.recorded import (
    RecordedJob,
    RecordedRun,
    copy_name,
    file_mark,
    picture_seed,
    recorded_job,
)
from ..jobs.workers import Team
from .options import SynthesizeOptions

_SD21_SIZE = 512
_SD21_FOLDER = "stable-diffusion-2-1-base"
"""Single files hold no text encoder that could be read here."""
_SD21_PARTS = ("unet", "vae", *TEXT_FOLDERS)
_MIB = 2**20
_MOST_LEFT_OUT = 100
"""Timesteps at the noisy end that DDIM's strides may miss."""


@dataclass(frozen=True)
class DegradeWeights:
    """Files of a model that degrades; goes to worker processes."""

    boosthub: Path
    lora: Path
    base: Path | None = None
    """Of Stable Diffusion 2.1-base; None is the nano base."""

    @classmethod
    def nano(cls) -> Self:
        """The bundled ones, for rendered faces.

        Raises:
            CheckpointError: they are not there (all constructors here).
        """
        boosthub, _, lora = map(bundled_path, nano_files("degrade"))
        return cls(boosthub, lora)

    @classmethod
    def sd21(cls, boosthub: str, lora: str) -> Self:
        """Trained ones for SD 2.1-base, by path or by name in the models folders."""
        pair = (("facewright", boosthub), ("loras", lora))
        files = [
            Path(name) if Path(name).is_file() else host.folders.path(folder, name)
            for folder, name in pair
        ]
        base = host.folders.find(BASE.folder, _SD21_FOLDER) or host.folders.known(BASE)
        if not all((base / part).is_dir() for part in TEXT_FOLDERS):
            raise CheckpointError(
                f"Captions are read by the text encoder of {BASE.what}, which {base.name} lacks. "
                f"Put the whole diffusers folder {_SD21_FOLDER} into "
                f"{host.folders.roots[0] / BASE.folder}. Source: {BASE.source}."
            )
        return cls(files[0].resolve(), files[1].resolve(), base.resolve())

    @property
    def size(self) -> int:
        """Side in pixels of the pictures it works on."""
        return _SD21_SIZE if self.base else nano.NANO_SIZE

    @property
    def eta(self) -> float:
        """Share of fresh noise that suits it."""
        return 0.0 if self.base else 1.0

    def settings(self) -> Record:
        """For the manifest: names, and what tells files of one name apart."""
        known = {"weights": _named_folder(self.base) if self.base else "nano"}
        return known | {n: _named(getattr(self, n)) for n in ("boosthub", "lora")}


class SynthesizeRun(RecordedRun):
    """What `facewright synthesize` is about to do, checked before the first picture is opened."""

    def __init__(
        self,
        inputs: Sequence[str],
        out: Path,
        weights: DegradeWeights,
        options: SynthesizeOptions,
        *,
        overwrite: bool = False,
    ) -> None:
        """
        Args:
            inputs: files, folders or patterns of aligned faces, each filling its picture.
            out: folder, where `<name>.png` becomes `<name>_1.png` and so on, as `off_shelf` of a
                training config expects them.
            overwrite: make again what is there.

        Raises:
            FacewrightError: no pictures, wrong options, weights that cannot be read, or an output
                folder that holds pictures of another run or of no run.
        """
        _check_steps(options.steps)
        if out.suffix.lower() in PICTURE_SUFFIXES and not out.is_dir():
            raise FacewrightError(
                f"{out} is the name of a picture. Give a folder for the degraded pictures of each."
            )
        if options.eta is None:
            options = replace(options, eta=weights.eta)
        numbers = {k: v for k, v in asdict(options).items() if k not in ("copies", "seed")}
        settings = {**weights.settings(), **numbers, "base_seed": options.seed}

        def make(job: Job, folder: Path) -> Iterator[RecordedJob]:
            # Only the nano models read no text.
            given = _given_caption(job.source) if weights.base else {}
            for copy in range(1, options.copies + 1):
                name = copy_name(job, copy)
                seed = picture_seed(options.seed, job.name, copy)
                about = {"settings": settings, "seed": seed, "given": given}
                yield recorded_job(job, folder, name, copy, **about)

        self._weights = weights
        super().__init__(
            inputs,
            out,
            make,
            _Synthesize(weights, options),
            suffix=lambda path: ".png",
            settings=settings,
            as_options=_as_options,
            overwrite=overwrite,
        )

    def carry_out(self, *, workers: int | Team = 1, on_job: OnJob = unwatched) -> Summary:
        """Make the pictures that are not finished; the pixels do not depend on `workers`.

        Raises:
            FacewrightError: the models cannot be read, or do not go together.
        """
        if not all(map(self.finished, self.jobs)):
            _synthesizer(
                self._weights, asked_device(), asked_format()
            )  # their faults are not those of a picture
        if workers != 1:
            _synthesizer.cache_clear()  # each worker has its own
        return super().carry_out(workers=workers, on_job=on_job)


@dataclass(frozen=True)
class _Synthesize:
    """Makes one picture; goes to worker processes as it is, and loads the models there."""

    weights: DegradeWeights
    options: SynthesizeOptions

    def __call__(self, job: RecordedJob) -> dict[str, Any]:
        size, picture = self.weights.size, read_picture(job.source)
        given = job.given
        if self.weights.base and not given:  # it could not be read, and only this picture fails
            given = {"caption": read_caption(job.source)}
        hq = _square(picture.pixels[:3], size)
        caption = given.get("caption", "")
        lq = _synthesizer(self.weights, asked_device(), asked_format()).degrade(
            hq, job.seed or 0, self.options, caption
        )
        write_picture(job.target, lq, Picture(lq, icc=picture.icc))
        notes = list(picture.notes)
        height, width = picture.pixels.shape[-2:]
        if height != width:
            notes.append(f"{width} x {height} pixels were cut to the square in the middle")
        if len(picture.pixels) == 4:
            notes.append("the transparency was left out")
        return {"record": {**given, "size": size}, "notes": notes}


@dataclass(frozen=True)
class Synthesizer:
    """FLIPNET's degradation mode with its models loaded."""

    backbone: DiffusersBackbone
    hubs: BoostHubs

    @classmethod
    def load(cls, weights: DegradeWeights) -> Self:
        """
        Raises:
            CheckpointError: a file is wrong, or was trained for something else.
            LoraError: the LoRA does not fit the base model.
        """
        hubs = BoostHubs.from_file(weights.boosthub)
        hubs.config.check_mode("degrade", weights.boosthub.name)
        base = weights.base or bundled_path(NANO_BASE)
        backbone = DiffusersModels().backbone(base, read_lora(weights.lora))
        check_fits(hubs, backbone.model.unet, backbone.model.name)
        check_loras(hubs.config.mode, backbone.model.loras)
        synthesizer = cls(backbone, hubs)
        synthesizer.prompt("")  # a text encoder that is missing shows now
        return synthesizer

    def prompt(self, text: str) -> Tensor:
        """(1, n, d) tokens; zeros for models without text."""
        clip = self.backbone.clip
        return clip.caption(text) if clip else self.backbone.read("")

    @torch.no_grad()
    def degrade(
        self, hq: Tensor, seed: int, options: SynthesizeOptions, caption: str = ""
    ) -> Tensor:
        """A degraded picture: from noise, looking at the clean good one (FLIPNET, Sec. 5.1).

        eps = eps(z_t, "", hq) + cfg (eps(z_t, caption, hq) - eps(z_t, "", hq)), then DDIM.

        Args:
            hq: (3, h, w) in [0, 1], h and w multiples of the VAE's factor.
            seed: of all noise, drawn on the CPU.

        Returns:
            (3, h, w) in [0, 1].

        Raises:
            NonFiniteError: the decoder gave NaN or infinity, even in float32.
        """
        latent = self.backbone.vae.encode(hq[None] * 2 - 1)
        positive, negative = self.prompt(caption), self.prompt("")
        condition = Condition(latent=latent, phi=options.phi)
        looking = self.backbone.model.looking_at(self.hubs, condition)
        noise = torch.Generator().manual_seed(seed)
        z_T = torch.randn(latent.shape, generator=noise)  # noqa: N806
        with predicting(looking, positive) as predict:
            away = None if torch.equal(positive, negative) else lambda z, t: predict(z, t, negative)
            eps = guided(lambda z, t: predict(z, t, positive), away, options.cfg)
            z_0 = ddim(eps, z_T, steps=options.steps, eta=options.eta or 0.0, generator=noise)
        pixels = decode_finite(z_0, self.backbone)
        return pixels[0].add(1).div(2).clamp(0, 1).float().cpu()


@functools.lru_cache(maxsize=1)
def _synthesizer(weights: DegradeWeights, device: str, number_format: str) -> Synthesizer:
    return Synthesizer.load(weights)


def _square(pixels: Tensor, size: int) -> Tensor:
    """As training cuts the same picture, so that its pixels lie on those of the result."""
    image = centred_square(Image.fromarray(to_array(pixels)), size)
    data = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return data.view(size, size, 3).movedim(-1, 0) / 255


def _given_caption(picture: Path) -> Record:
    try:
        return {"caption": read_caption(picture)}
    except FacewrightError:
        return {}  # said when the picture's turn comes


def _check_steps(steps: int) -> None:
    """Refuse counts whose equal strides leave out much of the noisiest end of the schedule.

    Of t = i floor(1000 / steps) + 1, 251 steps start at t = 751, 250 at t = 997.
    """
    first = ddim_timesteps(steps)[0]

    def left_out(count: int) -> int:
        return NUM_TRAIN_TIMESTEPS % count

    if left_out(steps) > _MOST_LEFT_OUT:
        around = (range(steps, 0, -1), range(steps, NUM_TRAIN_TIMESTEPS + 1))
        fewer, more = (next(n for n in r if left_out(n) <= _MOST_LEFT_OUT) for r in around)
        raise FacewrightError(
            f"DDIM with {steps} steps would start at t = {first} of {NUM_TRAIN_TIMESTEPS - 1}, "
            f"where a picture is not all noise yet. Take {fewer} or {more} steps."
        )


def _named(path: Path) -> str:
    """The file's name and the start of its SHA-256."""
    return f"{path.name} ({file_mark(path)})"


def _named_folder(folder: Path) -> str:
    """The folder's name and the start of a SHA-256 that tells its models apart.

    Over names and sizes of the files in it, and the first and last MiB of each: weights that were
    trained further differ there, and gigabytes are not read for it.
    """
    digest = hashlib.sha256()
    for path in sorted(p for part in _SD21_PARTS for p in (folder / part).rglob("*")):
        if not path.is_file():
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}/{size}/".encode())
        with path.open("rb") as file:
            digest.update(file.read(_MIB))
            file.seek(max(0, size - _MIB))
            digest.update(file.read(_MIB))
    return f"{folder.name} ({digest.hexdigest()[:12]})"


def _as_options(settings: Record) -> dict[str, str]:
    """As options of the command."""
    names = ("weights", "boosthub", "lora", "steps", "eta", "cfg", "phi")
    shown = {f"--{name}": settings.get(name) for name in names}
    shown["--seed"] = settings.get("base_seed")
    return {name: str(value) for name, value in shown.items() if value is not None}
