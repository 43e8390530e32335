"""Restored faces that drifted are held back; receipts of all of them, also inside saved PNGs."""

from typing import Any

from ..core.pipeline.options import ACTIONS
from ._convert import alpha_view, checked, to_image, to_nchw
from ._host import SHOWN, host, io
from ._options import false_match_input, landmarker_input, option_input
from ._steps import reporter
from ._types import Faces, Matches, Person, Recogniser, output
from ._words import GUARD, found_by


def _held_against(
    faces: int, recogniser, analyzer, device, max_drift: float, rate: float, references, person,
    matches,
) -> tuple[dict[str, Any], list[str], str]:  # fmt: skip
    """What both guards hand to core for so many faces, notes on the references, and the limit.

    The limit is that of the false-match `rate` where one is given, else `max_drift`.
    """
    from ..core.people.guard import references_for
    from ..core.scores.identity import reference_template

    limits = recogniser.limits
    limit = limits.drift(None if rate else max_drift, rate)
    photos = None if references is None else to_nchw(references, "references").to(device)
    template, notes = reference_template(photos, recogniser, analyzer)
    how = {
        "recogniser": recogniser,
        "landmarker": analyzer,
        "max_drift": limit,
        "references": references_for(faces, person=person, matches=matches, template=template),
        "on_faces": reporter(faces),
    }
    return how, notes, f"limit: {limits.told_of_drift(limit)}"


