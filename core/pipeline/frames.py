"""The faces of a video's frames restored in two passes, with memory that does not grow with it.

The first pass looks for faces, the second restores them where smoothing over all frames puts them.
In between only places are kept, and few numbers of who the faces are and of their colors: about
a kilobyte for each face, three where people are told apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..color import MOMENT_MODES, change_color, change_of_moments, color_moments
from ..errors import counted
from ..faces import Face, NoFace, choice_of, none_left
from ..geometry.align import FaceCrops, FacePlaces, Tracks, cut_out, place_faces
from ..geometry.oval import mean_outline
from ..geometry.smooth import smooth_over_tracks
from ..people.by_hand import told_of_batch
from ..people.looks import Looks, telling
from ..people.margins import margin_from
from ..people.one_for_all import given_to_all, warnings_of
from ..people.over_frames import TrackMatches
from ..people.person import Person
from ..people.receipts import pictures_of
from ..people.steady import ShownSoFar
from ..video.smoothing import smooth_places
from ..video.tracking import FrameChange, find_cuts
from .delivering import delivered, guard_of
from .masks import outlines_in
from .options import RestoreOptions
from .pictures import Restorer
from .tracks import TrackReceipts, match_tracks

_NONE = torch.empty(0, dtype=torch.int64)
_NO_TRACKS = Tracks(_NONE, 0.0, torch.empty(0, dtype=torch.float64), _NONE)


@dataclass
class FrameRestorer:
    """First `look` at every frame, then `settle`, then `restore` the frames again in order."""

    restorer: Restorer
    options: RestoreOptions = field(default_factory=RestoreOptions)
    matches: TrackMatches | None = field(default=None, init=False)
    """Who is who, one entry per face that was followed; known once settled."""
    receipts: TrackReceipts | None = field(default=None, init=False)
    """Of the faces restored so far, where they are measured."""
    none: str = field(default="", init=False)
    """Why no frame has a face to restore, where that is so; known once settled."""
    _change: FrameChange = field(default_factory=FrameChange, init=False)
    _found: list[list[Face]] = field(default_factory=list, init=False)
    _none: list[NoFace] = field(default_factory=list, init=False)
    _identities: list[Tensor] = field(default_factory=list, init=False)
    _telling: list[Tensor] = field(default_factory=list, init=False)
    """How much each face tells of who it is."""
    _moments: list[Tensor] = field(default_factory=list, init=False)
    _outlines: list[Tensor] = field(default_factory=list, init=False)
    _ovals: Tensor | None = field(default=None, init=False)
    """(n, DIRECTIONS): the outline of each face, where ovals mask them."""
    _places: FacePlaces = field(init=False)
    _tracks: Tracks = field(default=_NO_TRACKS, init=False)
    _steady: Tensor | None = field(default=None, init=False)
    """(n, 2, 3): the color moments that each face is to have."""
    size: tuple[int, int] | None = field(default=None, init=False)
    """Height and width of restored frames where they are enlarged; known from the first look."""
    _shown: ShownSoFar = field(init=False)
    """How much of each face was let through."""

    def __post_init__(self) -> None:
        self.options, self.notes = self.restorer.settled(self.options)
        self.side = self.restorer.side(self.options)
        self._shown = ShownSoFar(self.options.fade)
        if self.options.measured:  # who judges is known, also where no face follows
            limit, about = guard_of(self.restorer, self.options, video=True)
            self.receipts = TrackReceipts(self.restorer.recogniser.id, limit["action"], about)

    @torch.no_grad()
    def look(self, frame: Tensor) -> None:
        """First pass, the next frame: (3, h, w) in [0, 1]."""
        options = self.options
        if self.receipts is not None and not self.receipts.about.pictures:
            size = pictures_of([(frame.shape[-2], frame.shape[-1])])
            self.receipts.about = replace(self.receipts.about, pictures=size)
        if options.upscale and self.size is None:
            self.size = self.restorer.size_of(frame, options)
        found = self.restorer.find(frame, options, on_none=self._none.append)
        if options.mask == "oval":
            self._outlines.append(outlines_in(found, self.side))
        self._found.append([replace(face, landmarks=None) for face in found])
        self._change.see(frame)
        if not found or not (self._compares or options.color in MOMENT_MODES):
            return
        places = place_faces([found], self.side)
        crops = cut_out([frame], places, self.side)
        if self._compares:
            self._identities.append(self.restorer.embed(crops))
            self._telling.append(telling(crops, places))
        if options.color in MOMENT_MODES:
            self._moments.append(color_moments(crops, options.color).cpu())

    def settle(self) -> str:
        """Between the passes: follow the faces, smooth their places, tell who is who; a report."""
        options, frames = self.options, len(self._found)
        cuts = find_cuts(self._change.differences, options.cut_threshold)
        looks = self._looks()
        self._places, self._tracks, lines = smooth_places(
            place_faces(self._found, self.side),
            self.side,
            frames,
            cuts,
            strength=options.smoothing,
            fill_gaps=options.fill_gaps,
            fade=options.fade,
            looks=looks,
        )
        source = self._tracks.source
        if self._moments and options.smoothing > 0:
            moments = torch.cat(self._moments).double()[source.clamp(min=0)]
            moments[source < 0] = torch.nan
            self._steady = smooth_over_tracks(moments, self._tracks)
            self._steady[:, 0].clamp_(min=0)
        if options.mask == "oval":
            self._ovals = self._steady_ovals()
        if options.with_people and looks is not None:
            one = [options.person] if options.person else []
            told = told_of_batch(options.assign, [0] * self.followed)
            recogniser, limits = self.restorer.recogniser, self.restorer.recogniser.limits
            self.matches = match_tracks(
                looks.embeddings,
                self._tracks,
                self._places.image_index,
                one or options.people,
                limits.threshold(options.threshold, options.false_match_rate),
                recogniser=recogniser.id,
                margin=0.0 if one else margin_from(limits, options.margin),
                assign={} if one else told,
                weight=looks.weight,
            )
            if one:
                self.matches = given_to_all(self.matches, told)
                lines += self.matches.report[: len(self.matches)] + warnings_of(self.matches)
            else:
                lines += self.matches.report
        self._identities, self._telling, self._moments = [], [], []
        without = frames - len(self._places.image_index.unique())
        restored = len(self._places.matrix)
        done = f"{counted(restored, 'face')} restored"
        lines.append(f"{done}; {counted(without, 'frame')} without a face")
        if not restored:
            self.none = none_left(self._none, frames, "frame")
            lines += [self.none] * bool(self.none)
        return "\n".join([*self.notes, *lines, *choice_of(self.restorer.analyzer)])

    @torch.no_grad()
    def restore(self, first: int, frames: Sequence[Tensor]) -> list[Tensor | None]:
        """Second pass: frames `first`, `first` + 1, ... with their faces restored.

        None in place of a frame without a face: it stays what it was. Where frames are enlarged,
        all are.
        """
        index = self._places.image_index
        mine = (index >= first) & (index < first + len(frames))
        if not mine.any():
            return [self._without_face(frame) for frame in frames]
        crops, options = self._crops(first, frames, mine), self.options
        number = self._tracks.number[mine]
        people = [self._person(k) for k in number.tolist()]
        faces = self._renewed(crops.pixels, people)
        # A color change cannot be steadied over a track of which only a part is here.
        weight, source = self._tracks.weight[mine], self._tracks.source[mine]
        crops.tracks = Tracks(number, 0.0, weight, source)
        if self._steady is not None:
            change = change_of_moments(
                color_moments(faces, options.color), self._steady[mine].to(faces), options.color
            )
            faces = change_color(faces, change, options.color)
            options = replace(options, color="none")
        ovals = None if self._ovals is None else self._ovals[mine]
        masks = self.restorer.masks(crops, options, ovals)
        done: list[Tensor | None] = []
        for k, frame in enumerate(frames):
            here = crops.image_index == k
            if not here.any():
                done.append(self._without_face(frame))
                continue
            own = [person for person, is_here in zip(people, here, strict=True) if is_here]
            done.append(
                self._put_back(
                    first + k,
                    self.restorer.enlarged(frame, options),
                    crops.of_picture(k),
                    faces[here.to(faces.device)],
                    own,
                    options,
                    None if masks is None else masks[here.to(masks.device)],
                )
            )
        return done

    def _put_back(
        self,
        at: int,
        frame: Tensor,
        crops: FaceCrops,
        faces: Tensor,
        people: Sequence[Person | None],
        options: RestoreOptions,
        masks: Tensor | None,
    ) -> Tensor:
        """Frame `at` with its faces, judged as they leave: faded and coming again.

        Frame by frame, as what may be shown of a face follows from the frame before.
        """
        assert crops.tracks is not None
        number = crops.tracks.number.tolist()
        most = self._shown.most(number, at)
        pasted, _, guard = delivered(
            self.restorer, [frame], crops, faces, people, options, masks, most
        )
        if guard is not None and self.receipts is not None:
            self._shown.add(number, at, guard.shares)
            self.receipts.add(guard, number, [at] * len(number))
        return pasted[0]

    @property
    def _compares(self) -> bool:
        """Whether somebody tells people apart: for albums, receipts, or where one was given."""
        options = self.options
        return options.with_people or options.measured or self.restorer.judge is not None

    def _looks(self) -> Looks | None:
        if not self._compares:
            return None
        recogniser = self.restorer.recogniser
        embeddings = torch.cat([torch.empty(0, recogniser.dim), *self._identities])
        return Looks.of(embeddings, torch.cat([torch.empty(0), *self._telling]), recogniser.limits)

    def _without_face(self, frame: Tensor) -> Tensor | None:
        return self.restorer.enlarged(frame, self.options) if self.size else None

    @property
    def followed(self) -> int:
        """How many faces there are, each in however many frames."""
        return len(self._tracks.number.unique())

    def largest(self) -> int | None:
        """The frame that shows most of the restorer's work: the largest face, faded in."""
        if not len(self._places.matrix):
            return None
        x0, y0, x1, y1 = self._places.boxes.double().unbind(1)
        area = (x1 - x0) * (y1 - y0) * self._tracks.weight
        return int(self._places.image_index[area.argmax()])

    def _steady_ovals(self) -> Tensor:
        """Outlines relative to the crops, smoothed as these are; filled-in faces are in between."""
        outlines = torch.cat([outlines_in([], self.side), *self._outlines])
        self._outlines = []
        source = self._tracks.source
        if not len(outlines):
            return mean_outline().expand(len(source), -1)
        mine = outlines[source.clamp(min=0)]
        mine[source < 0] = torch.nan
        steady = smooth_over_tracks(mine, self._tracks)
        return torch.where(steady.isnan(), mean_outline(), steady)

    def _renewed(self, lq: Tensor, people: Sequence[Person | None]) -> Tensor:
        options = self.options
        if options.seed is None:
            return self.restorer.renewed(lq, people, options)
        # What is drawn has to be the same in all frames, or the face flickers.
        pairs = [(lq[i : i + 1], people[i : i + 1]) for i in range(len(lq))]
        return torch.cat([self.restorer.renewed(*pair, options) for pair in pairs])

    def _person(self, track: int) -> Person | None:
        return self.options.person if self.matches is None else self.matches.person_of(track)

    def _crops(self, first: int, frames: Sequence[Tensor], mine: Tensor) -> FaceCrops:
        places = FacePlaces(
            matrix=self._places.matrix[mine],
            image_index=self._places.image_index[mine] - first,
            landmarks=None,
            boxes=self._places.boxes[mine],
            scores=self._places.scores[mine],
        )
        return FaceCrops(
            **vars(places),
            pixels=cut_out(frames, places, self.side),
            image_sizes=[(f.shape[-2], f.shape[-1]) for f in frames],
            report=[],
        )
