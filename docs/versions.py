"""Which ComfyUI is tested, said once: in pyproject.toml, a line per version with its frontends.

`python docs/versions.py` writes the table of docs/faq.md and README.md; with `--ci` it gives the
pairs that .github/workflows/tests.yml runs.
"""

import json
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "docs" / "faq.md", ROOT / "README.md")
BEGIN, END = "<!-- tested versions: begin -->\n", "<!-- tested versions: end -->\n"


def versions() -> dict[str, list[str]]:
    """ComfyUI -> the frontends it is tested with, its own first; the oldest ComfyUI first."""
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return about["tool"]["facewright"]["comfyui"]


def pairs() -> list[dict[str, str]]:
    """What is run: every ComfyUI with each of its frontends."""
    return [{"comfyui": c, "frontend": f} for c, names in versions().items() for f in names]


def with_table(page: str) -> str:
    """`page` with the table between its two marks brought up to date; without marks as it is."""
    rows = ["| ComfyUI | its frontends |", "|---|---|"]
    rows += [f"| {comfyui} | {', '.join(names)} |" for comfyui, names in versions().items()]
    before, mark, rest = page.partition(BEGIN)
    return (
        page if not mark else before + BEGIN + "\n".join(rows) + "\n" + END + rest.partition(END)[2]
    )


if __name__ == "__main__":
    if sys.argv[1:] == ["--ci"]:
        sys.stdout.write(json.dumps(pairs()))
    else:
        for path in PAGES:
            path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
