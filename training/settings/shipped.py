"""Training configs that came with the package, found by name."""

import difflib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from ...core.errors import shorten
from .config import PACKAGE, ConfigError

FOLDER = Path(__file__).parents[1] / "configs"
BUNDLED = "bundled"
"""Subfolder of the configs that made the bundled nano weights."""


def shipped_configs() -> dict[str, Path]:
    """Every config by its name: `onestep_paper`, and `bundled/onestep_nano`."""
    files = sorted(FOLDER.glob("*.yaml")) + sorted((FOLDER / BUNDLED).glob("*.yaml"))
    return {file.relative_to(FOLDER).with_suffix("").as_posix(): file for file in files}


def find_config(text: str) -> str:
    """What `--config` names: a file as it is, or the path of a shipped config.

    Raises:
        ConfigError: neither; close names are offered.
    """
    if text.startswith(PACKAGE) or _exists(text):
        return text
    shipped = shipped_configs()
    found = shipped.get(text) or shipped.get(f"{BUNDLED}/{text}")
    if found:
        return str(found)
    near = difflib.get_close_matches(text, shipped)
    raise ConfigError(
        f"There is no file {shorten(text, 200)}, and no config of that name came with the package"
        + (f"; did you mean {', '.join(near)}?" if near else ".")
        + " `facewright train --list` shows all that came with it."
    )


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long, or holds what no name can
        return False


def configs_by_stage(stages: Iterable[str]) -> dict[str, list[str]]:
    """Names of the shipped configs of every stage, by how they begin: `vre_hq_paper` is vre-hq's.

    The longest stage that fits counts, and stages without a config have an empty list.
    """
    longest_first = sorted(stages, key=len, reverse=True)
    found: dict[str, list[str]] = defaultdict(list)
    for name in shipped_configs():
        start = f"{name.removeprefix(f'{BUNDLED}/')}_".replace("-", "_")
        stage = next((s for s in longest_first if start.startswith(f"{s}_".replace("-", "_"))), "")
        found[stage].append(name)
    return {stage: found[stage] for stage in sorted(stages)}
