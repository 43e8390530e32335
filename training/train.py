"""`python -m facewright.training.train STAGE --config FILE`: train any stage of any recipe."""

import difflib
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..core._plugins import import_all
from .recipe import Recipe
from .settings.config import ConfigError, load_config
from .settings.inputs import check_inputs, check_stage
from .settings.shipped import find_config

if TYPE_CHECKING:
    from .loop.engine import Engine


def stages() -> dict[str, type[Recipe]]:
    """Every stage of every recipe file in `training/methods`, by name."""
    from . import methods

    found = {}
    for module in import_all(methods):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Recipe) and value.stage:
                found[value.stage] = value
    return dict(sorted(found.items()))


def open_run(stage: str, config: str | Path, overrides: list[str] | None = None) -> "Engine":
    """Networks, optimisers and settings of a run that has not begun.

    Args:
        stage: a name from `stages()`.
        config: YAML file (see `config.TrainConfig`), or the name of one that came with the package.
        overrides: `a.b=value` strings that replace entries of the file.

    Raises:
        ConfigError: unknown stage, wrong config, or something it names is not there.
        FacewrightError: a file the recipe reads is damaged.
    """
    from .loop.engine import Engine

    known = stages()
    if stage not in known:
        near = difflib.get_close_matches(stage, known) or list(known)
        raise ConfigError(f"There is no training stage `{stage}`. Did you mean {', '.join(near)}?")
    recipe = known[stage]
    check_stage(str(config), stage, list(known))
    settings = load_config(find_config(str(config)), recipe.Config, overrides)
    check_inputs(settings, list(known))
    return Engine(recipe(settings.recipe), settings)


def train(
    stage: str,
    config: str | Path,
    *,
    resume: bool = False,
    overrides: list[str] | None = None,
) -> dict:
    """Train `stage` as the YAML file says; returns the facts of the run (see `Engine.run`).

    Args:
        stage, config, overrides: as `open_run` takes them.
        resume: continue the run found in the config's `output` folder.

    Raises:
        ConfigError: unknown stage or wrong config.
        FacewrightError: data, checkpoint or numeric trouble, as a sentence.
    """
    return open_run(stage, config, overrides).run(resume=resume)


def main() -> None:
    """`facewright train` for launchers that start modules."""
    sys.argv[1:1] = ["train"]
    runpy.run_module(str(__package__).partition(".")[0], run_name="__main__")


if __name__ == "__main__":
    main()