class IdentityGuard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightIdentityGuard",
            display_name="Identity Guard",
            category="facewright/guard",
            **found_by(
                *GUARD,
                "face similarity",
            ),
            description=(
                "Checks that restored faces are still who they were, holds back those that are "
                "not, and writes a receipt for each: landmarks, identity, colour, seam, sharpness. "
                "Without references the degraded input is what a face is compared with, and where "
                "little is left of it, that says little: connect references where you can. What is "
                "judged are the crops; Picture Guard judges what Paste Faces makes of them."
            ),
            inputs=[
                io.Image.Input("image", tooltip="The face crops before restoration."),
                io.Image.Input(
                    "restored", tooltip="The restored crops, as many and in the same order."
                ),
                Recogniser.Input(
                    "recogniser", tooltip="From Load Face Recogniser or a nano loader."
                ),
                landmarker_input(),
                option_input(
                    "max_drift",
                    io.Float,
                    default=0.5,
                    step=0.01,
                    tooltip="How far a face may be from who it should be: 1 - cosine to its "
                    "references, or to the input where it has none. 0: no change at all; 1: as far "
                    "as a stranger; 2: anything goes. How many strangers are within it says the "
                    "report; for nano 1 in 20 is within 0.5.",
                ),
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    default=ACTIONS[0],
                    tooltip="What happens to a face beyond max_drift. lower strength: the input is "
                    "mixed in, in steps of a fifth, until it is within. fall back: the input "
                    "itself. If nothing is within, which only happens with references, the nearest "
                    "of what was tried. report only: nothing, but the receipt says so.",
                ),
                Person.Input(
                    "person",
                    optional=True,
                    tooltip="An album: all faces should be this person. Connect at most one of "
                    "person, matches and references.",
                ),
                Matches.Input(
                    "matches",
                    optional=True,
                    tooltip="From Match People: each face should be its own person, and one that "
                    "is nobody known is compared with its input.",
                ),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Good photos of one person: all faces should be this person.",
                ),
                Faces.Input(
                    "faces",
                    optional=True,
                    tooltip="Frames of a video: the faces of Smooth Faces whose crops these are. A "
                    "face at its limit then does not pulse from frame to frame, report has a line "
                    "per face over its frames, and receipts the same as tracks.",
                ),
                false_match_input("max_drift counts."),
            ],
            outputs=[
                output(io.Image, "guarded", "The crops for Paste Faces."),
                output(
                    io.String,
                    "receipts",
                    "A receipt per face as JSON, for Save with Receipts. They describe the crops, "
                    "before mask, detail, color, strength and feather of Paste Faces.",
                ),
                output(io.Image, "overlay", "Input, result and receipt of each face side by side."),
                output(io.String, "report", "A line per face in words."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        image,
        restored,
        recogniser,
        analyzer,
        max_drift,
        action,
        person=None,
        matches=None,
        references=None,
        faces=None,
        false_match_rate=0.0,
    ) -> io.NodeOutput:
        from ..core.drawing.receipts import draw_receipts
        from ..core.pipeline.tracks import guard_followed

        device = host.load(recogniser)
        how, notes, told = _held_against(
            len(restored), recogniser, analyzer, device, max_drift, false_match_rate, references,
            person, matches,
        )  # fmt: skip
        lq = to_nchw(image).to(device)
        result = guard_followed(
            lq, to_nchw(restored, "restored").to(device), faces, action=action, **how
        )
        overlay = to_image(draw_receipts(lq, result.restored, result.receipts))
        return io.NodeOutput(
            to_image(result.restored),
            result.json,
            overlay,
            "\n".join([*notes, result.report, told]),
            ui=host.preview(overlay[:SHOWN], cls),
        )


class PictureGuard(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightPictureGuard",
            display_name="Picture Guard",
            category="facewright/guard",
            **found_by(
                *GUARD,
                "guard whole picture",
            ),
            description=(
                "Judges the finished picture: cuts the faces out of it again, checks that they are "
                "still who they were, takes back what drifted too far, and writes a receipt for "
                "each face as it leaves. Stands after Paste Faces, in place of Identity Guard or "
                "besides."
            ),
            inputs=[
                io.Image.Input(
                    "image", tooltip="The pictures that went into Paste Faces, before it."
                ),
                io.Image.Input(
                    "pasted", tooltip="The same pictures with the restored faces, after it."
                ),
                Faces.Input(
                    "faces",
                    tooltip="From Paste Faces, which says how they were pasted, or else from "
                    "Detect Faces. Only what lies within their crops is taken back.",
                ),
                Recogniser.Input(
                    "recogniser", tooltip="From Load Face Recogniser or a nano loader."
                ),
                landmarker_input(),
                option_input(
                    "max_drift",
                    io.Float,
                    default=0.5,
                    step=0.01,
                    tooltip="How far a face may be from who it should be: 1 - cosine to its "
                    "references, or to the picture before where it has none. 0: no change at all; "
                    "1: as far as a stranger; 2: anything goes.",
                ),
                io.Combo.Input(
                    "action",
                    options=list(ACTIONS),
                    default=ACTIONS[0],
                    tooltip="What happens to a face beyond max_drift. lower strength: it goes back "
                    "to what it was, in steps of a fifth, until it is within. fall back: all the "
                    "way. If nothing is within, the nearest is shown. report only: nothing, but "
                    "the receipt says so.",
                ),
                Person.Input(
                    "person",
                    optional=True,
                    tooltip="An album: all faces should be this person. Connect at most one of "
                    "person, matches and references.",
                ),
                Matches.Input(
                    "matches",
                    optional=True,
                    tooltip="From Match People: each face should be its own person, and one that "
                    "is nobody known is compared with what it was before.",
                ),
                io.Image.Input(
                    "references",
                    optional=True,
                    tooltip="Good photos of one person: all faces should be this person.",
                ),
                false_match_input("max_drift counts."),
            ],
            outputs=[
                output(
                    io.Image, "guarded", "The pictures, with what drifted taken back.", name="image"
                ),
                output(
                    io.String,
                    "receipts",
                    "A receipt per face as it leaves, as JSON, for Save with Receipts.",
                ),
                output(io.Image, "overlay", "Before, after and receipt of each face side by side."),
                output(io.String, "report", "A line per face in words."),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        image,
        pasted,
        faces,
        recogniser,
        analyzer,
        max_drift,
        action,
        person=None,
        matches=None,
        references=None,
        false_match_rate=0.0,
    ) -> io.NodeOutput:
        from ..core.drawing.receipts import draw_receipts
        from ..core.people.guard import guard_pictures

        device = host.load(recogniser)
        how, notes, told = _held_against(
            len(faces), recogniser, analyzer, device, max_drift, false_match_rate, references,
            person, matches,
        )  # fmt: skip
        guarded, lq, result = guard_pictures(
            alpha_view(image), alpha_view(pasted, "pasted"), faces, device=device, action=action,
            **how,
        )  # fmt: skip
        overlay = to_image(draw_receipts(lq, result.restored, result.receipts))
        return io.NodeOutput(
            to_image(guarded),
            result.json,
            overlay,
            "\n".join([*notes, result.report, told]),
            ui=host.preview(overlay[:SHOWN], cls),
        )


class SaveWithReceipts(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FacewrightSaveWithReceipts",
            display_name="Save with Receipts",
            category="facewright/guard",
            **found_by(
                "save image", "export image", "image metadata", "restoration report", "save report"
            ),
            description=(
                "Saves PNGs as Save Image does, workflow included, and puts the receipts of the "
                "faces beside it, as the text facewright_receipts."
            ),
            inputs=[
                io.Image.Input("images", tooltip="The finished pictures."),
                io.String.Input(
                    "receipts",
                    default="",
                    tooltip="From Picture Guard or Identity Guard. Empty: none are written.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="facewright",
                    tooltip="Start of the files' names, below ComfyUI's output folder.",
                ),
                Faces.Input(
                    "faces",
                    optional=True,
                    tooltip="From Detect Faces: each picture then gets the receipts of its own "
                    "faces only. Without it every picture gets all.",
                ),
                option_input(
                    "names",
                    io.Boolean,
                    default=False,
                    optional=True,
                    tooltip="Write people's names into the receipts inside the pictures. Off, "
                    "these say person 1, person 2. The workflow in the picture holds what was "
                    "typed into its widgets either way.",
                ),
            ],
            outputs=[],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, images, receipts, filename_prefix, faces=None, names=False) -> io.NodeOutput:
        from ..core.people.receipts import png_texts
        from ..core.people.unnamed import in_pictures

        images = checked(images, "images")
        receipts = in_pictures(receipts, names=names)
        texts = png_texts(receipts, len(images), None if faces is None else faces.image_index)
        return io.NodeOutput(ui=host.save_pictures(images, filename_prefix, texts, cls))


NODES = [IdentityGuard, PictureGuard, SaveWithReceipts]
