"""The model card beside a run's exports: README.md as Hugging Face reads it, complete by itself."""

import shutil
from pathlib import Path
from typing import Any

import yaml

from ...core.checkpoint import FORMAT_KEY, read_metadata
from ...core.files.known import BASE
from ...core.files.writing import content_hash, written_whole
from ..log.records import read_lines
from .provenance import OTHER_LICENCE

_HOME = "https://github.com/facewright/facewright"
_SAMPLES, _CURVES = "samples.png", "curves.png"
CARD_FILES = ("README.md", _SAMPLES, _CURVES)
"""The card and what it shows."""
_LIMITS = """\
* What a damaged picture no longer shows is made up. A result identifies nobody and proves nothing:
  it is not for identification, medical or forensic use.
* Faces unlike the training pictures (age, skin, pose, light, kind of damage) come out worse;
  nothing here measures by how much.
* Photographs of a person, for training or as references, want that person's consent."""
_MINIATURE = (
    "These files belong to a miniature of the method for rendered faces, not to Stable Diffusion. "
    "The nodes above load them; the LoRA goes on the `model` of *Load Nano Models* with weights "
    "`base`, if that is the base model named above."
)
_NO_ADVICE = (
    "These weights depend on the terms of what they were made from, as far as facewright knows "
    "them. No legal advice, and no claim that the list is complete."
)
_SCORES = (
    "Measured on the held-out people of this very collection: good for watching a training, not "
    "for comparing it with published numbers."
)
_PEOPLE = (
    "These show people of the training collection. Delete `samples.png` and this section before "
    "publishing, unless they and the collection's terms allow it."
)
_DIFFUSERS = """\
In diffusers, the UNet alone (the other files hold what the method adds to it):

```python
from diffusers import UNet2DConditionModel

unet = UNet2DConditionModel.from_pretrained("{base}", subfolder="unet")
unet.load_lora_adapter(".", weight_name="{lora}", prefix="unet")
```

`facewright export {lora} --base BASE -o FILE` merges it into the base, and `--to kohya` renames it
for loaders that know only that style."""
_GRAPH = """\
In ComfyUI: put the files where the table says and `{base}` into `models/checkpoints`, open
facewright's workflow `{workflow}`, and choose them in the nodes named above.

Without ComfyUI, with all of these files in one folder `MODELS`, and a `--set` more for each picture
that the workflow loads:

```
facewright run workflows/{workflow}.json --models MODELS{settings}
```"""


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
    parts = [
        *_introduction(facts),
        *_files(facts, files),
        *_use(facts, files),
        *_terms(facts),
        *_data(facts),
        *_training(facts, run / "metrics.jsonl"),
        *_pictures(facts, shown),
        "## Limits",
        _LIMITS,
        "## Config",
        "As it ran, with defaults spelled out. Paths are cut to their last part.",
        *_changes(facts),
        f"```yaml\n# facewright train {facts['stage']}\n{_yaml(facts['config'])}```",
    ]
    path = folder / "README.md"
    text = f"---\n{_yaml(_front_matter(facts, files))}---\n\n" + "\n\n".join(parts) + "\n"
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _copy(source: Path, target: Path) -> str:
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)
    return target.name


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)


def _listed(lines: Any) -> str:
    return "\n".join(f"* {line}" for line in lines)


def _is_lora(file: Path) -> bool:
    metadata = read_metadata(file)
    return FORMAT_KEY not in metadata and "rank" in metadata


def _front_matter(facts: dict[str, Any], files: list[Path]) -> dict[str, Any]:
    """https://huggingface.co/docs/hub/model-cards#model-card-metadata"""
    loras = any(map(_is_lora, files))
    values: dict[str, Any] = {"license": facts["licence"]}
    if facts["licence"] == OTHER_LICENCE:
        values["license_name"] = "see-terms-below"
    values["library_name"] = "diffusers" if loras else "facewright"
    if loras and _is_sd(facts):
        values |= {"base_model": BASE.source.split()[0], "base_model_relation": "adapter"}
    values["pipeline_tag"] = "image-to-image"
    tags = ["facewright", "comfyui", "face-restoration", facts["method"], "lora" if loras else ""]
    return values | {"tags": [tag for tag in tags if tag]}


def _is_sd(facts: dict[str, Any]) -> bool:
    return bool(facts["base"]) and facts["base"]["kind"] == "sd"


def _name(facts: dict[str, Any]) -> str:
    return facts["config"]["recipe"].get("name") or facts["stage"]


def _introduction(facts: dict[str, Any]) -> list[str]:
    versions = facts["versions"]
    paper = f", after the method `{facts['method']}`" if facts["method"] else ""
    text = (
        f"Weights of stage `{facts['stage']}`{paper}, trained with [facewright]({_HOME}) "
        f"{versions['facewright'] or '(not installed)'} and torch {versions['torch']}. A training "
        "of its own: these are not the weights of the paper's authors, nor endorsed by them."
    )
    base = facts["base"]
    if base and base["kind"] == "sd":
        text += f"\n\nBase model: {BASE.what}, from the file or folder `{base['name']}`."
    elif base:
        text += f"\n\nBase model: `{base['name']}`, {base['terms'].rstrip('.')}."
    if not facts["finished"]:
        text += f"\n\n**The training was not finished**: its state at step {facts['steps']}."
    return [f"# {_name(facts)}", text]


