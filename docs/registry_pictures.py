"""Icon and banner for the registry: the demo people, damaged on the left, restored on the right.

`python -m facewright.docs.registry_pictures` writes docs/images/icon.png and banner.jpg.
"""

import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from ..headless.runner import run_workflow
from .graphs.graph import FOLDER

OUT = Path(__file__).parent / "images"
ICON, BANNER = (400, 400), (1260, 540)  # square up to 400, and 21:9, as the registry wants them


def _halves(picture: str, size: tuple[int, int], line: int) -> Image.Image:
    """The demo picture before and after restoration, side by side at a white line."""
    prompt = FOLDER / "api" / "nano_restore.api.json"
    with tempfile.TemporaryDirectory() as folder:
        results = run_workflow(prompt, {"Demo Picture.picture": picture}, output_dir=folder)
    demo_picture, paste_faces = results["2"][0], results["6"][0]
    before, after = (
        Image.fromarray((x[0].clamp(0, 1) * 255).round().byte().numpy())
        for x in (demo_picture, paste_faces)
    )
    width, height = before.size
    scale = max(size[0] / width, size[1] / height)
    wide, high = round(width * scale), round(height * scale)
    left, top = (wide - size[0]) // 2, (high - size[1]) // 2
    box = (left, top, left + size[0], top + size[1])
    before, after = (p.resize((wide, high), Image.LANCZOS).crop(box) for p in (before, after))
    before.paste(after.crop((size[0] // 2, 0, *size)), (size[0] // 2, 0))
    ImageDraw.Draw(before).line([(size[0] // 2, 0), (size[0] // 2, size[1])], "white", line)
    return before


if __name__ == "__main__":
    _halves("face", ICON, 4).save(OUT / "icon.png", optimize=True)
    _halves("group", BANNER, 5).save(OUT / "banner.jpg", quality=90)
