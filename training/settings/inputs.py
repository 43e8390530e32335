"""Whether what a config names is there, before anything large is loaded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from .config import ConfigError, TrainConfig
from .shipped import configs_by_stage, shipped_configs


def config_paths(value: Any, key: str) -> Iterator[tuple[str, Path]]:
    """Every path within a section by its place, such as `recipe.backbone.path`."""
    if isinstance(value, Path):
        yield key, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from config_paths(getattr(value, name), f"{key}.{name}")
    elif isinstance(value, tuple):
        for i, item in enumerate(value):
            yield from config_paths(item, f"{key}.{i}")


def check_inputs(config: TrainConfig, stages: list[str]) -> None:
    """All that is missing in one sentence each.

    Args:
        stages: names of the training stages, to tell which one makes a missing file.

    Raises:
        ConfigError: files of the section `recipe`, or folders of pictures, that are not there.
    """
    wanted = list(config_paths(config.recipe, "recipe"))
    wanted += [(k, p) for k, p in config_paths(config.data, "data") if not k.endswith("cache")]
    wanted += list(config_paths(config.off_shelf, "off_shelf"))
    missing = [(key, path) for key, path in wanted if not _exists(path)]
    if missing:
        lines = [f"  {key}: {path}{_hint(key, path, stages)}" for key, path in missing]
        raise ConfigError(
            "The config names what is not there:\n" + "\n".join(lines) + "\nPut it there, or name "
            f"another place: --set {missing[0][0]}=PATH"
        )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that is too long, or a folder that may not be looked into
        return False


def _hint(key: str, path: Path, stages: list[str]) -> str:
    made = path.parent if path.parent.name == "export" else path
    if made.name in ("export", "checkpoints"):
        run = made.parent.name
        for stage, names in configs_by_stage(stages).items():
            if run in names:
                return f" (facewright train {stage} --config {run} makes it)"
        return " (the stage before makes it)"
    if key.startswith("recipe"):
        return " (docs/training.md, step 2, says where to get it)"
    return ""


def check_stage(config: str, stage: str, stages: list[str]) -> None:
    """Raises ConfigError where `config` is the name of a shipped config of another stage."""
    if config not in shipped_configs():
        return
    by_stage = configs_by_stage(stages)
    owner = next(name for name, configs in by_stage.items() if config in configs)
    if owner != stage:
        raise ConfigError(
            f"`{config}` is a config of stage {owner}, not of {stage}. For {stage} came along: "
            f"{', '.join(by_stage[stage]) or 'none'}."
        )
