"""Screenshots for the documentation: `python -m facewright.docs.screenshots FOLDER`.

The browser test writes them to FOLDER, from a real editor:
`FACEWRIGHT_SCREENSHOTS=FOLDER pytest tests/integration/test_browser.py -m "comfyui and slow"`.
"""

import io
import sys
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parent / "images" / "workflows"
_SIZE = (1800, 1200)
_MOST = 150_000
"""Bytes."""


def main(folder: Path) -> None:
    """Write each screenshot as a JPEG that a page can afford."""
    DOCS.mkdir(parents=True, exist_ok=True)
    for path in sorted(set(folder.glob("*.png")) - {folder / "fresh.png"}):
        with Image.open(path) as image:
            small = image.convert("RGB")
        small.thumbnail(_SIZE, Image.Resampling.LANCZOS)
        for quality in range(85, 20, -5):
            written = io.BytesIO()
            small.save(written, "JPEG", quality=quality, optimize=True)
            if written.tell() <= _MOST:
                break
        (DOCS / f"{path.stem.lower()}.jpg").write_bytes(written.getvalue())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
