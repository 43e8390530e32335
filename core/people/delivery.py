"""Restored faces on their way out: put in, looked at as they leave, and put in again weaker."""

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..geometry.align import FaceCrops
from ..geometry.paste import Pasting, beside, meeting, ownership, windows_of
from ..geometry.warp import Ranges, covered, invert, scale_of, warp
from .measured import FEATHER, box_shown


class Delivery(Protocol):
    """n faces, each delivered by some share of its restoration, from 0 to 1."""

    @property
    def parts(self) -> Sequence[Sequence[int]]:
        """All faces, in parts; faces of two parts never change the same pixels."""
        ...

    @property
    def asked(self) -> Tensor:
        """(n,) float64: the strength that a share of 1 is delivered at."""
        ...

    @property
    def feather(self) -> float:
        """Width of the border, as a share of the crop."""
        ...

    def put(self, share: Tensor, faces: Sequence[int]) -> None:
        """Deliver by these shares (n,), of which those of `faces` are new."""
        ...

    def meeting(self, faces: Sequence[int]) -> list[int]:
        """These, and all whose pixels change with theirs."""
        ...

    def look(self, faces: Sequence[int]) -> Tensor:
        """(k, 3, s, s): the faces as they are delivered now."""
        ...

    def shown(self, faces: Sequence[int]) -> Tensor | None:
        """(k, 1, s, s): where they are put into pictures; None: they are crops still."""
        ...


class CropDelivery:
    """Crops that somebody else will paste: `lq` + share (`restored` - `lq`)."""

    feather = FEATHER

    def __init__(self, lq: Tensor, restored: Tensor, chunk: int) -> None:
        self._lq, self._restored, self._out = lq, restored, restored.clone()
        everyone = range(len(lq))
        self.parts = [everyone[i : i + chunk] for i in everyone[::chunk]]
        self.asked = torch.ones(len(lq), dtype=torch.float64)

    def put(self, share: Tensor, faces: Sequence[int]) -> None:
        for i in faces:
            s = float(share[i])
            mixed = self._lq[i] + s * (self._restored[i] - self._lq[i])
            # Bit for bit at both ends, also where the restored face is no number.
            self._out[i] = self._restored[i] if s == 1 else self._lq[i] if s == 0 else mixed

    def meeting(self, faces: Sequence[int]) -> list[int]:
        return sorted(faces)

    def look(self, faces: Sequence[int]) -> Tensor:
        return self._out[list(faces)]

    def shown(self, faces: Sequence[int]) -> None:
        return None


class _InPictures:
    """Faces of pictures, as they are cut out of them again."""

    def __init__(
        self,
        before: Tensor | Sequence[Tensor],
        after: Tensor | Sequence[Tensor],
        places: FaceCrops,
        lq: Tensor,
    ) -> None:
        """
        Args:
            before, after: the pictures without and with the restored faces.
            places: of the faces in them.
            lq: (n, 3, s, s), the faces as they are cut out of `before`.
        """
        self.places, self._before, self._after, self._lq = places, before, after, lq
        self.parts = [
            (places.image_index == b).nonzero()[:, 0].tolist()
            for b in places.image_index.unique().tolist()
        ]
        self._ranges = Ranges(before)  # as the pictures came

    def look(self, faces: Sequence[int]) -> Tensor:
        crops = [self._look(i) for i in faces]
        return torch.stack(crops) if crops else self._lq[:0]

    def _look(self, i: int) -> Tensor:
        size, b = self._lq.shape[-1], int(self.places.image_index[i])
        back, picture = invert(self.places.matrix[i]), self._after[b]
        # What resampling reads lies within four of its steps around the crop.
        reach, crop = 4 * max(1.0, scale_of(back)), (0, 0, size, size)
        x0, y0, x1, y1 = covered(back, crop, *picture.shape[-2:], margin=reach)
        where = (slice(None, 3), slice(y0, y1), slice(x0, x1))
        if torch.equal(picture[where], self._before[b][where]):
            return self._lq[i]
        # Not the range of the whole picture as it is now: far away faces are none of this one's.
        low, high = self._ranges.of(b)
        near = picture[where]
        within = torch.minimum(low, near.amin()), torch.maximum(high, near.amax())
        return warp(picture[:3], self.places.matrix[i], crop, within).clamp_(0, 1)


