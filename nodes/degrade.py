"""Damage of the kind restorers are trained on, for practice and for training data."""

import json
from functools import partial

import torch

from ..core.degradation import MAX_TAPS, PRESETS, Degradation, describe
from ..core.errors import FacewrightError
from ..core.files.json_text import JsonError, parse_json
from ._convert import alpha_of, rgb_view, to_image, to_nchw
from ._host import host, io
from ._options import seed_input
from ._steps import reporter
from ._types import output
from ._words import found_by

_OF_THE_PRESET = -1
_KEEP = "preset"
_PRESET_TIP = "What the damage looks like; those named after papers are meant for 512 pixels.\n"
_PRESET_TIP += "\n".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())
_SEED_TIP = "Everything random follows from it. Picture i of a batch takes seed + i."


_RANGES = {
    "scale": ("reduction of each side: 4 makes 128 pixels of 512", 64),
    "blur": ("blur, as the sigma of a Gaussian in pixels", 100),
    "noise": ("noise, in steps of 8-bit colour", 255),
    "quality": ("quality of the JPEG, 1 to 100", 100),
}
"""What two widgets, NAME_min and NAME_max, bound, and its largest value."""


def _bound(name: str, end: str) -> io.Input:
    """One of the two ends of a range; -1 leaves the range to the preset."""
    words, most = _RANGES[name]
    make = partial(io.Int.Input, step=1) if name == "quality" else partial(io.Float.Input, step=0.1)
    other = "max" if end == "min" else "min"
    return make(
        f"{name}_{end}",
        optional=True,
        default=_OF_THE_PRESET,
        min=_OF_THE_PRESET,
        max=most,
        tooltip=f"{'Least' if end == 'min' else 'Most'} {words}. Below 0: of the preset; if "
        f"`{name}_{other}` alone is set, exactly that value.",
    )


