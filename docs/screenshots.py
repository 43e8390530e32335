"""Screenshots for the documentation: `python -m facewright.docs.screenshots FOLDER`.

The browser test writes them to FOLDER, from a real editor:
`FACEWRIGHT_SCREENSHOTS=FOLDER pytest tests/integration/test_browser.py -m "comfyui and slow"`.
"""

import io
import json
import sys
from pathlib import Path

from PIL import Image

SIZES = Path(__file__).parent / "graphs" / "sizes.json"
DOCS = Path(__file__).parent / "images" / "workflows"
_SIZE = (1800, 1200)
_MOST = 150_000
"""Bytes."""


def main(folder: Path) -> None:
    """Write each screenshot as a JPEG that a page can afford, and what was measured of nodes."""
    sizes, measured = (json.loads(path.read_text()) for path in (SIZES, folder / SIZES.name))
    larger = {kind: max(most, measured.get(kind, 0)) for kind, most in sizes.items()}
    SIZES.write_text(json.dumps(larger, indent=1) + "\n")
    DOCS.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob("*.png")):
        if path.stem.startswith(("fresh_", "inside_", "vue_")):
            continue
        # New editors draw Vue nodes unless told otherwise.
        vue = path.with_name(f"vue_{path.name}")
        with Image.open(vue if vue.is_file() else path) as image:
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