class PasteDelivery(_InPictures):
    """Faces that are pasted into pictures, the share of each times `strength`."""

    def __init__(
        self,
        pasting: Pasting,
        before: Tensor | Sequence[Tensor],
        lq: Tensor,
        strength: float,
        feather: float,
        masks: Tensor | None,
    ) -> None:
        """
        Args:
            pasting: of the restored faces into `before`.
            lq: (n, 3, s, s), the faces as they are cut out of `before`.
            strength, feather, masks: as for `paste_faces`.
        """
        super().__init__(before, pasting.pictures, pasting.crops, lq)
        self._pasting, self._strength, self._masks = pasting, strength, masks
        self.feather, tracks = feather, pasting.crops.tracks
        weight = torch.ones(len(lq), dtype=torch.float64) if tracks is None else tracks.weight
        self.asked = strength * weight

    def put(self, share: Tensor, faces: Sequence[int]) -> None:
        self._pasting.put(self._strength * share, faces)

    def meeting(self, faces: Sequence[int]) -> list[int]:
        return self._pasting.meeting(faces)

    def shown(self, faces: Sequence[int]) -> Tensor:
        return _shown(self._lq.shape[-1], self.feather, self._masks, faces)


class FinishedDelivery(_InPictures):
    """Faces of finished pictures, of which the pictures before and after are known, and at best
    how the faces were pasted.

    out = after - sum_i (1 - share_i) w_i (after - before) in the crops of the faces, with the
    weights w_i of `core.geometry.paste.ownership`, which sum to 1 there. Where faces overlap, each
    pixel follows the face whose centre is nearer; elsewhere nothing is touched.
    """

    def __init__(self, before: Tensor, after: Tensor, crops: FaceCrops, lq: Tensor) -> None:
        """
        Args:
            before, after: (b, c, h, w) in [0, 1]; `after` stays as it is.
            crops: the faces where they lie in them; `crops.pasted` says how they were pasted, else
                the border is taken to be that of Paste Faces by default.
            lq: (n, 3, s, s), the faces as they are cut out of `before`.
        """
        self.pictures = after.clone()
        super().__init__(before, self.pictures, crops, lq)
        self._finished = after
        pasted, tracks = crops.pasted, crops.tracks
        self.feather = FEATHER if pasted is None else pasted.feather
        self._masks = None if pasted is None else pasted.masks
        self.asked = torch.full((len(lq),), pasted.strength if pasted else 1.0).double()
        if pasted and tracks is not None:
            self.asked = self.asked * tracks.weight
        self._windows = windows_of(crops)
        self._beside = beside(self._windows, crops)

    def put(self, share: Tensor, faces: Sequence[int]) -> None:
        again = self.meeting(faces)

        def own(i: int) -> Tensor:
            others, window = self._beside[i], self._windows[i]
            return ownership(self.places, i, others, window, self.feather)

        for i in again:
            self._in(i, self.pictures).copy_(self._in(i, self._finished))
        for i in again:
            if share[i] < 1:
                change = self._in(i, self._finished) - self._in(i, self._before)
                taken = ((1 - share[i]) * own(i)).to(change) * change
                self._in(i, self.pictures).sub_(taken)
        for i in again:  # exact where all is taken back
            if share[i] == 0:
                alone = (own(i) == 1).to(self.pictures.device)
                target, back = self._in(i, self.pictures), self._in(i, self._before)
                target.copy_(torch.where(alone, back, target))

    def meeting(self, faces: Sequence[int]) -> list[int]:
        return meeting(self._beside, faces)

    def shown(self, faces: Sequence[int]) -> Tensor:
        return _shown(self._lq.shape[-1], self.feather, self._masks, faces)

    def _in(self, i: int, pictures: Tensor | Sequence[Tensor]) -> Tensor:
        x0, y0, x1, y1 = self._windows[i]
        return pictures[int(self.places.image_index[i])][:3, y0:y1, x0:x1]


def _shown(size: int, feather: float, masks: Tensor | None, faces: Sequence[int]) -> Tensor:
    """(k, 1, size, size): which pixels of the crops are put in."""
    box = box_shown(size, feather).expand(len(faces), 1, -1, -1)
    if masks is None:
        return box
    own = masks[list(faces)][:, None].to(box)
    return box * F.interpolate(own, (size, size), mode="bilinear", antialias=True)
