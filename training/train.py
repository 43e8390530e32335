"""`python -m facewright.training.train STAGE --config FILE`: train any stage of any recipe."""

import difflib
import os
import sys
from pathlib import Path

from ..core._plugins import import_all
from ..core.errors import FacewrightError
from .config import ConfigError, load_config
from .recipe import Recipe


def stages() -> dict[str, type[Recipe]]:
    """Every stage of every recipe file in `training/methods`, by name."""
    from . import methods

    found = {}
    for module in import_all(methods):
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Recipe) and value.stage:
                found[value.stage] = value
    return dict(sorted(found.items()))


def train(
    stage: str,
    config_path: str | Path,
    *,
    resume: bool = False,
    overrides: list[str] | None = None,
) -> dict:
    """Train `stage` as the YAML file says; returns the facts of the run (see `Engine.run`).

    Args:
        stage: a name from `stages()`.
        config_path: YAML file, see `config.TrainConfig`.
        resume: continue the run found in the config's `output` folder.
        overrides: `a.b=value` strings that replace entries of the file.

    Raises:
        ConfigError: unknown stage or wrong config.
        FacewrightError: data, checkpoint or numeric trouble, as a sentence.
    """
    from .engine import Engine

    known = stages()
    if stage not in known:
        near = difflib.get_close_matches(stage, known) or list(known)
        raise ConfigError(f"There is no training stage `{stage}`. Did you mean {', '.join(near)}?")
    recipe = known[stage]
    config = load_config(config_path, recipe.Config, overrides)
    return Engine(recipe(config.recipe), config).run(resume=resume)


def main() -> None:
    """Command line of this module; `facewright train` offers the same."""
    import typer
    from rich.console import Console

    def run(
        stage: str,
        config: Path = typer.Option(..., help="YAML file of the run"),  # noqa: B008
        resume: bool = typer.Option(False, help="continue the run in the config's output folder"),
        set_: list[str] = typer.Option([], "--set", help="section.key=value"),  # noqa: B008
    ) -> None:
        try:
            facts = train(stage, config, resume=resume, overrides=set_)
        except FacewrightError as error:
            Console(stderr=True).print(str(error), markup=False)
            sys.exit(1)
        if os.environ.get("RANK", "0") == "0":
            Console().print_json(data=facts)

    typer.run(run)


if __name__ == "__main__":
    main()
