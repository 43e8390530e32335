"""Train the arms of the miniature experiments: short runs that differ in one thing each.

    python bootstrap.py bench arms --method osdface [--workers 2] [--seeds 1,2] [--only vre,zeros]
    python bootstrap.py bench arms --method osdface --first-terms

Goes on where it was interrupted; seeds come first, so that whatever is finished compares all arms.
Each run lies in RUNS/arms/METHOD/ARM-SEED: `export`, `train.log`, and in `run.json` its processor
seconds. `python bootstrap.py bench scores` measures what came out. `--first-terms` measures how
large the terms are at the first step, by which their weights in benchmarks/_arms.py were chosen.
"""

import argparse
import sys
from pathlib import Path

from facewright.benchmarks._arms import METHODS, ROOT, SEEDS, Places
from facewright.benchmarks._arms_run import jobs_of, spent, train_all
from facewright.core.errors import FacewrightError


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def say(text: str) -> None:
    print(text, flush=True)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=list(METHODS), required=True)
    parser.add_argument("--seeds", type=numbers, default=SEEDS, help="such as 1,2")
    parser.add_argument("--only", type=names, default=(), help="arms, such as vre,zeros")
    parser.add_argument("--workers", type=int, default=2, help="processes, of one thread each")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs")
    parser.add_argument("--steps", type=int, help="of every run, in place of the method's own")
    parser.add_argument(
        "--precision",
        choices=("bf16", "no"),
        default="bf16",
        help="no where the CPU has no bfloat16, which is slow there",
    )
    parser.add_argument("--set", dest="more", action="append", default=[], metavar="A.B=VALUE")
    parser.add_argument("--first-terms", action="store_true", help="measure, train nothing")
    options = parser.parse_args(arguments)
    places = Places(options.runs.resolve())
    try:
        jobs = jobs_of(
            places,
            options.method,
            seeds=options.seeds,
            only=options.only,
            steps=options.steps,
            precision=options.precision,
            more=options.more,
        )
        if options.first_terms:
            from facewright.benchmarks._arms_terms import first_terms

            first_terms(places, jobs, say)
            return
        outcomes = train_all(places, jobs, options.workers, say)
    except FacewrightError as error:
        sys.exit(str(error))
    for arm, seconds in spent(jobs).items():
        mean = sum(seconds) / len(seconds)
        say(f"{arm:14s} {len(seconds)} runs, {mean:5.0f} CPU s each")
    total = sum(sum(seconds) for seconds in spent(jobs).values())
    say(f"{total / 60:.1f} processor minutes in all, {sum(o.cpu_s for o in outcomes) / 60:.1f} now")
    if not all(outcome.finished for outcome in outcomes):
        sys.exit("Not all runs are finished; the same command goes on.")


if __name__ == "__main__":
    main()
