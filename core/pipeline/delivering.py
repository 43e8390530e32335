"""Restored faces put back as far as the guard lets them through, and their receipts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..faces.parsing import find_parser
from ..geometry.align import FaceCrops, cut_out
from ..geometry.paste import Pasting
from ..people.delivery import PasteDelivery
from ..people.guard import ACTIONS, GuardResult, guard_delivery, limit_facts
from ..people.person import Person
from ..people.receipts import About, pictures_of
from .options import RestoreOptions
from .told import hashed, told

if TYPE_CHECKING:
    from .pictures import Restorer

DEFAULT_DRIFT = 0.5
"""`max_drift` of receipts where no limit is given, as in Identity Guard."""


def delivered(
    restorer: "Restorer",
    pictures: Tensor | Sequence[Tensor],
    crops: FaceCrops,
    faces: Tensor,
    people: Sequence[Person | None],
    options: RestoreOptions,
    masks: Tensor | None = None,
    most: Tensor | None = None,
) -> tuple[Tensor | list[Tensor], Tensor | list[Tensor], GuardResult | None]:
    """Pictures with restored faces, as far as the guard lets these through.

    Faces are judged and measured as they leave: cut out of the finished pictures again, after
    mask, detail, color, strength and feather, and compared with the same crops of the pictures
    without them. Where pictures are enlarged, these are the crops of the enlarged ones, at the
    place and size at which the faces were restored; what the upscaler did to a face counts as
    its input, and is no drift. Held back, a face is pasted again from the picture as it was.

    Args:
        pictures: that the crops were cut out of, or the same enlarged.
        faces: (n, 3, s, s) restored.
        people: whose album each face is held against; None: its input.
        masks: see `Restorer.masks`.
        most: (n,) the largest share of `strength` for each face; None: 1.

    Returns:
        The pictures, the weights of the restored pixels, and receipts if asked for.
    """
    pasting = Pasting(
        pictures,
        crops,
        faces.to(crops.pixels),
        feather=options.border,
        color=options.color,
        masks=masks,
        detail=options.detail,
    )
    if not options.measured:
        pasting.put(options.strength)
        return pasting.pictures, pasting.weights, None
    lq = crops.pixels
    if options.upscale:
        lq = cut_out(pictures, pasting.crops, lq.shape[-1])
    lq = lq.to(restorer.place(restorer.recogniser))
    delivery = PasteDelivery(pasting, pictures, lq, options.strength, options.border, masks)
    limit, about = guard_of(restorer, options)
    guard = guard_delivery(
        lq,
        delivery,
        recogniser=restorer.recogniser,
        landmarker=restorer.landmarker,
        references=people,
        most=most,
        places=crops,
        about=replace(about, pictures=pictures_of(crops.image_sizes)),
        **limit,
    )
    return pasting.pictures, pasting.weights, guard


def guard_of(
    restorer: "Restorer", options: RestoreOptions, *, video: bool = False
) -> tuple[dict[str, Any], About]:
    """Limit and action of the guard, and what its receipts are of."""
    given = options.held_back
    limit = restorer.recogniser.limits.drift(options.max_drift, options.false_match_rate)
    limit = DEFAULT_DRIFT if limit is None else limit
    about = About(
        measured="delivered",
        models=hashed([*restorer.files, *_further_files(options)]),
        options=told(options, restorer.side(options), video=video),
        **limit_facts(restorer.recogniser, limit, given),
    )
    action = options.on_drift or ACTIONS[0] if given else "report only"
    return {"max_drift": limit, "action": action}, about


def _further_files(options: RestoreOptions) -> list[Path]:
    """Of the weights that a restorer does not bring."""
    upscaler = [Path(options.upscale)] if options.upscale else []
    return [*upscaler, *([find_parser()[0]] if options.mask == "parsing" else [])]
