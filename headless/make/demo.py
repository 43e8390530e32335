"""`facewright demo`: a bundled picture of rendered people, restored by the bundled nano models."""

import time
from pathlib import Path
from typing import Any

from ...core.demo import album_photos, picture
from ...core.drawing.compare import compare
from ...core.images import Picture, write_picture
from .restore import load_restorer

PAGE = "https://github.com/facewright/facewright#real-faces"
"""Which files photographs need; an installed package has no README to look into."""


def run_demo(out: Path, console: Any) -> list[Path]:
    """Detect, align, restore in one step and paste back; returns the files written.

    Args:
        out: folder for before.png, restored.png and before_after.png.
        console: a rich console that is told what happens.
    """
    started = time.perf_counter()
    lq, _ = picture("group")
    result = load_restorer("nano").restore(lq[0])
    pictures = {
        "before.png": lq[0],
        "restored.png": result.pixels,
        "before_after.png": compare(lq, result.pixels[None])[0],
    }
    paths = []
    for name, pixels in pictures.items():
        paths.append(out / name)
        write_picture(paths[-1], pixels, Picture(pixels))
    seconds = time.perf_counter() - started
    console.print(
        f"{result.faces} faces of computer-drawn people restored in {seconds:.1f} s by the bundled "
        "nano models (toys for trying things out; they do not know real faces).",
        markup=False,
    )
    for path in paths:
        console.print(f"  {path.resolve()}", markup=False, soft_wrap=True)
    console.print(f"Look at before_after.png. Real faces: {PAGE}", markup=False)
    return paths


def write_people(out: Path) -> list[Path]:
    """The bundled photographs of rendered people as single files; returns those written.

    Ada and Bo four times each, both in a picture with a stranger, five others, and one alone.
    """
    _, five = picture("group")
    damaged, three = picture("three people")
    pictures = {"three.png": three, "three_damaged.png": damaged, "five.png": five}
    pictures |= {"ada_damaged.png": picture("Ada")[0], "portrait.png": picture("face")[1]}
    for name, album in (("ada", "photos of Ada"), ("bo", "photos of Bo")):
        for number, photo in enumerate(album_photos(album), 1):
            pictures[f"{name}_{number}.png"] = photo[None]
    for name, pixels in pictures.items():
        write_picture(out / name, pixels[0], Picture(pixels[0]))
    return [out / name for name in sorted(pictures)]
