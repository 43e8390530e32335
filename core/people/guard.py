"""Is it still the same person: restored faces that drifted are held back, and each gets a receipt.

The anchor is who somebody is said to be: the references where there are any, else the degraded
input. The drift of a face is 1 - cosine(face, anchor), from 0 (no drift) over 1 (unrelated) to 2.
A severely degraded input is a weak anchor: recognisers see little of a person in it, so a good
restoration may drift far from it, and a bad one not much farther. References are a strong one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, check_image
from ..faces import DENSE
from ..geometry.face import DenseLandmarker
from .person import Person
from .receipts import Receipt, Verdict, measure, to_json
from .recogniser import Recogniser

if TYPE_CHECKING:
    from .matching import Matches

ACTIONS = ("lower strength", "fall back", "report only")
STRENGTHS = (0.8, 0.6, 0.4, 0.2)
"""Shares of the restored face that are tried, one after another, where all of it is too much."""

_CHUNK = 8
"""Faces looked at at once, which bounds the memory a batch takes."""

Reference = Person | Tensor | None
"""An album, or embeddings (k, d) of one person, or nothing."""


@dataclass(frozen=True)
class GuardResult:
    """What the guard lets through."""

    restored: Tensor
    """(n, 3, s, s) in [0, 1]; faces that were kept are bit for bit as they came."""
    receipts: list[Receipt]
    recogniser: str
    """`Recogniser.id` of who judged."""
    action: str

    @property
    def entries(self) -> list[dict[str, Any]]:
        """For JSON, by face."""
        return [receipt.entry() for receipt in self.receipts]

    @property
    def held_back(self) -> list[str]:
        """A line for each face that was not kept."""
        return [receipt.line() for receipt in self.receipts if receipt.verdict != "kept"]

    @property
    def json(self) -> str:
        return to_json(self.receipts, recogniser=self.recogniser, action=self.action)

    @property
    def report(self) -> str:
        """A line per face."""
        return "\n".join(receipt.line() for receipt in self.receipts) or "no faces"


@torch.no_grad()
def guard_faces(
    lq: Tensor,
    restored: Tensor,
    *,
    recogniser: Recogniser,
    landmarker: DenseLandmarker,
    max_drift: float = 0.5,
    action: str = ACTIONS[0],
    references: Sequence[Reference] | None = None,
    on_faces: Callable[[int], None] = lambda faces: None,
) -> GuardResult:
    """Hold back restored faces that are no longer who they were.

    A face passes where 1 - cosine(restored, anchor) <= max_drift. The anchor is the mean direction
    of the face's references, or the embedding of `lq` where it has none. What happens to others is
    up to `action`:

    - "lower strength": `lq` + s (restored - `lq`) for the first s of `STRENGTHS` that passes, else
      as "fall back".
    - "fall back": `lq` itself. With references it may be farther from them than `max_drift`, too;
      the receipt says so.
    - "report only": the restored face, whatever it is; the receipt says so.

    Args:
        lq: (n, 3, s', s') FFHQ-aligned input crops in [0, 1], resized to s where s' differs.
        restored: (n, 3, s, s) in [0, 1], of the same faces in the same order; n may be 0.
        recogniser: on the device of the crops.
        landmarker: an analyzer with dense landmarks, for the receipts.
        max_drift: in [0, 2].
        action: one of `ACTIONS`.
        references: per face, see `references_for`.
        on_faces: called with a number of faces just finished; an exception ends the work.

    Raises:
        FacewrightError: crops that do not belong together, an analyzer without dense landmarks, a
            number or an action that is none, or references of another recogniser.
    """
    references = [None] * len(restored) if references is None else list(references)
    _check(lq, restored, landmarker, max_drift, action, references)
    templates = [_template(reference, recogniser) for reference in references]
    inputs = lq.to(restored)
    if inputs.shape != restored.shape:
        inputs = F.interpolate(inputs, restored.shape[-2:], mode="bilinear", antialias=True)
    out, receipts = restored.clone(), []
    for start in range(0, len(restored), _CHUNK):
        part = slice(start, start + _CHUNK)
        judged = _judge(
            inputs[part], restored[part], templates[part], recogniser, max_drift, action
        )
        out[part] = judged.result
        points_lq, points = (landmarker.landmarks(x).cpu() for x in (inputs[part], out[part]))
        measured = measure(inputs[part], out[part], points_lq, points)
        for i, what in enumerate(measured):
            reference = references[start + i]
            receipts.append(
                Receipt(
                    face=start + i,
                    person=reference.name if isinstance(reference, Person) else None,
                    anchor="input" if reference is None else "references",
                    verdict=_verdict(judged.strength[i], judged.drift_restored[i], max_drift),
                    strength=judged.strength[i],
                    max_drift=max_drift,
                    drift=judged.drift[i],
                    drift_restored=judged.drift_restored[i],
                    cosine_input=judged.cosine_input[i],
                    cosine_references=math.nan if reference is None else 1 - judged.drift[i],
                    measured=what,
                )
            )
        on_faces(len(measured))
    return GuardResult(out, receipts, recogniser.id, action)


def references_for(
    faces: int,
    *,
    person: Person | None = None,
    matches: "Matches | None" = None,
    template: Tensor | None = None,
) -> list[Reference]:
    """One reference per face, from what is connected to a node.

    Args:
        faces: how many.
        person: one album for all.
        matches: an album or nobody for each face.
        template: (d,) direction of one person for all, from `reference_template`.

    Raises:
        FacewrightError: more than one of them, or matches of other faces.
    """
    given = {"person": person, "matches": matches, "references": template}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise FacewrightError(
            f"Who the faces are is said by {' and by '.join(f'`{n}`' for n in named)}. Connect one "
            "of them."
        )
    if matches is None:
        return [person if template is None else template[None]] * faces
    if len(matches) != faces:
        raise FacewrightError(
            f"`matches` tells who {len(matches)} faces are, but {faces} crops came. Match the "
            "faces that are restored, all of them and in their order."
        )
    return [matches.person_of(i) for i in range(faces)]


@dataclass(frozen=True)
class _Judged:
    result: Tensor
    strength: list[float]
    drift: list[float]
    drift_restored: list[float]
    cosine_input: list[float]


def _judge(
    lq: Tensor,
    restored: Tensor,
    templates: Sequence[Tensor | None],
    recogniser: Recogniser,
    max_drift: float,
    action: str,
) -> _Judged:
    own = _embed(recogniser, lq)
    anchors = torch.stack([own[i] if t is None else t for i, t in enumerate(templates)])
    now = _embed(recogniser, restored)
    result, strength = restored.clone(), [1.0] * len(lq)
    first = _drift(now, anchors)
    # Turned round, so that a NaN does not pass.
    left = [i for i, drift in enumerate(first) if not drift <= max_drift]
    if action == "report only":
        left = []
    for s in STRENGTHS if action == "lower strength" else ():
        if not left:
            break
        blended = lq[left] + s * (restored[left] - lq[left])
        embedded = _embed(recogniser, blended)
        for row, (i, drift) in enumerate(zip(left, _drift(embedded, anchors[left]), strict=True)):
            if drift <= max_drift:
                result[i], now[i], strength[i] = blended[row], embedded[row], s
        left = [i for i in left if strength[i] == 1]
    for i in left:
        result[i], now[i], strength[i] = lq[i], own[i], 0.0
    return _Judged(
        result=result,
        strength=strength,
        drift=_drift(now, anchors),
        drift_restored=first,
        cosine_input=[1 - d for d in _drift(now, own)],
    )


def _embed(recogniser: Recogniser, faces: Tensor) -> Tensor:
    """(n, d) float64 of length 1 on the CPU."""
    return F.normalize(recogniser(faces).cpu().double(), dim=1)


def _drift(embeddings: Tensor, anchors: Tensor) -> list[float]:
    """1 - cosine as |u - v|^2 / 2, which is exactly 0 for equal vectors."""
    return ((embeddings - anchors).square().sum(1) / 2).tolist()


def _verdict(strength: float, drift_restored: float, max_drift: float) -> Verdict:
    if strength == 1:
        return "kept" if drift_restored <= max_drift else "too far"
    return "lowered" if strength else "fell back"


def _template(reference: Reference, recogniser: Recogniser) -> Tensor | None:
    if reference is None:
        return None
    if isinstance(reference, Person):
        reference.check_fits(recogniser.id)
        return F.normalize(reference.template.cpu().double(), dim=0)
    if reference.ndim != 2 or reference.shape[1] != recogniser.dim or not len(reference):
        raise FacewrightError(
            f"References should be embeddings (k, {recogniser.dim}) of one person, got "
            f"{tuple(reference.shape)}."
        )
    return F.normalize(F.normalize(reference.cpu().double(), dim=1).mean(0), dim=0)


def _check(
    lq: Tensor,
    restored: Tensor,
    landmarker: DenseLandmarker,
    max_drift: float,
    action: str,
    references: Sequence[Reference],
) -> None:
    for name, x in (("image", lq), ("restored", restored)):
        check_image(x, name=name)
        if x.shape[-1] != x.shape[-2]:
            raise FacewrightError(
                f"`{name}` is {x.shape[-1]} x {x.shape[-2]} pixels and no aligned face crop, which "
                "is square. Connect the crops of Detect Faces and what was restored from them, not "
                "whole pictures."
            )
    if len(lq) != len(restored):
        raise FacewrightError(
            f"{len(lq)} input crops came with {len(restored)} restored ones. Connect the crops "
            "that were restored, all of them and in their order."
        )
    if len(references) != len(restored):
        raise FacewrightError(f"{len(references)} references came for {len(restored)} faces.")
    if not hasattr(landmarker, "landmarks"):
        raise FacewrightError(
            f"The face analyzer {getattr(landmarker, 'name', '')} gives no dense landmarks, which "
            f"receipts need. Choose one that does: {DENSE}."
        )
    if not 0 <= max_drift <= 2:
        raise FacewrightError(f"`max_drift` is 1 - cosine, in [0, 2], got {max_drift}.")
    if action not in ACTIONS:
        raise FacewrightError(f"No action {action!r}; known: {', '.join(ACTIONS)}.")
