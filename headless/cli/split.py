"""`facewright split`: people to test with, kept apart from those who are trained on."""

from pathlib import Path
from typing import Annotated

import typer

from ...core.errors import listed, shorten
from ._common import (
    OUT,
    AsJson,
    app,
    counted,
    fail,
    is_file,
    is_folder,
    path_argument,
    path_option,
    progress,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences


@app.command()
@sentences(interrupted="Interrupted. The same command goes on where it stopped.")
def split(
    folder: Annotated[Path, path_argument("A subfolder for each person.", callback=is_folder)],
    out: Annotated[Path, path_option("Folder for test/ and train/.", *OUT)],
    first: Annotated[
        int | None, typer.Option(min=1, help="Test with so many people at the beginning.")
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, help="Test with so many people at the end.")
    ] = None,
    names: Annotated[
        Path | None,
        path_option("Test with those in this text file, a folder's name a line.", callback=is_file),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Divide a data set of people into OUT/test and OUT/train, no person in both.

    CelebRef-HQ as HonestFace does: --first 100 tests with the first 100 and leaves the last 905 to
    train on; Reface-HQ: --names with the 380 people of its test set. Folders are in the order of
    the numbers in their names. Files are linked where the disk allows, and captions go along.
    """
    if sum(given is not None for given in (first, last, names)) != 1:
        raise typer.BadParameter("Give one of --first, --last and --names.")
    from ..make.split import divide, facts_of, plan_split

    with wrong_usage():
        chosen = plan_split(folder, first=first, last=last, names=names)
    people = len(chosen.test) + len(chosen.train)
    with progress("Dividing", people, quiet=as_json) as show, wrong_usage():
        done = divide(chosen, out, on_person=lambda name, number: show(name, number))
    if as_json:
        write_json(facts_of(chosen, out, done))
    else:
        for side, names_ in chosen.as_dict().items():
            ends = " to ".join(shorten(name, 60) for name in dict.fromkeys((names_[0], names_[-1])))
            pictures = counted(done.made[side], "picture")
            some = "1 person" if len(names_) == 1 else f"{len(names_)} people"
            say(f"{out / side}: {some} ({ends}), {pictures}.")
        if chosen.loose:
            some = counted(len(chosen.loose), "picture")
            say(f"{some} in no person's folder, left out: {listed(chosen.loose)}.", "yellow")
        say_aside(chosen.aside)
    if done.failed:
        lines = [f"{file}: {why}" for file, why in done.failed.items()]
        fail(f"{counted(len(lines), 'file')} left out:\n" + "\n".join(lines))
