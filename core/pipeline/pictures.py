"""Faces of a picture restored: detect, align, embed and restore, hold back, color, paste.

The steps are methods of `Restorer`, and `core.pipeline.frames` takes the same for videos.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ..color import luma
from ..devices import compute_device
from ..errors import FacewrightError
from ..faces import Face, FaceAnalyzer, NoFace, choice_of, dense_landmarker, find_faces
from ..faces.parsing import FaceParser, load_parser
from ..geometry.align import FaceCrops, align_faces, aligned_face
from ..geometry.face import DenseLandmarker
from ..methods import Choosy, FaceRestorer, specs
from ..people import one_for_all
from ..people.album import make_person, photo_names
from ..people.by_hand import told_of_batch
from ..people.guard import GuardResult
from ..people.margins import alike, margin_from
from ..people.matching import Matches, match_people
from ..people.person import Person
from ..people.recogniser import Recogniser
from .delivering import delivered
from .masks import face_masks, mask_report, outlines_in
from .options import RestoreOptions
from .upscale import Upscaler, find_upscaler, load_upscaler


@dataclass(frozen=True)
class Restored:
    """One picture after restoration."""

    pixels: Tensor
    """(c, h, w) in [0, 1], alpha as it came; larger where that was asked for."""
    mask: Tensor
    """(h, w): weight of the restored pixels."""
    faces: int
    report: str
    matches: Matches | None = None
    """Whose face is whose, where `people`, `person` or `references` were given."""
    guard: GuardResult | None = None
    """Receipts of the faces, where `max_drift` or `receipts` asked for them."""
    boxes: Tensor | None = None
    """(faces, 4) x0, y0, x1, y1 by the face's number, in pixels of the picture as it came."""


def to_compute_device(module: nn.Module) -> torch.device:
    """Bring a network to where networks compute."""
    device = compute_device()
    module.to(device)
    return device


