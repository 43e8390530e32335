"""OSDFace's visual representation embedder (VRE): a degraded face becomes 77 prompt tokens.

Wang et al., "OSDFace: One-Step Diffusion Model for Face Restoration", arXiv:2411.17163. The
restoration step itself, which other methods share, is `core.restorer.restore_one_step`.
"""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn import Conv1d, Conv2d

from ..architecture import CLOSED, Between, SavedNetwork, build
from ..checkpoint import describe_format, detect_format, read_tensors
from ..checkpoint.identify import marked_trained
from ..devices import channels_last, without_autocast
from ..errors import CheckpointError, NonFiniteError, check_image, listed
from ..files.known import BASE, NANO_BASE, NANO_SIZE, KnownFile, bundled
from ..geometry.face import FaceAnalyzer
from ..lora.files import read_lora
from ..modules.autoencoder import AutoencoderConfig, Encoder
from ..modules.quantizer import TokenSelection, VectorQuantizer, select_tokens
from ._onestep import OneStepFaces, trained_timestep
from ._spec import FileSource, ModelSource, RestorerSpec

VRE_FORMAT = "osdface-vre"
_ASSOCIATE, _PROJECTION = "osdface-associate", "osdface-embedding-change"
_PROJECTION_MARK = "facewright.projection"
"""Metadata of a file: "trained", or "untrained" as vre-associate leaves it."""
_RELEASED_PREFIX = "vqvae_LQ."
_RELEASED_PARTS = ("encoder.", "quant_conv.", "quantize.embedding.")
_CHUNK_PIXELS = 512 * 512
"""Pixels encoded at a time: bounds memory, and makes OSDFace's faces exact batches of one."""


@dataclass(frozen=True, kw_only=True)
class VREConfig:
    """Architecture of a VRE. The defaults are the released OSDFace weights."""

    __pydantic_config__ = CLOSED

    encoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    num_codes: Annotated[int, Between(1, 2**16)] = 1024
    num_tokens: Annotated[int, Between(1, 4096)] = 77
    input_size: Annotated[int, Between(1, 2048)] = 512
    """Side in pixels of the square every image is resized to."""
    proj_hidden: Annotated[int, Between(1, 16384)] = 256
    proj_out: Annotated[int, Between(1, 16384)] = 1024
    """Channels of the prompt tokens: the UNet's cross-attention width."""
    double_norm: bool = True
    """Whether the encoder sees [-3, 1] instead of [-1, 1].

    The released inference maps [0, 1] to [-1, 1] twice in a row and its weights only match its
    published results that way. False for weights trained here.
    """
    prompt: Literal["vre", "learned", "zeros", "shuffled"] = "vre"
    """What the restorer is told. "vre": tokens of the picture. The others are controls, which their
    restorer was trained with: the same learned tokens or zeros for every picture, or the tokens of
    one of `others`."""
    others: Annotated[int, Between(0, 4096)] = 0
    """Pictures whose tokens the file holds for `prompt` "shuffled"."""

    def __post_init__(self) -> None:
        self.encoder.check_input(self.input_size)


