"""The faces of a video's frames restored in two passes, with memory that does not grow with it.

The first pass looks for faces, the second restores them where smoothing over all frames puts them.
In between only places are kept, about a kilobyte for each face.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..faces import ORDERS, Face, FaceAnalyzer, detect_faces, select_faces
from ..geometry.align import FaceCrops, FacePlaces, Tracks, cut_out, place_faces
from ..geometry.paste import paste_faces
from ..restorer import Backbone, restore_in_chunks
from ..video.smoothing import check_smoothing, smooth_places
from ..video.tracking import FrameChange, find_cuts


@dataclass(frozen=True, kw_only=True)
class FrameOptions:
    """What to restore and how; see `select_faces`, `smooth_places` and `paste_faces`."""

    size: int = 512
    """Side of the crops in pixels."""
    order: str = ORDERS[0]
    pick: str = ""
    min_size: float = 0.0
    min_score: float = 0.0
    max_faces: int = 0
    padding: float = 0.0
    smoothing: float = 0.5
    """`strength` of `smooth_places`."""
    fill_gaps: int = 3
    fade: int = 3
    cut_threshold: float = 0.1
    feather: float = 0.12
    color: str = "none"
    strength: float = 1.0
    faces_at_once: int = 4

    def __post_init__(self) -> None:
        check_smoothing(self.smoothing, self.fill_gaps, self.fade, self.cut_threshold)


@dataclass
class FrameRestorer:
    """First `look` at every frame, then `settle`, then `restore` the frames again in order."""

    analyzer: FaceAnalyzer
    embed: Callable[[Tensor], Tensor]
    """Crops (n, 3, s, s) in [0, 1] -> conditioning (n, k, d)."""
    backbone: Backbone
    options: FrameOptions = field(default_factory=FrameOptions)
    _change: FrameChange = field(default_factory=FrameChange, init=False)
    _found: list[list[Face]] = field(default_factory=list, init=False)
    _places: FacePlaces | None = field(default=None, init=False)
    _tracks: Tracks | None = field(default=None, init=False)

    def look(self, frame: Tensor) -> None:
        """First pass, the next frame: (3, h, w) in [0, 1]."""
        options = self.options
        found = select_faces(
            detect_faces(self.analyzer, frame, padding=options.padding),
            order=options.order,
            pick=options.pick,
            min_size=options.min_size,
            min_score=options.min_score,
            max_count=options.max_faces,
        )
        self._found.append([replace(face, landmarks=None) for face in found])
        self._change.see(frame)

    def settle(self) -> str:
        """Between the passes: follow the faces and smooth their places. Returns a report."""
        options, frames = self.options, len(self._found)
        cuts = find_cuts(self._change.differences, options.cut_threshold)
        places = place_faces(self._found, options.size)
        self._places, self._tracks, lines = smooth_places(
            places,
            options.size,
            frames,
            cuts,
            strength=options.smoothing,
            fill_gaps=options.fill_gaps,
            fade=options.fade,
        )
        without = frames - len(self._places.image_index.unique())
        lines.append(f"{len(self._places.matrix)} faces restored; {without} frames without a face")
        return "\n".join(lines)

    @torch.no_grad()
    def restore(self, first: int, frames: Sequence[Tensor]) -> list[Tensor | None]:
        """Second pass: frames `first`, `first` + 1, ... with their faces restored.

        None in place of a frame without a face: it stays what it was.
        """
        options = self.options
        crops = self._crops(first, frames)
        if not len(crops):
            return [None] * len(frames)
        restored, _ = restore_in_chunks(
            crops.pixels,
            self.embed(crops.pixels),
            self.backbone,
            chunk_size=options.faces_at_once,
        )
        pasted, _ = paste_faces(
            frames,
            crops,
            restored,
            feather=options.feather,
            color=options.color,
            strength=options.strength,
        )
        with_faces = set(crops.image_index.tolist())
        return [picture if i in with_faces else None for i, picture in enumerate(pasted)]

    def _crops(self, first: int, frames: Sequence[Tensor]) -> FaceCrops:
        at = self._places.image_index
        mine = (at >= first) & (at < first + len(frames))
        places = FacePlaces(
            matrix=self._places.matrix[mine],
            image_index=at[mine] - first,
            landmarks=None,
            boxes=self._places.boxes[mine],
            scores=self._places.scores[mine],
        )
        # A colour change cannot be steadied over a track of which only a part is here.
        tracks = Tracks(self._tracks.number[mine], 0.0, self._tracks.weight[mine])
        return FaceCrops(
            **vars(places),
            pixels=cut_out(frames, places, self.options.size),
            image_sizes=[(f.shape[-2], f.shape[-1]) for f in frames],
            report=[],
            tracks=tracks,
        )