@dataclass(frozen=True)
class Restorer:
    """A method with its networks, and who finds faces for it."""

    method: FaceRestorer
    analyzer: FaceAnalyzer
    judge: Recogniser | None = None
    """Tells people apart where the method has no recogniser of its own."""
    place: Callable[[nn.Module], torch.device] = to_compute_device
    """Brings a network to the compute device before each use, and says which."""
    notes: Sequence[str] = ()
    """What people should know of its weights; every report of `settled` begins with it."""
    files: Sequence[Path] = ()
    """The weight files it was loaded from, for receipts."""
    _upscalers: dict[str, Upscaler] = field(default_factory=dict, init=False, repr=False)
    """Those that options named so far, by the paths of their files."""

    @property
    def recogniser(self) -> Recogniser:
        """Tells people apart: what albums, the guard and receipts need.

        Raises:
            FacewrightError: there is none.
        """
        found = self.method.recogniser or self.judge
        if found is None:
            raise FacewrightError(
                "Receipts compare faces by a recogniser, and this restorer has none. Give it one, "
                "or use weights that bring one."
            )
        return found

    @cached_property
    def _parser(self) -> FaceParser:
        """Of masks by parsing, loaded once."""
        return load_parser()

    def parser(self) -> FaceParser:
        """Tells the parts of faces apart, where networks compute.

        Raises:
            CheckpointError: its weights are not there, or are something else.
        """
        self.place(self._parser.net)
        return self._parser

    def with_recogniser(self, recogniser: Recogniser) -> "Restorer":
        """So that results of methods without one can be guarded, too.

        Raises:
            FacewrightError: the analyzer gives no dense landmarks, which receipts need.
        """
        dense_landmarker(self.analyzer)
        return replace(self, judge=recogniser)

    def upscaler(self, options: RestoreOptions) -> Upscaler | None:
        """What enlarges the pictures, where that was asked for; loaded once.

        Raises:
            FacewrightError: as `load_upscaler`.
        """
        name = options.upscale
        if not name:
            return None
        if name not in self._upscalers:
            self._upscalers[name] = load_upscaler(name)
        return self._upscalers[name]

    def size_of(self, picture: Tensor, options: RestoreOptions) -> tuple[int, int]:
        """Height and width of what `restore` makes of a picture (c, h, w).

        Raises:
            FacewrightError: as `load_upscaler`, or it would be too large.
        """
        height, width = picture.shape[-2:]
        upscaler = self.upscaler(options)
        return upscaler.size(height, width, options.upscale_by) if upscaler else (height, width)

    def enlarged(self, picture: Tensor, options: RestoreOptions) -> Tensor:
        """The picture (c, h, w) as large as it is asked for.

        Raises:
            FacewrightError: as `Upscaler.enlarged`.
        """
        upscaler = self.upscaler(options)
        if upscaler is None:
            return picture
        device = self.place(upscaler.network)
        by, tile = options.upscale_by, options.upscale_tile
        return upscaler.enlarged(picture, device, by=by, tile=tile).to(picture)

    def side(self, options: RestoreOptions) -> int:
        """Of the crops, in pixels."""
        return options.size or self.method.size

    @property
    def landmarker(self) -> DenseLandmarker:
        """
        Raises:
            FacewrightError: the analyzer gives no dense landmarks.
        """
        return self.method.landmarker or dense_landmarker(self.analyzer)

    def check(self, options: RestoreOptions) -> None:
        """Raise FacewrightError where this method cannot do what is asked, album by album."""
        if options.with_people and not self.method.takes_people:
            able = [name for name, spec in specs().items() if spec.takes_people]
            raise FacewrightError(
                "These weights restore from the picture alone and have no use for photographs of "
                f"the person. Use others: {', '.join(able)}."
            )
        if options.assign and not options.with_people:
            raise FacewrightError(
                "`assign` says whose album a face gets; give the albums, too, by `people` "
                "(--person)."
            )
        if isinstance(self.method, Choosy):
            self.method.check_asked(self.side(options), options.method)
        albums = [*options.people, *([options.person] if options.person else [])]
        if not options.measured and not albums:
            return
        recogniser = self.recogniser
        self.limits_told(options)  # a rate that is not known is no fault of a picture
        for person in albums:
            person.check_fits(recogniser.id, self.landmarker.points)

    def limits_told(self, options: RestoreOptions) -> list[str]:
        """What the limits of matching and of the guard mean, a line each.

        Raises:
            FacewrightError: a false-match rate that is not known of the recogniser.
        """
        rate, lines = options.false_match_rate, []
        if options.people:
            cosine = self.recogniser.limits.threshold(options.threshold, rate)
            lines.append(f"people from cosine {self.recogniser.limits.told(cosine)}")
        drift = options.max_drift
        if rate is not None:
            drift = self.recogniser.limits.drift(drift, rate)
        if drift is not None:
            lines.append(f"held back: {self.recogniser.limits.told_of_drift(drift)}")
        return lines

    def settled(
        self, options: RestoreOptions, names: Sequence[str] = ()
    ) -> tuple[RestoreOptions, list[str]]:
        """Options that this restorer can carry out: with an album made of the `references`, and
        the `upscale` model as the path of a file that is loaded.

        Args:
            names: of the references, for the report.

        Returns:
            The options, the `notes`, and what became of the references, a line for each.

        Raises:
            CheckpointError: the weights of masks by parsing are not there.
            FacewrightError: as `check` and `load_upscaler`, or none of the references shows a face.
        """
        self.check(options)
        if options.upscale:
            options = replace(options, upscale=str(find_upscaler(options.upscale)))
            self.upscaler(options)
        if options.mask == "parsing":
            _ = self._parser  # what is missing is no fault of a picture
        notes = [*self.notes, *self.limits_told(options)]
        if not len(options.references):
            return options, notes
        self.place(self.recogniser)
        person, report = make_person(
            options.references,
            name="references",
            sources=names or photo_names(len(options.references)),
            analyzer=self.analyzer,
            recogniser=self.recogniser,
            crop_size=self.side(options),
        )
        return replace(options, references=(), person=person), [*notes, *report[1:]]

    @torch.no_grad()
    def restore(
        self, picture: Tensor, options: RestoreOptions | None = None, *, gray: bool = False
    ) -> Restored:
        """Restore the faces of a picture (c, h, w) in [0, 1], c 3 or 4.

        A picture without a face comes back bit-identical; so do all pixels outside the mask. Where
        it is enlarged, that holds of the enlarged picture; faces are found in, and cut out of, the
        picture as it came: an upscaler's inventions are not what restorers were trained on.

        Args:
            gray: the picture has no color and is to have none: restorers may add some.

        Raises:
            FacewrightError: as `settled` and `enlarged`.
        """
        options, _ = self.settled(options or RestoreOptions())
        self.size_of(picture, options)  # too large is too large before the work, too
        none: list[NoFace] = []
        found = self.find(picture[:3], options, on_none=none.append)
        crops = align_faces(picture[None], [found], self.side(options), dict(enumerate(none)))
        report = [line.partition(": ")[2] or line for line in crops.report]
        matches = self.matched(crops, options)
        report += self.warnings(matches, options)
        people = people_of(len(crops), options, matches)
        faces = self.renewed(crops.pixels, people, options)
        if upscaler := self.upscaler(options):
            picture = self.enlarged(picture, options)
            if not len(crops):  # enlarged, it does not pass through unchanged
                report = [f"{why.why}. {why.advice}" for why in none]
            report.append(upscaler.told(picture))
        if gray:
            faces = luma(faces).expand_as(faces)
            if upscaler:
                picture = torch.cat([luma(picture[:3]).expand(3, -1, -1), picture[3:]])
        outlines = outlines_in(found, self.side(options)) if options.mask == "oval" else None
        masks = self.masks(crops, options, outlines)
        if masks is not None and options.masks is not None:
            report += mask_report(crops, masks, options.masks, outlines)
        report += choice_of(self.analyzer)
        pasted, mask, guard = delivered(self, picture[None], crops, faces, people, options, masks)
        text = "\n".join(report)
        return Restored(pasted[0], mask[0], len(crops), text, matches, guard, crops.boxes)

    def find(
        self,
        picture: Tensor,
        options: RestoreOptions,
        on_none: Callable[[NoFace], object] = lambda why: None,
    ) -> list[Face]:
        """Faces of a picture (3, h, w) that are to be restored, in their order.

        Args:
            on_none: told why where there is none.
        """
        if options.aligned:
            return [aligned_face(*picture.shape[-2:])]
        return find_faces(
            self.analyzer,
            picture,
            padding=options.padding,
            on_none=on_none,
            order=options.order,
            pick=options.pick,
            min_size=options.min_size,
            min_score=options.min_score,
            max_count=options.max_faces,
        )

    def masks(
        self, crops: FaceCrops, options: RestoreOptions, outlines: Tensor | None = None
    ) -> Tensor | None:
        """What of each crop is shown restored, see `face_masks`; None: all of it."""
        if options.masks is None:
            return None
        return face_masks(crops, options.masks, self.parser, outlines=outlines)

    def matched(self, crops: FaceCrops, options: RestoreOptions) -> Matches | None:
        """Whose face is whose; None where no photographs of people were given."""
        if not options.people and options.person is None:
            return None
        embeddings, index = self.embed(crops.pixels), crops.image_index
        assign = told_of_batch(options.assign, index.tolist())
        if options.person is not None:
            return one_for_all.match_all(embeddings, index, options.person, self.recogniser, assign)
        limits, margin = self.recogniser.limits, options.margin
        return match_people(
            embeddings,
            index,
            options.people,
            limits.threshold(options.threshold, options.false_match_rate),
            recogniser=self.recogniser.id,
            margin=margin_from(limits, margin),
            assign=assign,
        )

    def alike(self, options: RestoreOptions) -> list[str]:
        """Warnings of albums that are nearly one person."""
        if len(options.people) < 2:
            return []
        limits, margin = self.recogniser.limits, options.margin
        threshold = limits.threshold(options.threshold, options.false_match_rate)
        return alike(options.people, threshold, margin_from(limits, margin))

    def warnings(self, matches: Matches | None, options: RestoreOptions) -> list[str]:
        """What should be looked at of who is who."""
        if matches is None:
            return []
        one = options.person is not None
        return one_for_all.warnings_of(matches) if one else matches.warnings

    def embed(self, lq: Tensor) -> Tensor:
        """(n, d) on the CPU: who the faces (n, 3, s, s) in [0, 1] are."""
        self.place(self.recogniser)
        return self.recogniser.embed(lq)

    def renewed(
        self, lq: Tensor, people: Sequence[Person | None], options: RestoreOptions
    ) -> Tensor:
        """Crops (n, 3, s, s) restored, each with its album or None."""
        if not len(lq):
            return lq
        return self.method.restore(
            lq,
            people,
            options=options.method,
            generator=_generator(options.seed),
            chunk_size=options.faces_at_once,
        )


def people_of(faces: int, options: RestoreOptions, matches: Matches | None) -> list[Person | None]:
    """With whose album each face is restored."""
    if matches is None:
        return [options.person] * faces
    return [matches.person_of(i) for i in range(faces)]


def _generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)
