"""Which networks the perceptual terms look through, and by which distance, as a config section."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from ...core.checkpoint import check_finite, read_tensors
from ...core.errors import CheckpointError, shorten
from ...core.modules.identity import IdentityEncoder
from ...core.modules.vgg import VGG16, VGG19, dists_weights
from ..settings.config import ConfigError, Strict
from .perceptual import Dists, EdgeAwarePerceptual, FeatureLpips

Distance = Literal["ea-dists", "dists", "ea-lpips", "lpips", "none"]
"""The global perceptual term: DISTS or LPIPS, `ea-` with the same distance of the edges added."""

_DISTS_FILE = "weights.pt of the package dists-pytorch"
_LPIPS_FILE = "weights/v0.1/vgg.pth of the package lpips, which is DAEFR's vgg.pth, too"
_HEADS = {f"lin{i}.model.1.weight": c for i, c in enumerate((64, 128, 256, 512, 512))}


class ExtractorConfig(Strict):
    """A frozen feature extractor, and the learned weights of the distances over it."""

    kind: Literal["vgg16", "vgg19", "nano"] = Field(
        "vgg16",
        description="vgg16, vgg19: for photographs; nano: the identity encoder of rendered faces",
    )
    path: Path = Field(description="weight file: torchvision's VGG, or an identity encoder")
    pooling: Literal["l2", "max"] | None = Field(
        None,
        description="between VGG-16's stages where feature maps are compared: l2 (the default), as "
        "DISTS has it, or max, as VGG-16 was trained; DISTS and LPIPS have their own",
    )
    dists: Path | None = Field(None, description=f"alpha and beta of DISTS: {_DISTS_FILE}")
    lpips: Path | None = Field(None, description=f"heads of LPIPS over VGG-16: {_LPIPS_FILE}")
    weights: Literal["learned", "uniform"] | None = Field(
        None,
        description="of DISTS and LPIPS: learned, as published, or uniform, which is another "
        "distance. Default: learned; for nano, which has none, uniform",
    )

    @model_validator(mode="after")
    def _of_vgg16(self) -> "ExtractorConfig":
        files = [name for name in ("dists", "lpips") if getattr(self, name)]
        if self.kind != "vgg16":
            learned = [*files, *(["weights: learned"] if self.weights == "learned" else [])]
            if learned or self.pooling:
                key = learned[0] if learned else "pooling"
                raise ValueError(f"`{key}` is for kind vgg16 alone; leave it out for {self.kind}")
        elif self.weights == "uniform" and files:
            raise ValueError(
                f"`weights: uniform` would not read the file of `{files[0]}`; leave one of them out"
            )
        return self

    def load(self) -> IdentityEncoder | VGG16 | VGG19:
        """The extractor in evaluation mode, without gradients for its weights."""
        if self.kind == "vgg16":
            return VGG16.from_file(self.path, self.pooling or "l2")[0]
        kind = IdentityEncoder if self.kind == "nano" else VGG19
        return kind.from_file(self.path)

    def load_perceptual(self, distance: Distance) -> nn.Module:
        """A perceptual term, (restored, gt) -> scalar or one value per picture.

        Raises:
            ConfigError: learned weights are wanted, and no file with them is named.
            CheckpointError: a file is not what it should be.
        """
        name = distance.removeprefix("ea-")
        plain = self.load_lpips() if name == "lpips" else self.load_dists()
        return EdgeAwarePerceptual(plain) if distance.startswith("ea-") else plain

    def load_dists(self) -> Dists:
        """DISTS over this extractor, with its own weights unless the config says `uniform`.

        Raises:
            ConfigError: neither of the files has alpha and beta.
            CheckpointError: a file is not what it should be.
        """
        if self._uniform("DISTS", "dists", _DISTS_FILE):
            extractor = self.load() if self.kind != "vgg16" else VGG16.from_file(self.path)[0]
            return Dists(extractor)
        extractor, learned = VGG16.from_file(self.path)
        if self.dists:
            learned = dists_weights(read_tensors(self.dists)[0], self.dists.name)
        if learned is None:
            raise ConfigError(_lacking("DISTS", self.path, "alpha and beta", "dists", _DISTS_FILE))
        return Dists(extractor, *learned)

    def load_lpips(self) -> FeatureLpips:
        """LPIPS over this extractor, with its learned heads unless the config says `uniform`.

        VGG-16 pools by maxima, as it was trained.

        Raises:
            ConfigError: no file of the heads is named.
            CheckpointError: a file is not what it should be.
        """
        if self._uniform("LPIPS", "lpips", _LPIPS_FILE):
            if self.kind != "vgg16":
                return FeatureLpips(self.load())
            return FeatureLpips(VGG16.from_file(self.path, "max")[0])
        if self.lpips is None:
            raise ConfigError(_lacking("LPIPS", self.path, "heads", "lpips", _LPIPS_FILE))
        heads = _heads(self.lpips)
        return FeatureLpips(VGG16.from_file(self.path, "max")[0], heads)

    def _uniform(self, name: str, key: str, file: str) -> bool:
        if self.kind == "vgg19" and self.weights is None:
            raise ConfigError(
                f"{name} was learned over VGG-16, and `extractor` is of kind vgg19. Take kind "
                f"vgg16 with `{key}:`, the file {file}, or write `weights: uniform` into "
                f"`extractor` for another distance than the published {name}."
            )
        return self.weights == "uniform" or self.kind == "nano"


def _lacking(name: str, path: Path, what: str, key: str, file: str) -> str:
    return (
        f"{name} needs its learned {what}, and {shorten(path.name)} has none, as torchvision "
        f"publishes VGG-16 without. Name their file in `extractor`, `{key}: PATH` ({file}; "
        "docs/training.md, step 2), or write `weights: uniform` there: all stages alike, which is "
        f"another distance than the published {name}."
    )


def _heads(path: Path) -> list[Tensor]:
    """(1, c, 1, 1) for each of VGG-16's stages."""
    tensors, _ = read_tensors(path)
    if tensors.keys() != _HEADS.keys() or any(
        tuple(tensors[k].shape) != (1, c, 1, 1) for k, c in _HEADS.items()
    ):
        raise CheckpointError(
            f"{shorten(path.name)} does not hold LPIPS' five heads over VGG-16 "
            f"(lin0.model.1.weight to lin4.model.1.weight). Take {_LPIPS_FILE}."
        )
    check_finite(tensors, source=str(path))
    return [tensors[k].float() for k in _HEADS]
