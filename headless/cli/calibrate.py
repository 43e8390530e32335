"""`facewright person calibrate`: what the cosines of a recogniser mean, from folders of people."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    AsJson,
    Machine,
    check_choice,
    fail,
    inputs_argument,
    path_option,
    progress,
    say,
    say_aside,
    write_json,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from .person import CropSize, RecognizerFile, person


@person.command()
@sentences(interrupted="Interrupted. No limits were written.")
@grouped
def calibrate(
    *,
    inputs: Annotated[
        list[str],
        inputs_argument(
            "Folders with a sub-folder of photos, or an album, for each person.", "FOLDERS"
        ),
    ],
    recogniser: RecognizerFile = None,
    rate: Annotated[
        float | None,
        typer.Option(
            "--false-match-rate",
            min=0,
            max=1,
            help="Share of strangers that may reach the limits. By default 0.001, or 0.01 where "
            "there are too few people for that.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        path_option(
            "Where to write the limits, by default beside the weights, where they are found: "
            "backbone.limits.json beside backbone.pth. Those of nano are written only here.",
            "-o",
            "--out",
        ),
    ] = None,
    analyzer: Annotated[
        str | None,
        typer.Option(
            help="What finds faces, as for `person make`. By default auto; with the nano "
            "recogniser, nano."
        ),
    ] = None,
    machine: Machine,
    size: CropSize = None,
    as_json: AsJson = False,
) -> None:
    """Measure how often strangers reach which cosine, and which photos of one person miss it.

    Every face is compared with its own person and with all others. A rate needs many people: 25
    for 1 %, 78 for 0.1 %, 246 for 0.01 %.
    """
    from ...core.faces import ANALYZERS, choice_of, load_analyzer
    from ...core.files.scan import LeftAside
    from ...core.people.calibration import calibrate as measure
    from ...core.people.calibration import check_rate
    from ...core.people.limits import limits_file
    from ...core.weights.nano import NANO_SIZE
    from ..make.calibrate import albums_of, find_people
    from ..make.people import find_recogniser, recogniser_file

    nano = recogniser == "nano"
    chosen = analyzer or ("nano" if nano else "auto")
    check_choice("--analyzer", chosen, ANALYZERS)
    machine.use()
    weights = recogniser_file(recogniser)
    target = out or (limits_file(weights) if weights else None)
    aside = LeftAside()
    with wrong_usage():
        people = find_people(inputs, target or Path("nano.limits.json"), aside)
    check_rate(rate, len(people))  # before every face is looked at
    networks = {
        "recogniser": find_recogniser(recogniser, calibrated=False),
        "analyzer": load_analyzer(chosen, dense=True),
    }
    with progress("Looking", len(people), quiet=as_json) as show:
        seen: list[Path] = []

        def on_person(place: Path) -> None:
            seen.append(place)
            show(place.name, len(seen))

        albums, report = albums_of(
            people, size=size or (NANO_SIZE if nano else 512), on_person=on_person, **networks
        )
    report = [*choice_of(networks["analyzer"]), *report]
    for line in [] if as_json else report:
        say(line, "yellow" if line.startswith("warning") else None)
    if not as_json:
        say_aside(aside)
    if not albums:
        fail("There is nobody to compare.")
    found = measure(albums, rate=rate)
    facts = found.facts()
    if target is not None:
        found.limits.save(target, networks["recogniser"].id, measured=facts)
    if as_json:
        file = None if target is None else str(target)
        write_json(
            {"file": file, **facts, "report": [*report, *found.report]}
            | {"left_aside": aside.entries()}
        )
        return
    for line in found.report:
        say(line, "yellow" if line.startswith("warning") else None)
    if target is None:
        say("Nothing was written: the bundled recogniser keeps its limits. -o writes these.")
    else:
        say(f"Written to {target}.")