def _files(facts: dict[str, Any], files: list[Path]) -> list[str]:
    loaders = _loaders(facts)
    rows = ["| file | node | folder in ComfyUI | size | SHA-256 |", "|---|---|---|---|---|"]
    for file in files:
        node = loaders.get(file.name)
        place = f"`models/{'loras' if _is_lora(file) else 'facewright'}`" if node else ""
        size = f"{file.stat().st_size / 1e6:.1f} MB"
        link = f"[`{file.name}`]({file.name})"
        rows.append(f"| {link} | {node or 'none'} | {place} | {size} | `{content_hash(file)}` |")
    return ["## Files", "\n".join(rows)]


def _loaders(facts: dict[str, Any]) -> dict[str, str]:
    """File name -> the node that loads it."""
    pairs = (setting.partition("=") for setting in facts["use"]["settings"])
    return {value: place.rpartition(".")[0] for place, _, value in pairs}


def _use(facts: dict[str, Any], files: list[Path]) -> list[str]:
    use, parts = facts["use"], ["## Use"]
    if use["workflow"]:
        settings = "".join(f' \\\n    --set "{setting}"' for setting in use["settings"])
        filled = {"base": facts["base"]["name"], "workflow": use["workflow"], "settings": settings}
        parts.append(_GRAPH.format(**filled) if _is_sd(facts) else _MINIATURE)
    if use["goes_into"]:
        parts.append(f"For training on: {use['goes_into']}.")
    if len(parts) == 1:
        parts.append("Parts of facewright's own miniatures, for the stages that name them.")
    lora = next((f.name for f in files if _is_lora(f)), None)
    if lora and _is_sd(facts):
        parts.append(_DIFFUSERS.format(base=BASE.source.split()[0], lora=lora))
    return parts


def _terms(facts: dict[str, Any]) -> list[str]:
    return ["## Terms", _NO_ADVICE, _listed(facts["licences"])]


def _data(facts: dict[str, Any]) -> list[str]:
    data = facts["data"]
    rows = ["| split | people | pictures | SHA-256 of names and sizes |", "|---|---|---|---|"]
    for split in ("train", "held_out"):
        if found := data.get(split):
            sha256 = f"`{found['sha256']}`" if found["sha256"] else "not taken"
            name = split.replace("_", " ")
            rows.append(f"| {name} | {found['people']} | {found['pictures']} | {sha256} |")
    parts = ["## Data", f"Source: `{data['source']}`."]
    if len(rows) > 2:
        parts.append("\n".join(rows))
    if facts["inputs"]:
        parts.append("Weights that went in:")
        parts.append(_listed(map(_described, facts["inputs"])))
    return parts


def _described(entry: dict[str, Any]) -> str:
    stage = f", exported by stage `{entry['stage']}`" if entry["stage"] else ""
    sha256 = f", SHA-256 `{entry['sha256']}`" if entry["sha256"] else ""
    return f"`{entry['key']}`: `{entry['file']}`{stage}{sha256}"


def _training(facts: dict[str, Any], metrics: Path) -> list[str]:
    steps, seconds = facts["steps"], facts["cpu_seconds"]
    cpu = "" if seconds is None else f" ({seconds} CPU seconds over all processes)"
    spent = f"{steps} steps, {facts['images']} images, {facts['minutes']:g} minutes{cpu}."
    if not facts["metrics"]:
        return ["## Training", spent]
    first = next((line for line in read_lines(metrics) if "held_out" in line), {"step": steps})
    before = first["held_out"] if first["step"] < steps else {}
    start = f"step {first['step']}" if before else "not logged"
    rows = [f"| held out | {start} | step {steps} |", "|---|---|---|"]
    for name, value in facts["metrics"].items():
        earlier = f"{before[name]:g}" if name in before else ""
        rows.append(f"| {name} | {earlier} | {value:g} |")
    return ["## Training", spent, "\n".join(rows), _SCORES]


def _changes(facts: dict[str, Any]) -> list[str]:
    """What was another value before the run was resumed with this config."""
    lines = [
        f"`{c['key']}` was `{c['before']}` up to step {c['step']}, then `{c['now']}`."
        for c in facts.get("changes", [])
    ]
    return ["Changed on the way:", _listed(lines)] if lines else []


def _pictures(facts: dict[str, Any], shown: list[str]) -> list[str]:
    parts = []
    if _SAMPLES in shown:
        parts += ["## Samples", f"![The fixed held-out samples at the end]({_SAMPLES})"]
        if facts["data"]["source"] != "world":
            parts.append(_PEOPLE)
    if _CURVES in shown:
        parts += ["## Curves", f"![Losses and held-out scores over steps]({_CURVES})"]
    return parts
