"""Commands whose options come from dataclasses; ranges and choices are declared once."""

from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from facewright.core.color import COLOR_MODES
from facewright.core.errors import FacewrightError
from facewright.core.faces import ORDERS
from facewright.core.options import option, options_of
from facewright.core.people.guard import ACTIONS
from facewright.core.pipeline.options import RestoreOptions
from facewright.headless.cli._options import grouped
from typer.testing import CliRunner


@dataclass(frozen=True, kw_only=True)
class Bread:
    crust: str = option("dark", "How it looks.", choices=("dark", "pale"))
    slices: int = option(2, "How many.", low=1, high=9)
    butter: bool = option(False, "With butter.")
    where: Annotated[str, typer.Option("--where", "-w", help="Whose table.")] = "here"
    kept: int = 7

    def __post_init__(self):
        if self.butter and self.slices > 5:
            raise FacewrightError("There is not so much butter.")


@pytest.fixture
def run():
    app, got = typer.Typer(), []

    @app.command()
    @grouped
    def bake(
        names: Annotated[list[str], typer.Argument()],
        bread: Bread,
        loud: Annotated[bool, typer.Option("--loud")] = False,
    ) -> None:
        """Bakes."""
        got.append((names, bread, loud))

    def call(*args):
        result = CliRunner().invoke(app, list(args))
        return result, got[-1] if got else None

    return call


def test_fields_become_options(run):
    _, (names, bread, loud) = run("a", "b")
    assert (names, bread, loud) == (["a", "b"], Bread(), False)
    args = ("a", "--crust", "pale", "--slices", "3", "--butter", "-w", "there", "--loud")
    _, (_, bread, loud) = run(*args)
    assert bread == Bread(crust="pale", slices=3, butter=True, where="there") and loud
    shown = run("--help")[0].stdout
    assert all(words in shown for words in ("Bakes.", "dark|pale", "1<=x<=9", "--where", "-w"))
    assert "kept" not in shown


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--crust", "burnt"), "'burnt' is not one of dark, pale"),
        (("--slices", "10"), "--slices"),
        (("--butter", "--slices", "6"), "not so much butter"),
    ],
)
def test_what_a_group_refuses_is_wrong_usage(run, args, words):
    result, _ = run("a", *args)
    assert result.exit_code == 2 and words in result.output


def test_ranges_and_choices_hold_in_python():
    for name, value in (("strength", 1.5), ("color", "sepia"), ("fade", -1), ("crf", None)):
        with pytest.raises(FacewrightError, match=f"`{name}` should be"):
            RestoreOptions(**{name: value})
    with pytest.raises(FacewrightError, match="`feather`"):
        RestoreOptions(feather=float("nan"))
    assert RestoreOptions(max_drift=None, on_drift=None) == RestoreOptions()


def test_choices_are_those_of_who_does_it():
    known = options_of(RestoreOptions)
    assert known["color"].choices == COLOR_MODES
    assert known["order"].choices == ORDERS
    assert known["on_drift"].choices == ACTIONS