class Degrade(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightDegrade",
            display_name="Degrade (blur, noise, JPEG)",
            category="facewright/degrade",
            **found_by(
                "degradation",
                "damage image",
                "blur image",
                "add noise",
                "jpeg artifacts",
                "low quality image",
                "make old photo",
                "training pairs",
            ),
            description=(
                "Makes good pictures bad, as restorers expect bad pictures to be: blur, fewer "
                "pixels, noise, JPEG, and back to the old size. The presets are those of the "
                "papers. What was done is written down and can be done again."
            ),
            inputs=[
                io.Image.Input("image", tooltip="Good pictures. An alpha channel is kept."),
                io.Combo.Input(
                    "preset",
                    options=Degradation.presets(),
                    default="moderate",
                    tooltip=_PRESET_TIP,
                ),
                seed_input(_SEED_TIP),
                *(_bound(name, end) for name in _RANGES for end in ("min", "max")),
                io.Combo.Input(
                    "passes",
                    optional=True,
                    options=[_KEEP, "1", "2"],
                    default=_KEEP,
                    tooltip="How often the picture goes through it all: twice, as if it had been "
                    "saved and posted again.",
                ),
                io.Combo.Input(
                    "order",
                    optional=True,
                    options=[_KEEP, "fixed", "shuffled", "real-esrgan"],
                    default=_KEEP,
                    tooltip="Order of the steps in the last pass. fixed: blur, reduce, noise, "
                    "JPEG. shuffled: any order, drawn. real-esrgan: the reduction before or after "
                    "the JPEG, drawn.",
                ),
                io.Int.Input(
                    "kernel_size",
                    optional=True,
                    default=_OF_THE_PRESET,
                    min=_OF_THE_PRESET,
                    max=MAX_TAPS,
                    tooltip="Length of the blur in pixels, an odd number; 0: as long as it needs. "
                    "Below 0: of the preset. Those named after papers cut it at 41 pixels, so that "
                    "a blur of 15 acts like one of 10.",
                ),
                io.String.Input(
                    "recipe",
                    optional=True,
                    force_input=True,
                    tooltip="A recipe from this node's output: does the same again, and the "
                    "settings above are not read. One recipe serves all pictures. Empty text: not "
                    "used.",
                ),
            ],
            outputs=[
                output(io.Image, "degraded", "The damaged pictures, as large.", name="image"),
                output(
                    io.String,
                    "drawn",
                    "What was done to every picture, as JSON: connect it to `recipe` of "
                    "another Degrade, or keep it.",
                    name="recipe",
                ),
                output(
                    io.String,
                    "report",
                    "The same in words, a line a picture, with a remark where the preset is made "
                    "for pictures of another size.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image,
        preset,
        seed,
        passes=_KEEP,
        order=_KEEP,
        kernel_size=_OF_THE_PRESET,
        recipe=None,
        **ends,
    ) -> io.NodeOutput:
        gt = to_nchw(image)
        finished, remark = reporter(len(gt)), None
        if not recipe or not recipe.strip():
            given = {
                "scale": _range(ends, "scale"),
                "sigma": _range(ends, "blur"),
                "noise": _range(ends, "noise", unit=255),
                "quality": _range(ends, "quality"),
                "passes": None if passes == _KEEP else int(passes),
                "order": None if order == _KEEP else order,
            }
            overrides = {name: value for name, value in given.items() if value is not None}
            if kernel_size >= 0:
                overrides["kernel_size"] = kernel_size or None
            degradation = Degradation.preset(preset, **overrides)
            lq, recipes = degradation(gt, seed, on_image=lambda done: finished(1))
            remark = degradation.settings.remark(*gt.shape[-2:]) if len(gt) else None
        else:
            recipes = _read(recipe, len(gt))
            lq = Degradation.replay(gt, recipes, on_image=lambda done: finished(1))
        lines = [f"picture {i}: {describe(one)}" for i, one in enumerate(recipes)]
        report = "\n".join([*lines, remark] if remark else lines)
        picture, alpha = to_image(lq), alpha_of(image)
        if alpha.shape[-1]:
            if picture.shape[:3] != alpha.shape[:3]:
                raise FacewrightError(
                    f"This recipe ends at {picture.shape[2]} x {picture.shape[1]} pixels, the "
                    f"image's alpha has {alpha.shape[2]} x {alpha.shape[1]}. Use the whole recipe, "
                    "or a picture without alpha."
                )
            picture = torch.cat([picture, alpha], dim=-1)
        return io.NodeOutput(picture, json.dumps(recipes), report)


class DegradationSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightDegradationSheet",
            display_name="Degradation Sheet",
            category="facewright/degrade",
            **found_by("degradation presets", "compare degradations", "contact sheet"),
            description=(
                "The first picture under every preset of Degrade, on one labelled sheet, for "
                "choosing a preset by eye."
            ),
            inputs=[
                io.Image.Input("image", tooltip="A good picture; of a batch, the first."),
                seed_input("The seed of every preset. Try several: presets draw their strength."),
                io.String.Input(
                    "presets",
                    optional=True,
                    default="",
                    tooltip='Which ones, such as "mild, gfpgan, flipnet". Empty: all. '
                    + f"Known: {', '.join(Degradation.presets())}.",
                ),
            ],
            outputs=[
                output(
                    io.Image,
                    "sheet",
                    "The original first. Pictures above 512 pixels are shown reduced.",
                ),
                output(
                    io.String, "report", "A line per preset: what it is, and what was drawn here."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, image, seed, presets="") -> io.NodeOutput:
        from ..core.drawing.presets import preset_sheet

        names = [name.strip() for name in presets.split(",") if name.strip()]
        first = rgb_view(image)[:1].contiguous()
        finished = reporter(len(names) or len(PRESETS))
        sheet, report = preset_sheet(first, seed, names, on_picture=finished)
        picture = to_image(sheet)
        return io.NodeOutput(picture, report, ui=host.preview(picture, cls))


def _range(ends: dict[str, float], name: str, unit: float = 1) -> tuple[float, float] | None:
    """Both ends of a range from two widgets, which cannot be empty: negative is "not set"."""
    given = [ends.get(f"{name}_{end}", _OF_THE_PRESET) for end in ("min", "max")]
    kept = [end for end in given if end >= 0]
    return (kept[0] / unit, kept[-1] / unit) if kept else None


def _read(text: str, count: int) -> list[dict]:
    """Recipes from JSON, one per picture."""
    try:
        recipes = parse_json(text)
    except JsonError as error:
        raise FacewrightError(
            f"`recipe` is no JSON that can be used ({error}). Connect the recipe output of "
            "Degrade, or text that it wrote."
        ) from error
    recipes = recipes if isinstance(recipes, list) else [recipes]
    return recipes * count if len(recipes) == 1 else recipes


NODES = [Degrade, DegradationSheet]
