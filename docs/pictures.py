"""Draw the pictures of help pages and templates: `python -m facewright.docs.pictures`.

They are what the bundled nano models make in the shipped workflows, so new weights want new ones.
Workflows that need files of one's own show, in ComfyUI's template browser, what their nano
counterpart makes, and say so.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..core.drawing.sheet import contact_sheet
from ..core.images import Picture, read_picture, write_picture
from ..headless.runner import run_workflow
from .build import PAGES
from .graphs.build import degrade_presets, nano_face_mask, nano_restore
from .graphs.flipnet import nano_flipnet_restore
from .graphs.graph import FOLDER, Graph
from .graphs.honestface import nano_group_people, nano_honestface_restore
from .graphs.video import nano_people_frames, nano_smooth_frames

IMAGES = PAGES / "images"
WIDTH = 640

# A picture: columns, and in that order (title of a node, index of its output, label).
SHOWN: dict[Callable[[], Graph], dict[str, tuple[int, tuple[tuple[str, int, str], ...]]]] = {
    nano_restore: {
        "demo_picture": (1, (("Demo Picture", 0, "degraded"), ("Demo Picture", 1, "original"))),
        "detect_faces": (1, (("Detect Faces", 2, ""),)),
        "vre_encode": (5, (("VRE Encode (OSDFace)", 1, ""),)),
        "one_step_restore": (
            5,
            (
                ("Detect Faces", 1, "crops"),
                ("One-Step Restore (OSDFace, HonestFace)", 0, "restored"),
            ),
        ),
        "paste_faces": (1, (("Paste Faces", 0, "image"), ("Paste Faces", 1, "mask"))),
        "compare": (1, (("Compare Before / After", 0, ""),)),
    },
    nano_face_mask: {
        "face_mask": (
            5,
            (("Detect Faces", 1, "crops"), ("Face Mask", 1, "preview")),
        ),
    },
    degrade_presets: {
        "degrade": (
            2,
            (("Demo Picture", 1, "image"), ("Degrade (blur, noise, JPEG)", 0, "degraded")),
        ),
        "degradation_sheet": (1, (("Degradation Sheet", 0, ""),)),
    },
    nano_flipnet_restore: {
        "apply_boosthub": (
            5,
            (("Detect Faces", 1, "condition"), ("VAEDecode", 0, "restored")),
        ),
    },
    nano_honestface_restore: {
        "ide_encode": (
            3,
            (
                ("Detect Faces", 1, "crop"),
                ("IDE Encode, with photographs", 1, "chosen"),
                ("Restore with photographs", 0, "restored"),
            ),
        ),
        "landmark_score": (1, (("Landmark Score with photographs", 4, ""),)),
    },
    nano_group_people: {
        "person_album": (1, (("Album of Ada", 2, ""),)),
        "match_people": (1, (("Match People", 1, ""),)),
        "identity_guard": (1, (("Picture Guard", 2, ""),)),  # the same sheets
    },
}


# The same for ComfyUI's template browser, a picture per workflow.
THUMBNAILS: dict[Callable[[], Graph], tuple[int, tuple[tuple[str, int, str], ...]]] = {
    nano_honestface_restore: (
        2,
        (
            ("Demo Picture", 0, "degraded"),
            ("Paste without photographs", 0, "without photographs"),
            ("Paste with photographs", 0, "with photographs"),
            ("Demo Picture", 1, "original"),
        ),
    ),
    nano_group_people: (1, (("Match People", 1, ""), ("Paste Faces", 0, "restored"))),
    nano_face_mask: (
        1,
        (
            ("Demo Picture", 0, "before"),
            ("Paste Faces", 1, "what is replaced"),
            ("Paste Faces", 0, "after"),
        ),
    ),
    nano_people_frames: (1, (("Match People", 1, "every frame"), ("Paste Faces", 0, "restored"))),
    nano_smooth_frames: (1, (("Demo Picture", 0, "every frame"), ("Paste Faces", 0, "steady"))),
}

# Workflow -> the one that shows the same steps with bundled models, and what to write on it.
_FILES = "with your own model files"
COUNTERPART = {
    "osdface_restore": ("nano_restore", _FILES),
    "restore_whole_photo": ("nano_restore", _FILES),
    "classic_restore": ("nano_restore", _FILES),
    "compare_restorers": ("nano_restore", _FILES),
    "trained_restore": ("nano_restore", _FILES),
    "flipnet_restore": ("nano_flipnet_restore", _FILES),
    "flipnet_degrade": ("nano_flipnet_degrade", _FILES),
    "honestface_restore": ("nano_honestface_restore", _FILES),
    "group_photo_people": ("nano_group_people", _FILES),
    "nano_restore_video": ("nano_smooth_frames", "videos of any length"),
}


def main() -> list[Path]:
    """Run the workflows and write the pictures; the same files every time on one machine."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    written = []
    for make in {**SHOWN, **THUMBNAILS}:
        graph = make()
        ids = {node["_meta"]["title"]: node_id for node_id, node in graph.api().items()}
        with tempfile.TemporaryDirectory() as folder:
            results = run_workflow(graph.ui(), output_dir=folder)

        def batches(shown: tuple, results: dict = results, ids: dict = ids) -> list:
            return [(results[ids[title]][index], label) for title, index, label in shown]

        for name, (columns, shown) in SHOWN.get(make, {}).items():
            written.append(IMAGES / f"{name}.jpg")
            _write(written[-1], _sheet(batches(shown), columns))
        if make in THUMBNAILS:
            columns, shown = THUMBNAILS[make]
            first = [(batch[:1], label) for batch, label in batches(shown)]
            sheet = _sheet(first, columns)
            written.append(FOLDER / f"{graph.name}.jpg")
            write_picture(written[-1], sheet, Picture(sheet))
    for name, (other, label) in COUNTERPART.items():
        pixels = read_picture(FOLDER / f"{other}.jpg").pixels
        band = max(pixels.shape[-2:]) // 8  # under the picture, whose own labels stay readable
        sheet = contact_sheet([F.pad(pixels, (0, 0, 0, band), value=0.1)], [label], 1)
        written.append(FOLDER / f"{name}.jpg")
        write_picture(written[-1], sheet, Picture(sheet))
    return written


def _sheet(batches: list[tuple[Tensor, str]], columns: int) -> Tensor:
    """(3, H, W) of IMAGE or MASK batches; the first picture of each bears its label."""
    shown, labels = [], []
    for batch, label in batches:
        pixels = batch[..., None].expand(-1, -1, -1, 3) if batch.ndim == 3 else batch[..., :3]
        shown += list(pixels.movedim(-1, 1))
        labels += [label] + [""] * (len(pixels) - 1)
    return contact_sheet(shown, labels, columns)


def _write(path: Path, sheet: Tensor) -> None:
    pixels = (sheet.movedim(0, -1) * 255).round().to(torch.uint8).numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((WIDTH, WIDTH))
    picture.save(path, quality=88)


if __name__ == "__main__":
    main()