class PromptProjection(nn.Module):
    """Token-wise d -> hidden -> d_out, with SiLU after both layers (so prompts are >= -0.28)."""

    def __init__(self, dim: int, hidden: int, dim_out: int) -> None:
        super().__init__()
        # 1x1 convolutions rather than linear layers because released files store them so.
        self.conv1 = Conv1d(dim, hidden, 1)
        self.conv2 = Conv1d(hidden, dim_out, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(b, n, d) -> (b, n, d_out)."""
        h = F.silu(self.conv1(rearrange(tokens, "b n d -> b d n")))
        return rearrange(F.silu(self.conv2(h)), "b d n -> b n d")


class VisualRepresentationEmbedder(SavedNetwork):
    """Face image -> nearest codes of its feature map -> the 77 most confident -> prompt tokens.

    Runs in float32 whatever the surroundings: half precision picks other codes.
    Everything up to the codes is without gradient; `embed` is differentiable, as the
    projection is trained together with the restorer. Rounding the weights may change tokens.
    """

    format = VRE_FORMAT
    config_type = VREConfig
    what = "an embedder"
    config: VREConfig
    others: Tensor
    """(m, num_tokens) codes of other pictures, where `config.prompt` is "shuffled"."""

    def __init__(self, config: VREConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VREConfig()
        z = config.encoder.z_channels
        self.encoder = Encoder(config.encoder)
        self.quant_conv = Conv2d(z, z, 1)
        self.quantize = VectorQuantizer(config.num_codes, z)
        self.embedding_change = PromptProjection(z, config.proj_hidden, config.proj_out)
        if config.prompt == "learned":
            self.learned = nn.Parameter(torch.zeros(config.num_tokens, config.proj_out))
        if config.prompt == "shuffled":
            empty = torch.full((config.others, config.num_tokens), -1)
            self.register_buffer("others", empty)
        channels_last(self.encoder)

    @property
    def grid_size(self) -> int:
        """Cells along one side of the feature map that `select` counts positions in."""
        return self.config.input_size // self.config.encoder.factor

    def prepare(self, lq: Tensor) -> Tensor:
        """Range and size the encoder expects: (b, 3, h, w) in [0, 1] -> (b, 3, s, s).

        A square image is resized with aligned corners and another one without, never
        antialiased, as the released inference does.
        """
        check_image(lq, name="lq")
        size = (self.config.input_size,) * 2
        x = lq.to(self.quant_conv.weight) * 2 - 1
        if x.shape[-2:] != size:
            square = x.shape[-2] == x.shape[-1]
            x = F.interpolate(x, size, mode="bilinear", align_corners=square)
        return (x - 0.5) / 0.5 if self.config.double_norm else x

    def encode(self, lq: Tensor) -> Tensor:
        """Feature map before quantisation, (b, d, grid, grid)."""
        with without_autocast(lq.device):
            x = self.prepare(lq).contiguous(memory_format=torch.channels_last)
            return self.quant_conv(self.encoder(x))

    @torch.no_grad()
    def select(self, lq: Tensor) -> TokenSelection:
        """Tokens and the positions they come from, for (b, 3, h, w) in [0, 1]; b may be 0.

        Raises:
            NonFiniteError: NaN or infinity in the image or in the weights.
        """
        check_image(lq, name="lq")
        chunk = max(1, _CHUNK_PIXELS // self.config.input_size**2)
        codes, distances = [], []
        for part in lq.split(chunk) if len(lq) else ():
            z = rearrange(self.encode(part), "b d h w -> b (h w) d")
            code, distance = self.quantize.nearest(z)
            codes.append(code)
            distances.append(distance)
        if not codes:
            none = torch.empty(
                0, self.config.num_tokens, dtype=torch.int64, device=self.quant_conv.weight.device
            )
            return TokenSelection(none, none.clone())
        distance = torch.cat(distances)
        if not torch.isfinite(distance).all():
            raise NonFiniteError(
                "The visual representation embedder met NaN or infinity. Check the input image "
                "for invalid pixels and that the weight file is intact."
            )
        return select_tokens(torch.cat(codes), distance, self.config.num_tokens)

    def tokenize(self, lq: Tensor) -> Tensor:
        """(b, 3, h, w) in [0, 1] -> (b, num_tokens) int64 codes, most confident first.

        -1 where the image has fewer distinct codes. Each image's result is the one it has alone.
        """
        return self.select(lq).tokens

    def embed(self, tokens: Tensor) -> Tensor:
        """(b, n) codes -> (b, n, proj_out) prompt tokens. A code of -1 projects a zero vector.

        Where `config.prompt` names a control, it stands in place of what the codes say.
        """
        c = self.config
        if c.prompt in ("learned", "zeros"):
            none = self.quantize.embedding.weight.new_zeros(c.num_tokens, c.proj_out)
            prompt = self.learned if c.prompt == "learned" else none
            return prompt.expand(len(tokens), -1, -1)
        if c.prompt == "shuffled":
            tokens = other_tokens(tokens, self.others)
        with without_autocast(tokens.device):
            return self.embedding_change(self.quantize.lookup(tokens))

    def forward(self, lq: Tensor) -> Tensor:
        """(b, 3, h, w) in [0, 1], any h and w -> (b, num_tokens, proj_out) float32."""
        return self.embed(self.tokenize(lq))

    def check_tells(self, whom: str) -> None:
        """Refuse a control (`config.prompt`) where the picture's own tokens are needed.

        Raises:
            CheckpointError: it is one; `whom` says who needs them.
        """
        if self.config.prompt != "vre":
            raise CheckpointError(
                f"This face embedder is a control that says nothing of the picture (its run was "
                f"trained with `prompt: {self.config.prompt}`), and {whom} needs the picture's own "
                "tokens. Choose an embedder that was trained with `prompt: vre`."
            )

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], **about: Any
    ) -> Self:
        """See `SavedNetwork`."""
        vre = super().from_tensors(tensors, metadata, **about)
        others = vre.others if vre.config.prompt == "shuffled" else torch.zeros(0)
        if ((others < -1) | (others >= vre.config.num_codes)).any():
            raise CheckpointError(
                f"{about.get('source', 'The embedder')} holds tokens of other pictures that its "
                f"dictionary of {vre.config.num_codes} lacks. Use the original file."
            )
        return vre

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        trained: bool = True,
        dtype: torch.dtype | None = None,
        **extra: str,
    ) -> None:
        """Write one safetensors file that `from_files` reads; None keeps the dtype.

        Args:
            trained: False where the projection is as it was made, and the prompt is noise.
        """
        mark = {_PROJECTION_MARK: "trained" if trained else "untrained"}
        super().save(path, dtype=dtype, **extra, **mark)

    @classmethod
    def from_files(cls, *paths: str | os.PathLike[str], untrained: bool = False) -> Self:
        """Load the released pair (in any order) or one facewright safetensors file.

        Args:
            paths: `associate_2.ckpt` and `embedding_change_weights.pth`, or a single file
                written by `save` or `facewright convert`.
            untrained: take a file whose projection is still to be trained as well.

        Returns:
            the embedder in float32 on the CPU, in evaluation mode.

        Raises:
            CheckpointError: not these files, tensors missing or of another shape, or a projection
                that was never trained.
        """
        files = {}
        names = []
        for path in map(Path, paths):
            tensors, metadata = read_tensors(path)
            kind = detect_format(tensors, metadata)
            files[kind] = (path.name, tensors, metadata)
            names.append(f"{path.name} looks like {describe_format(kind)}")
        if len(paths) == 1 and VRE_FORMAT in files:
            name, tensors, metadata = files[VRE_FORMAT]
            if not untrained and not marked_trained(metadata, _PROJECTION_MARK, "vre-associate"):
                raise CheckpointError(
                    f"{paths[0]} comes from the training stage vre-associate: its projection has "
                    "not been trained yet, and its prompt would be noise. Use the file whose name "
                    "ends in _vre.safetensors that the stage onestep exports beside its LoRA."
                )
            return cls.from_tensors(tensors, metadata, source=name)
        if len(paths) == 2 and files.keys() == {_ASSOCIATE, _PROJECTION}:
            config = VREConfig()
            tensors = {
                k.removeprefix(_RELEASED_PREFIX): v
                for k, v in files[_ASSOCIATE][1].items()
                if k.removeprefix(_RELEASED_PREFIX).startswith(_RELEASED_PARTS)
                and k.startswith(_RELEASED_PREFIX)
            }
            tensors |= {f"embedding_change.{k}": v for k, v in files[_PROJECTION][1].items()}
            source = f"{files[_ASSOCIATE][0]} with {files[_PROJECTION][0]}"
        else:
            raise CheckpointError(_explain(files, names))
        return build(lambda: cls(config), tensors, source=source)


def other_tokens(tokens: Tensor, others: Tensor) -> Tensor:
    """Tokens of another picture for each: (b, n) codes, (m, n) codes to take from -> (b, n).

    Row i gets row `sum(tokens[i]) mod m`: of one picture always the same, and none of its own. All
    codes are -1 where m = 0.
    """
    if not len(others):
        return torch.full_like(tokens, -1)
    return others[tokens.sum(1) % len(others)]


def _explain(files: Mapping[str, object], names: list[str]) -> str:
    """Why a choice of files cannot make an embedder, with the tensors that are missing."""
    with torch.device("meta"):
        keys = list(VisualRepresentationEmbedder(VREConfig()).state_dict())
    projection = [k.removeprefix("embedding_change.") for k in keys if "embedding_change" in k]
    encoder = [_RELEASED_PREFIX + k for k in keys if "embedding_change" not in k]
    lacking = []
    if _ASSOCIATE not in files:
        lacking.append(f"all {len(encoder)} tensors of associate_2.ckpt ({listed(encoder)})")
    if _PROJECTION not in files:
        lacking.append(
            f"all {len(projection)} tensors of embedding_change_weights.pth ({listed(projection)})"
        )
    missing = f" Missing: {'; '.join(lacking)}." if lacking else ""
    return (
        "The embedder needs associate_2.ckpt together with embedding_change_weights.pth, or one "
        f"converted .safetensors file. {'; '.join(names) or 'No file was given'}.{missing}"
    )


EMBEDDER = KnownFile(
    ("osdface_vre.safetensors", "associate_2.ckpt"),
    folder="facewright",
    what="OSDFace's face embedder (VRE)",
    source="the download link in jkwang28/OSDFace on GitHub",
    licence="none stated by its authors; ask them before commercial use",
    commercial="depends",
    page="https://github.com/jkwang28/OSDFace",
    stage="onestep",
    part="vre",
)
PROJECTION = replace(
    EMBEDDER,
    names=("embedding_change_weights.pth",),
    what="OSDFace's prompt projection",
    stage="",
    part="",
)
LORA = replace(
    EMBEDDER,
    names=("pytorch_lora_weights.safetensors", "pytorch_lora_weights_comfyui.safetensors"),
    folder="loras",
    what="OSDFace's UNet LoRA",
    part="lora",
)
NANO_FILES = (
    NANO_BASE,
    bundled("nano_vre", "the nano face embedder", "onestep", "vre"),
    bundled("nano_onestep_lora", "the nano one-step LoRA", "onestep", "lora"),
)


def _needed(source: FileSource) -> Sequence[KnownFile]:
    """The embedder is one file of this project's, or the released pair."""
    with suppress(CheckpointError):
        if source.known(EMBEDDER).suffix == ".safetensors":
            return BASE, EMBEDDER, LORA
    return BASE, EMBEDDER, PROJECTION, LORA


def _load(
    files: Mapping[KnownFile, Path], source: ModelSource, analyzer: FaceAnalyzer, size: int = 512
) -> OneStepFaces:
    base, *embedder, lora = files.values()
    device = source.device()
    vre = VisualRepresentationEmbedder.from_files(*embedder).to(device)
    tensors, metadata = read_lora(lora)
    return OneStepFaces(
        backbone=source.backbone(base, (tensors, metadata)),
        timestep=trained_timestep(metadata),
        embed=lambda lq, people: vre(lq),
        size=size,
        device=device,
    )


SPECS = (
    RestorerSpec(
        name="osdface",
        help="which restores from the picture alone",
        files=(BASE, EMBEDDER, PROJECTION, LORA),
        needed=_needed,
        build=_load,
        analyzer="auto",
    ),
    RestorerSpec(
        name="nano",
        help="osdface's demo models for rendered faces",
        files=NANO_FILES,
        build=partial(_load, size=NANO_SIZE),
        analyzer="nano",
        with_people="nano-honestface",
    ),
)
