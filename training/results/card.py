"""The model card beside a run's exports: README.md as Hugging Face reads it, complete by itself."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ...core.checkpoint import identify
from ...core.files.known import BASE
from ...core.files.writing import content_hash, written_whole
from ..log.records import read_lines
from .provenance import OTHER_LICENCE

_REPOSITORY = BASE.source.split()[0]
_SAMPLES, _CURVES = "samples.png", "curves.png"
CARD_FILES = ("README.md", _SAMPLES, _CURVES)
"""The card and what it shows."""


def write_card(
    folder: Path, facts: dict[str, Any], files: list[Path], run: Path | None = None
) -> Path:
    """Write README.md into a folder of exports, and the pictures that it shows.

    Args:
        folder: of the exports.
        facts: what the run measured, and its `provenance`.
        files: the exports, in `folder`.
        run: folder of the run, by default the one `folder` lies in. Its last picture grid and its
            curves.png, where there are such, are copied; its metrics.jsonl tells where held-out
            scores began.

    Returns:
        the card.

    Raises:
        OSError: the folder cannot be written.
    """
    run = run or folder.parent
    grids = sorted((run / "grids").glob("step-*.png"))
    shown = [_copy(source, folder / _SAMPLES) for source in grids[-1:]]
    if (run / _CURVES).is_file():
        shown.append(_copy(run / _CURVES, folder / _CURVES))
    path = folder / "README.md"
    text = _template().render(
        facts,
        front=_front_matter(facts, files),
        name=facts["config"]["recipe"].get("name") or facts["stage"],
        sd21=BASE,
        repository=_REPOSITORY,
        files=_listed(facts, files),
        shown=shown,
        samples=_SAMPLES,
        curves=_CURVES,
        **_start(facts, run / "metrics.jsonl"),
    )
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _copy(source: Path, target: Path) -> str:
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)
    return target.name


def _template() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # no markup is escaped: what is quoted in the card stands in code spans
    environment.filters["yaml"] = partial(yaml.safe_dump, sort_keys=False, allow_unicode=True)
    return environment.get_template("card.md")


def _is_lora(file: Path) -> bool:
    return identify(file).kind == "lora"


def _front_matter(facts: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """https://huggingface.co/docs/hub/model-cards#model-card-metadata"""
    loras = any(map(_is_lora, files))
    values: dict[str, Any] = {"license": facts["licence"]}
    if facts["licence"] == OTHER_LICENCE:
        values["license_name"] = "see-terms-below"
    values["library_name"] = "diffusers" if loras else "facewright"
    if loras and _is_sd(facts):
        values |= {"base_model": _REPOSITORY, "base_model_relation": "adapter"}
    values["pipeline_tag"] = "image-to-image"
    tags = ["facewright", "comfyui", "face-restoration", facts["method"], "lora" if loras else ""]
    return values | {"tags": [tag for tag in tags if tag]}


def _is_sd(facts: dict[str, Any]) -> bool:
    return bool(facts["base"]) and facts["base"]["kind"] == "sd"


def _listed(facts: dict[str, Any], files: list[Path]) -> list[dict[str, Any]]:
    """What the table of files says of each, the node that loads it included."""
    pairs = (setting.partition("=") for setting in facts["use"]["settings"])
    loaders = {value: place.rpartition(".")[0] for place, _, value in pairs}
    return [
        {
            "name": file.name,
            "node": loaders.get(file.name),
            "lora": _is_lora(file),
            "bytes": file.stat().st_size,
            "sha256": content_hash(file),
        }
        for file in files
    ]


def _start(facts: dict[str, Any], metrics: Path) -> dict[str, Any]:
    """Where held-out scores began, if that was before the end."""
    found = (line for line in read_lines(metrics) if "held_out" in line)
    first = next(found, {"step": facts["steps"]})
    return {
        "first_step": first["step"],
        "before": first["held_out"] if first["step"] < facts["steps"] else {},
    }
