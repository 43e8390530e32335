"""Is it still the same person: restored faces that drifted are held back, and each gets a receipt.

The anchor is who somebody is said to be: the references where there are any, else the degraded
input. The drift of a face is 1 - cosine(face, anchor), from 0 (no drift) over 1 (unrelated) to 2.
A severely degraded input is a weak anchor: recognisers see little of a person in it, so a good
restoration may drift far from it, and a bad one not much farther. References are a strong one.

What is promised: no face leaves that is farther from its anchor than both its input and its
restoration as it was asked for.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import FacewrightError, check_image
from ..faces import DENSE
from ..faces.certainty import certainty_of
from ..geometry.align import FaceCrops, cut_out
from ..geometry.face import DenseLandmarker
from .delivery import CropDelivery, Delivery, FinishedDelivery
from .judging import ACTIONS, Judge, Reference, at_once, drift_between, template_of
from .measured import measure
from .person import Person
from .receipts import About, Receipt, pictures_of, to_json
from .recogniser import Recogniser

if TYPE_CHECKING:
    from .matching import Matches


@dataclass(frozen=True)
class GuardResult:
    """What the guard lets through."""

    restored: Tensor
    """(n, 3, s, s) in [0, 1]: the faces as they leave. Crops that were kept are bit for bit as
    they came; faces of finished pictures are cut out of these again."""
    receipts: list[Receipt]
    recogniser: str
    """`Recogniser.id` of who judged."""
    action: str
    shares: list[float] = field(default_factory=list)
    """Of each face the share of its restoration that was let through."""
    about: About = field(default_factory=About)
    """What the receipts are of."""

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
        return to_json(
            self.receipts, recogniser=self.recogniser, action=self.action, about=self.about
        )

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
    most: Tensor | None = None,
    on_faces: Callable[[int], None] = lambda faces: None,
) -> GuardResult:
    """Hold back restored faces that are no longer who they were, before they are pasted.

    As `guard_delivery`, with `lq` + s (`restored` - `lq`) delivered at a share s. Mask, detail,
    color, strength and feather of the paste come later, and the receipts know nothing of them.

    Args:
        lq: (n, 3, s', s') FFHQ-aligned input crops in [0, 1], resized to s where s' differs.
        restored: (n, 3, s, s) in [0, 1], of the same faces in the same order; n may be 0.
        recogniser: on the device of the crops.
        landmarker, max_drift, action, references, most, on_faces: as for `guard_delivery`.

    Raises:
        FacewrightError: crops that do not belong together, or as `guard_delivery`.
    """
    _check_crops(lq, restored)
    inputs = lq.to(restored)
    if inputs.shape != restored.shape:
        inputs = F.interpolate(inputs, restored.shape[-2:], mode="bilinear", antialias=True)
    return guard_delivery(
        inputs,
        CropDelivery(inputs, restored, at_once(inputs.shape[-1])),
        recogniser=recogniser,
        landmarker=landmarker,
        max_drift=max_drift,
        action=action,
        references=references,
        most=most,
        on_faces=on_faces,
    )


@torch.no_grad()
def guard_delivery(
    lq: Tensor,
    delivery: Delivery,
    *,
    recogniser: Recogniser,
    landmarker: DenseLandmarker,
    max_drift: float = 0.5,
    action: str = ACTIONS[0],
    references: Sequence[Reference] | None = None,
    most: Tensor | None = None,
    places: FaceCrops | None = None,
    about: "About | None" = None,
    on_faces: Callable[[int], None] = lambda faces: None,
) -> GuardResult:
    """Hold back faces that, as they are delivered, are no longer who they were.

    A face passes where 1 - cosine(face, anchor) <= max_drift. The anchor is the mean direction of
    the face's references, or the embedding of `lq` where it has none. What happens to others is up
    to `action`:

    - "lower strength": the largest share of `STRENGTHS` that passes, else the input.
    - "fall back": the input.
    - "report only": nothing; the receipt says so.

    Where nothing that was tried passes, not even the input, which may be far from its references:
    what is nearest to the anchor, and the receipt says that none is within. A face that is no
    number anywhere becomes the input.

    Faces that overlap change each other's pixels: whoever is no longer within after a neighbour
    was lowered is lowered on, and where one would end beyond the limit and farther than both its
    input and its full strength, all of them together take one of the two.

    Args:
        lq: (n, 3, s, s) FFHQ-aligned in [0, 1]: what the delivery shows at a share of 0.
        delivery: of the n faces.
        recogniser: on the device of `lq`.
        landmarker: an analyzer with dense landmarks, for the receipts.
        max_drift: in [0, 2].
        action: one of `ACTIONS`.
        references: per face, see `references_for`.
        most: (n,) the largest share of each face that is tried; None: 1.
        places: of the faces in pictures, for the receipts.
        about: what the receipts are of.
        on_faces: called with a number of faces just finished; an exception ends the work.

    Raises:
        FacewrightError: an analyzer without dense landmarks, a number or an action that is none,
            or references of another recogniser.
    """
    certainty = certainty_of(getattr(landmarker, "name", ""))
    references = [None] * len(lq) if references is None else list(references)
    _check(len(lq), landmarker, max_drift, action, references)
    templates = [template_of(reference, recogniser) for reference in references]
    share = torch.ones(len(lq), dtype=torch.float64) if most is None else most.double().clone()
    out, receipts = lq.clone(), []
    for part in delivery.parts:
        judge = Judge(part, lq, delivery, templates, recogniser, max_drift, action, share)
        judge.decide()
        chunk = at_once(lq.shape[-1])
        for start in range(0, len(part), chunk):
            some = list(part[start : start + chunk])
            out[some] = delivery.look(some).to(out)
            points_lq, points = (landmarker.landmarks(x[some]).cpu() for x in (lq, out))
            shown = delivery.shown(some)
            measured = measure(
                lq[some], out[some], points_lq, points, shown, delivery.feather, certainty
            )
            for i, what in zip(some, measured, strict=True):
                reference = references[i]
                drift = judge.drift[i]
                receipts.append(
                    Receipt(
                        face=i,
                        person=reference.name if isinstance(reference, Person) else None,
                        anchor="input" if reference is None else "references",
                        verdict=judge.verdict(i),
                        strength=float(share[i] * delivery.asked[i]),
                        max_drift=max_drift,
                        drift=drift,
                        drift_restored=judge.first[i],
                        drift_input=judge.drift_input(i),
                        cosine_input=1 - drift_between(judge.now[i], judge.own[i]),
                        cosine_references=math.nan if reference is None else 1 - drift,
                        measured=what,
                        asked=float(delivery.asked[i]),
                        picture=None if places is None else int(places.image_index[i]),
                        box=None if places is None else tuple(places.boxes[i].tolist()),
                    )
                )
            on_faces(len(some))
    receipts.sort(key=lambda receipt: receipt.face)
    about = about or About(**limit_facts(recogniser, max_drift))
    return GuardResult(out, receipts, recogniser.id, action, share.tolist(), about)


def limit_facts(recogniser: Recogniser, max_drift: float, asked: bool = True) -> dict[str, Any]:
    """What `About` says of a limit.

    Args:
        asked: whether faces are held back by it; else it is a measure alone.
    """
    strangers = recogniser.limits.rate_at(1 - max_drift) or "nobody knows how many"
    source = "asked for" if asked else "none was asked for, this one is a measure"
    within = f"{strangers} of the strangers are within it ({recogniser.limits.faces})"
    return {"max_drift": max_drift, "limit": f"{source}; {within}"}


@torch.no_grad()
def guard_pictures(
    before: Tensor,
    after: Tensor,
    crops: FaceCrops,
    *,
    recogniser: Recogniser,
    device: torch.device | None = None,
    **how: Any,
) -> tuple[Tensor, Tensor, GuardResult]:
    """Hold back faces of finished pictures: what they drifted too far is taken back.

    As `guard_delivery`, with `core.people.delivery.FinishedDelivery`: the picture is brought
    towards what it was before, within the crops of the faces. Strength, border and mask are those
    of `crops.pasted` where that is known.

    Args:
        before, after: (b, c, h, w) in [0, 1], the same pictures without and with restored faces.
        crops: of the faces, cut out of `before` or of what it was enlarged from.
        recogniser: on `device`.
        device: where faces are compared; None: that of the pictures.
        how: as for `guard_delivery`.

    Returns:
        The pictures, (n, 3, s, s) the faces before, and the receipts.

    Raises:
        FacewrightError: pictures and faces that do not belong together, or as `guard_delivery`.
    """
    if before.shape != after.shape:
        raise FacewrightError(
            f"The pictures before are {_sizes(before)} and those after {_sizes(after)}. Connect "
            "the picture that went into Paste Faces and what came out of it."
        )
    placed = crops.placed_in(before)
    placed.check_pictures(after)
    lq = cut_out(before, placed, crops.pixels.shape[-1]) if len(placed) else crops.pixels
    lq = lq.to(device or before.device)
    delivery = FinishedDelivery(before, after, placed, lq)
    guard = guard_delivery(
        lq,
        delivery,
        recogniser=recogniser,
        places=crops,
        about=About(
            measured="delivered",
            pictures=pictures_of(crops.image_sizes),
            options=_options_of(crops),
            **limit_facts(recogniser, how.get("max_drift", 0.5)),
        ),
        **how,
    )
    return delivery.pictures, lq, guard


def _options_of(crops: FaceCrops) -> dict[str, Any]:
    """How the faces were pasted, by the names of `RestoreOptions`; nothing where nobody knows."""
    pasted = crops.pasted
    if pasted is None:
        return {}
    told = {name: getattr(pasted, name) for name in ("strength", "color", "feather", "detail")}
    mask = "none" if pasted.masks is None else "connected"
    return {"size": crops.pixels.shape[-1], **told, "mask": mask}


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


def _check_crops(lq: Tensor, restored: Tensor) -> None:
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


def _check(
    faces: int,
    landmarker: DenseLandmarker,
    max_drift: float,
    action: str,
    references: Sequence[Reference],
) -> None:
    if len(references) != faces:
        raise FacewrightError(f"{len(references)} references came for {faces} faces.")
    if not hasattr(landmarker, "landmarks"):
        raise FacewrightError(
            f"The face analyzer {getattr(landmarker, 'name', '')} gives no dense landmarks, which "
            f"receipts need. Choose one that does: {DENSE}."
        )
    if not 0 <= max_drift <= 2:
        raise FacewrightError(f"`max_drift` is 1 - cosine, in [0, 2], got {max_drift}.")
    if action not in ACTIONS:
        raise FacewrightError(f"No action {action!r}; known: {', '.join(ACTIONS)}.")


def _sizes(pictures: Tensor) -> str:
    return f"{len(pictures)} of {pictures.shape[-1]} x {pictures.shape[-2]} pixels"
