"""Faces of one picture restored: detect, align, embed, one step, paste.

With HonestFace each face is restored with photographs of the person it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor

from ...core.diffusion.loading import load_checkpoint
from ...core.errors import CheckpointError, FacewrightError
from ...core.faces import (
    ORDERS,
    FaceAnalyzer,
    dense_landmarker,
    detect_faces,
    load_analyzer,
    select_faces,
)
from ...core.files.known import ARCFACE, BASE, VGG, KnownFile
from ...core.geometry.align import FaceCrops, align_faces
from ...core.geometry.paste import paste_faces
from ...core.lora.files import read_lora
from ...core.methods._references import encode_faces
from ...core.methods.honestface import IDE_FILE as HONESTFACE_IDE
from ...core.methods.honestface import LORA_FILE as HONESTFACE_LORA
from ...core.methods.honestface import VRE_FILE as HONESTFACE_VRE
from ...core.methods.honestface import IdentityEmbedder, load_eye_extractor
from ...core.methods.osdface import EMBEDDER, LORA, PROJECTION, VisualRepresentationEmbedder
from ...core.people.guard import ACTIONS, GuardResult, guard_faces
from ...core.people.matching import Matches, match_faces
from ...core.people.person import Person, check_names
from ...core.people.recogniser import Recogniser, load_recogniser
from ...core.restorer import Backbone, restore_in_chunks
from ...core.weights.model_folders import ModelFolders
from ..host.host import host

DEFAULT_DRIFT = 0.5
"""`max_drift` of receipts where nobody said how far a face may drift, as in Identity Guard."""


@dataclass(frozen=True, kw_only=True)
class RestoreOptions:
    """How to restore; every field is an option of `facewright restore`."""

    color: str = "none"
    strength: float = 1.0
    feather: float = 0.12
    order: str = ORDERS[0]
    """How the faces of a picture are numbered, from 0: one of `core.faces.ORDERS`."""
    pick: str = ""
    """Numbers of the faces to restore, such as "0, 2"; empty takes all."""
    min_size: float = 0.0
    min_score: float = 0.0
    max_faces: int = 0
    padding: float = 0.0
    seed: int | None = None
    """None takes the mean latent; a number samples it, as the released OSDFace script does."""
    faces_at_once: int = 4
    people: Sequence[Person] = ()
    """Albums; a face is restored with that of the person it shows, or without. HonestFace only."""
    person: Person | None = None
    """One album for all faces instead. HonestFace only."""
    threshold: float = 0.0
    """Cosine from which a face is one of `people`; 0 takes what suits the recogniser."""
    max_drift: float | None = None
    """How far a restored face may be from who it is (`core.people.guard`); None: no guard."""
    on_drift: str = ACTIONS[0]
    """What happens to a face that is farther: one of `core.people.guard.ACTIONS`."""
    receipts: bool = False
    """Measure every face, also where nothing holds it back."""

    def __post_init__(self) -> None:
        if self.people and self.person is not None:
            raise FacewrightError(
                "Both `people` and `person` are given; whose photographs count? Give `person` "
                "where all faces are one person's, else `people`."
            )
        check_names(list(self.people))


@dataclass(frozen=True)
class Restored:
    """One picture after restoration."""

    pixels: Tensor
    """(c, h, w) in [0, 1], alpha as it came."""
    mask: Tensor
    """(h, w): weight of the restored pixels."""
    faces: int
    report: str
    matches: Matches | None = None
    """Whose face is whose, where `people` were given."""
    guard: GuardResult | None = None
    """Receipts of the faces, where `max_drift` or `receipts` asked for them."""


@dataclass(frozen=True)
class Restorer:
    """A method with its models loaded: OSDFace, or HonestFace where it has an `ide`."""

    vre: VisualRepresentationEmbedder
    backbone: Backbone
    analyzer: FaceAnalyzer
    size: int
    """Side of the aligned crops in pixels: 512 for SD 2.1-base, 128 for the nano models."""
    ide: IdentityEmbedder | None = None
    """HonestFace's identity embedder."""
    recogniser: Recogniser | None = None
    """Tells people apart; what `people`, `max_drift` and `receipts` need."""

    @classmethod
    def nano(
        cls, analyzer: str = "nano", *, method: Literal["osdface", "honestface"] = "osdface"
    ) -> Self:
        """The bundled models for rendered faces. They make photographs worse.

        Raises:
            CheckpointError: the bundled files are not there.
        """
        from ...core.weights import nano

        if method == "osdface":
            model, vae = host.load_nano(lora=True)
            return cls(
                nano.load_vre(), host.backbone(model, vae), load_analyzer(analyzer), nano.NANO_SIZE
            )
        nano.check_honestface()
        ide = nano.load_ide()
        model, vae = host.load_nano(lora=False)
        model, _ = host.apply_lora(model, *nano.honestface_lora(), 1.0)
        return cls(
            nano.honestface_vre(),
            host.backbone(model, vae),
            load_analyzer(analyzer),
            nano.NANO_SIZE,
            ide,
            ide.recogniser,
        )

    @classmethod
    def osdface(cls, analyzer: str = "skimage", folders: ModelFolders | None = None) -> Self:
        """SD 2.1-base with OSDFace's weights, from files already on this machine.

        Args:
            analyzer: a name of `core.faces.ANALYZERS`.
            folders: where to look; by default FACEWRIGHT_MODELS and ComfyUI's models folder.

        Raises:
            CheckpointError: files that are missing (all of them named) or wrong.
            LoraError: the LoRA does not fit the base model.
        """
        folders = folders or host.folders
        found_vre = folders.find(EMBEDDER.folder, EMBEDDER.names[0])
        needed = (BASE, LORA) if found_vre else (BASE, EMBEDDER, PROJECTION, LORA)
        files = _find(folders, needed)
        faces = load_analyzer(analyzer)
        pair = [found_vre] if found_vre else [files[EMBEDDER], files[PROJECTION]]
        vre = VisualRepresentationEmbedder.from_files(*pair)
        return cls(vre, _backbone(files[BASE], files[LORA]), faces, 512)

    @classmethod
    def honestface(cls, analyzer: str = "insightface", folders: ModelFolders | None = None) -> Self:
        """SD 2.1-base with HonestFace's weights, from files already on this machine.

        Args:
            analyzer: a name of `core.faces.ANALYZERS` that gives dense landmarks, such as the
                albums were made with.
            folders: where to look; by default FACEWRIGHT_MODELS and ComfyUI's models folder.

        Raises:
            CheckpointError: files that are missing (all of them named) or wrong.
            FacewrightError: an analyzer without dense landmarks.
            LoraError: the LoRA does not fit the base model.
        """
        folders = folders or host.folders
        needed = (BASE, HONESTFACE_LORA, HONESTFACE_VRE, HONESTFACE_IDE, ARCFACE, VGG)
        files = _find(folders, needed, analyzer)
        faces = load_analyzer(analyzer)
        recogniser = load_recogniser(files[ARCFACE])
        ide = IdentityEmbedder.from_file(
            files[HONESTFACE_IDE],
            recogniser=recogniser,
            extractor=load_eye_extractor(files[VGG]),
            landmarker=dense_landmarker(faces),
        )
        vre = VisualRepresentationEmbedder.from_files(files[HONESTFACE_VRE])
        backbone = _backbone(files[BASE], files[HONESTFACE_LORA])
        return cls(vre, backbone, faces, 512, ide, recogniser)

    def with_size(self, size: int) -> "Restorer":
        return replace(self, size=size)

    def with_recogniser(self, recogniser: Recogniser) -> "Restorer":
        """So that OSDFace's results can be guarded, too.

        Raises:
            FacewrightError: the analyzer gives no dense landmarks, which receipts need.
        """
        dense_landmarker(self.analyzer)
        return replace(self, recogniser=recogniser)

    def check(self, options: RestoreOptions) -> None:
        """Raise FacewrightError where this method cannot do what is asked, album by album."""
        albums = [*options.people, *([options.person] if options.person else [])]
        if albums and self.ide is None:
            raise FacewrightError(
                "OSDFace restores from the picture alone and has no use for photographs of the "
                "person. Use HonestFace: Restorer.honestface(), or Restorer.nano("
                'method="honestface").'
            )
        if (options.receipts or options.max_drift is not None) and self.recogniser is None:
            raise FacewrightError(
                "Receipts compare faces by a recogniser, and this restorer has none. Use "
                "HonestFace, or give one with `with_recogniser`."
            )
        for person in albums:
            if person.recogniser != self.ide.recogniser.id:
                raise FacewrightError(
                    f"The album of {person.name} was made with the recogniser {person.recogniser}, "
                    f"but these weights work with {self.ide.recogniser.id}, and numbers of two "
                    "recognisers say nothing about each other. Make the album again from the "
                    "photos, with this one."
                )
            points = person.landmarks.shape[1]
            if points != self.ide.landmarker.points:
                raise FacewrightError(
                    f"The album of {person.name} holds {points} landmarks per photo, but the face "
                    f"analyzer {self.analyzer.name} gives {self.ide.landmarker.points}. Use the "
                    "analyzer that the album was made with, or make it again."
                )

    @torch.no_grad()
    def restore(self, picture: Tensor, options: RestoreOptions | None = None) -> Restored:
        """Restore the faces of a picture (c, h, w) in [0, 1], c 3 or 4.

        A picture without a face comes back bit-identical; so do all pixels outside the mask.
        """
        options = options or RestoreOptions()
        self.check(options)
        faces = select_faces(
            detect_faces(self.analyzer, picture[:3], padding=options.padding),
            order=options.order,
            pick=options.pick,
            min_size=options.min_size,
            min_score=options.min_score,
            max_count=options.max_faces,
        )
        crops = align_faces(picture[None], [faces], self.size)
        report = "\n".join(line.partition(": ")[2] or line for line in crops.report)
        matches = self._match(crops, options) if options.people else None
        albums = _albums(len(crops), matches, options.person)
        if not len(crops):
            guard = self._guard(crops.pixels, crops.pixels, albums, options)
            mask = picture.new_zeros(picture.shape[1:])
            return Restored(picture, mask, 0, report, matches, guard)
        device = host.load(self.vre)
        lq = crops.pixels.to(device)
        generator = None
        if options.seed is not None:
            generator = torch.Generator().manual_seed(options.seed)
        restored, _ = restore_in_chunks(
            lq,
            self._prompts(lq, albums),
            self.backbone,
            chunk_size=options.faces_at_once,
            generator=generator,
        )
        guard = self._guard(lq, restored, albums, options)
        pasted, mask = paste_faces(
            picture[None],
            crops,
            (restored if guard is None else guard.restored).to(picture),
            feather=options.feather,
            color=options.color,
            strength=options.strength,
        )
        return Restored(pasted[0], mask[0], len(crops), report, matches, guard)

    def _match(self, crops: FaceCrops, options: RestoreOptions) -> Matches:
        lq = crops.pixels.to(host.load(self.recogniser))
        return match_faces(
            lq, crops.image_index, options.people, self.recogniser, options.threshold
        )

    def _prompts(self, lq: Tensor, albums: Sequence[Person | None]) -> Tensor:
        """(n, 77, d)"""
        if self.ide is None:
            return self.vre(lq)
        host.load(self.ide)
        return encode_faces(lq, albums, self.ide, self.vre, device=lq.device).cond

    def _guard(
        self,
        lq: Tensor,
        restored: Tensor,
        albums: Sequence[Person | None],
        options: RestoreOptions,
    ) -> GuardResult | None:
        """Where it was asked for, the faces that are let through."""
        limit = options.max_drift
        if limit is None and not options.receipts:
            return None
        device = host.load(self.recogniser)
        return guard_faces(
            lq.to(device),
            restored.to(device),
            recogniser=self.recogniser,
            landmarker=dense_landmarker(self.analyzer) if self.ide is None else self.ide.landmarker,
            max_drift=DEFAULT_DRIFT if limit is None else limit,
            action="report only" if limit is None else options.on_drift,
            references=albums,
        )


def _albums(faces: int, matches: Matches | None, person: Person | None) -> list[Person | None]:
    if matches is None:
        return [person] * faces
    return [matches.person_of(i) for i in range(faces)]


def _find(
    folders: ModelFolders, needed: Sequence[KnownFile], dense_analyzer: str | None = None
) -> dict[KnownFile, Path]:
    """Where the files lie, and a look at whether an analyzer's are there.

    Raises:
        CheckpointError: some are missing; the sentences say which, a line for each.
    """
    files, missing = {}, []
    for file in needed:
        try:
            files[file] = folders.known(file)
        except CheckpointError as error:
            missing.append(str(error))
    if missing and dense_analyzer:
        try:
            dense_landmarker(load_analyzer(dense_analyzer))
        except FacewrightError as error:
            missing.append(str(error))
    if missing:
        raise CheckpointError("\n".join(missing))
    return files


def _backbone(base: Path, lora: Path) -> Backbone:
    model, vae = load_checkpoint(base)
    if vae is None:
        raise CheckpointError(f"{base.name} holds no VAE. Use the whole SD 2.1-base checkpoint.")
    model, _ = host.apply_lora(model, *read_lora(lora), 1.0)
    return host.backbone(model, vae)
