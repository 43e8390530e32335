"""HonestFace's identity embedder (IDE): photographs of the same person steer the restoration.

Wang et al., "HonestFace: Towards Honest Face Restoration with One-Step Diffusion Model",
arXiv:2505.18469. The restoration step itself is OSDFace's, `core.restorer.restore_one_step`, and so
is the embedder of the degraded face; only the prompt between the two changes.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from ..architecture import build, describe
from ..checkpoint import make_metadata, read_config, read_tensors, save_safetensors
from ..devices import widened, without_autocast
from ..errors import CheckpointError, FacewrightError, check_image, shorten
from ..faces import dense_landmarker, load_analyzer
from ..files.known import (
    ARCFACE,
    BASE,
    NANO_BASE,
    NANO_IDENTITY,
    NANO_SIZE,
    VGG,
    KnownFile,
    bundled,
    bundled_path,
    trained,
)
from ..geometry.eyes import eye_crops
from ..geometry.face import DenseLandmarker, FaceAnalyzer
from ..geometry.landmarks import affine_landmark_distance, region_points
from ..lora.files import read_lora
from ..modules.eye_extractor import EyeExtractor, eye_channels, eye_maps, load_eye_extractor
from ..modules.identity_tokens import IDEConfig, Identity, IdentityTokens
from ..modules.reference_tokens import FacialFeatureExtractor
from ..people.person import Person
from ..people.recogniser import Recogniser, fingerprint, load_recogniser
from ._onestep import OneStepFaces, trained_timestep
from ._references import one_step_faces
from ._spec import ModelSource, RestorerSpec
from .osdface import VisualRepresentationEmbedder

__all__ = ["IDEConfig", "Identity", "IdentityEmbedder", "eye_channels", "load_eye_extractor"]

IDE_FORMAT = "honestface-ide"


class IdentityEmbedder(nn.Module):
    """References of b faces -> n1 + n2 = 11 tokens each, fused with the embedder's 77 into 77.

    `recogniser`, `extractor` and `landmarker` are frozen and not part of its file: they come from
    files of their own, and a file of this class remembers which recogniser and extractor.
    """

    def __init__(
        self,
        config: IDEConfig,
        *,
        recogniser: Recogniser,
        extractor: EyeExtractor,
        landmarker: DenseLandmarker,
    ) -> None:
        super().__init__()
        self.config = config
        self.recogniser, self.extractor, self.landmarker = recogniser, extractor, landmarker
        self.learned = IdentityTokens(config)

    @torch.no_grad()
    def choose(
        self, landmarks: Tensor, valid: Tensor, lq_landmarks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """r_0 = argmin_i d(r_i, x_L), the A-LD of eyes and brows (HonestFace, Eq. 6).

        The affine map goes from the reference to the degraded face, so that distances are in the
        pixels of the latter and comparable. Ties: the first, which is also taken where nobody
        knows the landmarks of the degraded face (NaN, see `DenseLandmarker`).

        Args:
            landmarks: (b, N, k, 2) of the references, each in pixels of its own picture.
            valid: (b, N) bool.
            lq_landmarks: (b, k, 2).

        Returns:
            chosen (b,) int64, -1 where nothing is valid and has landmarks, and distances (b, N)
            float64, infinite where they are unknown.
        """
        b, n, k, _ = landmarks.shape
        points = region_points(k, "eyes")
        rows = lq_landmarks[:, None, points].expand(b, n, len(points), 2)
        distance = widened(landmarks.new_full((b, n), torch.inf))
        usable = valid & landmarks[:, :, points].isfinite().flatten(2).all(2)
        known = usable & rows.isfinite().flatten(2).all(2)
        if known.any():
            distance[known.to(distance.device)] = affine_landmark_distance(
                landmarks[:, :, points][known], rows[known]
            )
        if not n:
            return torch.full((b,), -1, device=landmarks.device), distance
        nearest = torch.where(
            known.any(1), distance.argmin(1).to(valid.device), usable.int().argmax(1)
        )
        return torch.where(usable.any(1), nearest, -1), distance

    @torch.no_grad()
    def describe(
        self,
        references: Sequence[Tensor],
        embeddings: Sequence[Tensor],
        landmarks: Sequence[Tensor],
        lq_landmarks: Tensor,
    ) -> Identity:
        """Collect what the references say of b faces.

        Args:
            references: per face (n_i, 3, s, s) in [0, 1], n_i >= 0; sizes may differ between faces.
            embeddings: per face (n_i, d).
            landmarks: per face (n_i, k, 2) in pixels of the references.
            lq_landmarks: (b, k, 2) of the degraded faces.
        """
        device, b = lq_landmarks.device, len(references)
        # At least one place, empty or not: training on several processes wants every weight used.
        most = max([1, *(len(r) for r in references)])
        valid = torch.zeros(b, most, dtype=torch.bool, device=device)
        padded = torch.zeros(b, most, self.config.recogniser_dim, device=device)
        points = lq_landmarks.new_zeros(b, most, *lq_landmarks.shape[1:])
        for i, (e, p) in enumerate(zip(embeddings, landmarks, strict=True)):
            valid[i, : len(e)] = True
            padded[i, : len(e)] = e.to(padded)
            points[i, : len(p)] = p.to(points)
        chosen, distance = self.choose(points, valid, lq_landmarks)
        c = self.config
        colour = torch.zeros(b, 2, 2 * c.colour_channels, device=device)
        grid = FacialFeatureExtractor.GRID**2
        structure = torch.zeros(b, 2, grid * c.structure_channels, device=device)
        known = chosen.ge(0).nonzero().flatten().tolist()
        if known:
            best = [(references[i][j : j + 1], points[i, j : j + 1]) for i, j in
                    zip(known, chosen[known].tolist(), strict=True)]  # fmt: skip
            eyes = [eye_crops(face.to(device), at, c.eye_size) for face, at in best]
            with without_autocast(device):
                patches = torch.cat(eyes).flatten(0, 1).float()
                maps = eye_maps(self.extractor, patches, c.eye_features)
            stats = FacialFeatureExtractor.statistics(*maps)
            colour[known], structure[known] = (x.unflatten(0, (-1, 2)) for x in stats)
        return Identity(
            embeddings=padded,
            valid=valid,
            colour=colour,
            structure=structure,
            chosen=chosen,
            distance=distance,
        )

    def of_people(self, people: Sequence[Person | None], lq: Tensor) -> Identity:
        """What albums say of b faces (b, 3, s, s) in [0, 1]; None for a face nobody is known of.

        Raises:
            FacewrightError: an album made with another recogniser or other landmarks.
        """
        check_image(lq, name="lq")
        if len(people) != len(lq):
            raise FacewrightError(f"There are {len(lq)} faces but albums for {len(people)}.")
        points, dim = self.landmarker.points, self.config.recogniser_dim
        for person in people:
            if person is not None:
                person.check_fits(self.recogniser.id, points)
        nobody = (lq.new_zeros(0, 3, 1, 1), lq.new_zeros(0, dim), lq.new_zeros(0, points, 2))
        said = [nobody if p is None else (p.crops, p.embeddings, p.landmarks) for p in people]
        crops, embeddings, landmarks = zip(*said, strict=True) if said else ((), (), ())
        return self.describe(
            crops, embeddings, landmarks, self.landmarker.landmarks(lq).to(lq.device)
        )

    @torch.no_grad()
    def look_at(self, references: Tensor, valid: Tensor, lq: Tensor) -> Identity:
        """What references (b, N, 3, s, s) in [0, 1] say of lq (b, 3, s', s'), all FFHQ-aligned."""
        check_image(lq, name="lq")
        counts = valid.sum(1).tolist()
        shown = references[valid]
        faces, points = shown.split(counts), self.landmarker.landmarks(shown).to(lq.device)
        return self.describe(
            faces,
            self.recogniser(shown).split(counts),
            points.split(counts),
            self.landmarker.landmarks(lq).to(lq.device),
        )

    def forward(self, references: Tensor, valid: Tensor, lq: Tensor) -> Tensor:
        """Tokens of references.

        Args:
            references: (b, N, 3, s, s) in [0, 1], FFHQ-aligned photographs of the person; N >= 0.
            valid: (b, N) bool; the others are padding and may hold anything.
            lq: (b, 3, s', s') in [0, 1], the degraded faces.

        Returns:
            (b, 11, width). Learned tokens where a face has no reference.
        """
        return self.learned.tokens(self.look_at(references, valid, lq))

    def fuse(self, vre_tokens: Tensor, ide_tokens: Tensor) -> Tensor:
        """(b, 77, width) codebook rows and (b, 11, width) -> (b, 77, width).

        At step 0 of training the codebook rows come back bit for bit, unless tokens are appended.
        """
        return self.learned.fuse(vre_tokens, ide_tokens)

    def condition(
        self, vre: VisualRepresentationEmbedder, lq: Tensor, identity: Identity
    ) -> Tensor:
        """The prompt p(x_L, R): what `vre(lq)` is without references, (b, 77, d).

        Raises:
            FacewrightError: the two embedders do not fit.
        """
        vre.check_tells("HonestFace")
        c = vre.config
        if (c.encoder.z_channels, c.num_tokens) != (self.config.width, self.config.vre_tokens):
            raise FacewrightError(
                f"This identity embedder belongs to a face embedder with {self.config.vre_tokens} "
                f"tokens of {self.config.width} channels; the one connected to `vre` gives "
                f"{c.num_tokens} of {c.encoder.z_channels}. Connect the pair that was trained "
                "together."
            )
        with without_autocast(lq.device):
            rows = vre.quantize.lookup(vre.tokenize(lq))
            return vre.embedding_change(self.learned(rows, identity))

    def save(self, path: str | os.PathLike[str], *, half: bool = False, **extra: str) -> None:
        """Write one safetensors file that `from_file` reads; recogniser and extractor stay out."""
        dtype = torch.float16 if half else torch.float32
        tensors = {k: v.to(dtype) for k, v in self.learned.state_dict().items()}
        save_safetensors(path, tensors, make_metadata(IDE_FORMAT, asdict(self.config), **extra))

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        recogniser: Recogniser,
        extractor: EyeExtractor,
        landmarker: DenseLandmarker,
    ) -> Self:
        """Load a file written by `save`, frozen, in eval mode and float32.

        Raises:
            CheckpointError: another kind of file, or trained with another recogniser or extractor.
        """
        tensors, metadata = read_tensors(path)
        name = Path(path).name
        values = read_config(metadata, IDE_FORMAT, source=name)
        config = describe(IDEConfig, values, source=name, what="an identity embedder")
        for kind, wanted, given in (
            ("recogniser", config.recogniser, recogniser.id),
            ("eye extractor", config.extractor, fingerprint(extractor)),
        ):
            if wanted != given:
                raise CheckpointError(
                    f"{name} was trained with the {kind} {shorten(wanted)}, but {given} was given. "
                    "Use the very weights it was trained with: others say other things of a face."
                )
        told = (config.colour_channels, config.structure_channels)
        if told != eye_channels(extractor, config.eye_features):
            raise CheckpointError(
                f"{name} says that its eyes are described by {told[0]} and {told[1]} channels, "
                "which its own extractor does not give. Use the original file."
            )
        return build(
            lambda: cls(config, recogniser=recogniser, extractor=extractor, landmarker=landmarker),
            tensors,
            source=name,
            load=lambda model: model.learned,
        )


IDE_FILE = trained("honestface", "ide", "HonestFace's identity embedder (IDE)", "honestface")
VRE_FILE = trained("honestface", "vre", "HonestFace's face embedder (VRE)", "honestface")
LORA_FILE = trained("honestface", "lora", "HonestFace's UNet LoRA", "honestface")
NANO_FILES = (
    bundled("nano_honestface_ide", "the nano identity embedder", "honestface", "ide"),
    bundled("nano_honestface_vre", "its nano face embedder", "honestface", "vre"),
    bundled("nano_honestface_lora", "HonestFace's nano LoRA", "honestface", "lora"),
)


def nano_ide(path: Path | None = None) -> IdentityEmbedder:
    """The bundled identity embedder, or another one trained with the same frozen networks.

    Raises:
        CheckpointError: a file is missing or something else.
    """
    frozen = [bundled_path(NANO_IDENTITY)]
    return _ide(path or bundled_path(NANO_FILES[0]), frozen, load_analyzer("nano"))


def _ide(path: Path, frozen: Sequence[Path], analyzer: FaceAnalyzer) -> IdentityEmbedder:
    """`frozen` are the recogniser and the eye extractor; one file may be both."""
    return IdentityEmbedder.from_file(
        path,
        recogniser=load_recogniser(frozen[0]),
        extractor=load_eye_extractor(frozen[-1]),
        landmarker=dense_landmarker(analyzer),
    )


def _load(
    files: Mapping[KnownFile, Path], source: ModelSource, analyzer: FaceAnalyzer, size: int = 512
) -> OneStepFaces:
    base, *frozen, ide_file, vre_file, lora = files.values()
    device = source.device()
    ide = _ide(ide_file, frozen, analyzer).to(device)
    vre = VisualRepresentationEmbedder.from_files(vre_file).to(device)
    tensors, metadata = read_lora(lora)
    backbone = source.backbone(base, (tensors, metadata))
    at = trained_timestep(metadata)
    return one_step_faces(backbone, vre, ide, size, lambda network: device, at)


def _load_nano(
    files: Mapping[KnownFile, Path], source: ModelSource, analyzer: FaceAnalyzer
) -> OneStepFaces:
    # Its albums hold 68 points of rendered faces, whoever finds the faces of a picture.
    return _load(files, source, load_analyzer("nano"), NANO_SIZE)


SPECS = (
    RestorerSpec(
        name="honestface",
        help="which looks at photos of the same person",
        files=(BASE, ARCFACE, VGG, IDE_FILE, VRE_FILE, LORA_FILE),
        build=_load,
        analyzer="auto",
        takes_people=True,
    ),
    RestorerSpec(
        name="nano-honestface",
        help="its demo models for rendered faces",
        files=(NANO_BASE, NANO_IDENTITY, *NANO_FILES),
        build=_load_nano,
        analyzer="nano",
        takes_people=True,
    ),
)
