"""`facewright evaluate` and `facewright score`: how good restored pictures are, in numbers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ...core.errors import first_of
from ._common import (
    OUT,
    AsJson,
    Machine,
    app,
    exists,
    fail,
    is_file,
    path_argument,
    path_option,
    path_or_name,
    progress,
    say,
    wrong_usage,
)
from ._failures import sentences
from ._options import grouped
from ._workers import Overwrite, Sharing, workers_option


def _names_in(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is measured."""

    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            "--metric",
            help="Separated by commas, such as psnr,ssim,lpips or, with --faces, ald,ald_eyes,"
            "ald_mouth,lmd; default: the usual ones.",
        ),
    ] = None
    faces: Annotated[
        str | None,
        typer.Option(
            "--faces",
            "--analyzer",
            help="Also score faces, found by auto (the best that is ready here and gives dense "
            "landmarks), or by one of mediapipe, facexlib, insightface, or nano (rendered faces).",
        ),
    ] = None
    recogniser: Annotated[
        str | None,
        typer.Option(
            parser=path_or_name,
            help="Also score identity (deg, cosine, rank, rank1) by ArcFace's or AdaFace's "
            "weights: a file, or its name in models/facewright. Or nano (rendered faces). Without "
            "--aligned, --faces finds the faces, by default auto.",
        ),
    ] = None
    aligned: Annotated[
        bool,
        typer.Option(
            "--aligned",
            help="All pictures are aligned face crops (FFHQ template, 512 px): landmarks and "
            "identity are read from them as they are, and no face is looked for.",
        ),
    ] = False

    def settings(
        self, gt: Path | None, *, sets: bool, given: Any = (), reference: Path | None = None
    ) -> Any:
        """What `score_all` takes; `given` metrics join those that are measured.

        Raises:
            FacewrightError: something that cannot be measured here.
        """
        from ...core.errors import FacewrightError
        from ...core.faces import choice_of, load_analyzer
        from ..evaluation.faces import ANALYZERS, Looks
        from ..evaluation.scoring import choose_metrics

        if self.faces is not None and self.faces not in ANALYZERS:
            raise FacewrightError(
                f"--faces {self.faces}: faces are scored with {', '.join(ANALYZERS)}, which find "
                "landmarks."
            )
        if self.aligned and self.faces is None and self.recogniser is None:
            raise FacewrightError(
                "--aligned says how faces are read: add --recogniser FILE for identity or --faces "
                "NAME for landmarks."
            )
        faces = self.faces or self._finder()
        if faces == "auto":
            analyzer = load_analyzer(faces, dense=True)
            say(choice_of(analyzer)[0])
            faces = analyzer.name
        looks = Looks(faces, self.recogniser, self.aligned)
        names = self.metrics
        if names is not None:
            names = _names_in(names)
        return choose_metrics(
            names, looks, gt is not None, sets=sets, given=given, reference=reference
        )

    def _finder(self) -> str | None:
        """Who finds the faces of a recogniser where nobody is named."""
        from ..make.people import find_recogniser

        if self.recogniser is None:
            return None
        nano = find_recogniser(self.recogniser, calibrated=False).name.startswith("nano")
        return None if self.aligned else "nano" if nano else "auto"


@dataclass(frozen=True, kw_only=True)
class SharingCases(Sharing):
    """Who scores the pictures."""

    workers: Annotated[
        int | None,
        workers_option(
            "Processes that share the pictures, with one thread each: any number gives the same "
            "digits. By default one picture at a time, with all cores.",
            default=True,
        ),
    ] = None


def _files(found: list[Path] | None) -> list[Path] | None:
    for path in found or ():
        is_file(path)
    return found


@app.command()
@sentences(
    interrupted="Interrupted before the report was written. The scores so far are kept beside it "
    "(scores.jsonl): the same command goes on from them."
)
@grouped
def evaluate(
    *,
    folders: Annotated[
        list[Path],
        path_argument(
            "Restored pictures, one folder per method.", metavar="DIR...", show_default=False
        ),
    ],
    gt: Annotated[
        Path | None, path_option("The originals, under the same names.", show_default=False)
    ] = None,
    lq: Annotated[
        Path | None, path_option("The degraded pictures: scored and shown beside.")
    ] = None,
    reference_set: Annotated[
        Path | None,
        path_option(
            "Pictures that the restored ones should look like, whoever is in them: a folder, or "
            "statistics by `facewright stats`, clean-fid or BasicSR's scripts. Adds fid_set, FID "
            "to this set.",
            callback=exists,
        ),
    ] = None,
    out: Annotated[
        Path | None, path_option("Folder of the report; default: DIR_evaluation.", *OUT)
    ] = None,
    measured: Measured,
    scores: Annotated[
        list[Path] | None,
        path_option(
            "Scores of single pictures that were measured elsewhere: .csv with columns picture, "
            "method and one per metric (topiq:higher for one that is not known here), or a "
            "results.json or scores as JSON lines. May be given several times.",
            callback=_files,
        ),
    ] = None,
    machine: Machine,
    sort: Annotated[
        str | None, typer.Option(help="Metric that decides which cases are worst and best.")
    ] = None,
    cases: Annotated[int, typer.Option(min=0, help="How many of each are shown.")] = 5,
    slice_by: Annotated[
        str | None,
        typer.Option(
            metavar="subfolder,scale,blur,noise,quality",
            help="Also means over groups of pictures: by subfolder, or by damage that was drawn "
            "(read from the manifest.jsonl of facewright degrade, in --lq), with a plot.",
        ),
    ] = None,
    sharing: SharingCases,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Score restored pictures against their originals and write a report with intervals.

    Scores are written as they come, to scores.jsonl in the report's folder: interrupted runs go on
    from them, and a further metric is measured alone.
    """
    from ..evaluation import pair_folders, summarize, write_report
    from ..evaluation.cases import sort_metric
    from ..evaluation.given import read_given
    from ..evaluation.kept import KeptScores
    from ..evaluation.slices import group
    from ._scores_shown import print_json, print_tables

    machine.use()
    with wrong_usage():
        out = _report_folder(out, folders, gt, lq, reference_set)
        given = read_given(scores or ())
        settings = measured.settings(gt, sets=True, given=given.metrics, reference=reference_set)
        sort_metric(settings.metrics, sort)
        pairing = pair_folders(folders, gt, lq)
        known = given.matched(pairing)
        groupings = group(pairing, _names_in(slice_by))
        kept = KeptScores(out, settings, anew=overwrite)
    found = _scored(pairing, settings, sharing, as_json, kept=kept, given=known)
    if kept.taken_over and not as_json:
        say(f"{kept.taken_over} pictures had scores in {kept.path}, which were taken over.", "dim")
    result = summarize(found, groupings)
    if len(found.failed) == len(found.rows):
        fail("Not a single picture could be scored:\n" + _lines(_left_out(result)))
    report = write_report(result, out, sort=sort, cases=cases)
    if as_json:
        print_json(result, report)
    else:
        print_tables(result, report)
    if result.incomplete:
        fail("Left out:\n" + _lines(_left_out(result)))


def _scored(pairing: Any, settings: Any, sharing: SharingCases, as_json: bool, **known: Any) -> Any:
    from ..evaluation import score_all

    total = len(pairing.cases)
    reads = (path for case in pairing.cases for path in (case.gt, *case.versions.values()) if path)
    team = sharing.team(reads, None)

    def on_case(done: int, name: str) -> None:
        show(f"{done} of {total}: {name}", done)

    with sharing.threads:
        reference = _reference(settings, team, as_json)
        with progress("Scoring", total, as_json, team) as show:
            return score_all(pairing, settings, on_case, workers=team, reference=reference, **known)


def _reference(settings: Any, team: Any, as_json: bool) -> Any:
    """Statistics of the reference set, None without one."""
    from ..evaluation.reference import read_reference

    if settings.reference is None:
        return None
    with progress("Reading the reference set", 1, as_json, team) as show:
        return read_reference(
            settings.reference, settings.metrics, settings.looks,
            lambda done, total: show(f"{done} of {total} of the reference set", done / total),
            workers=team,
        )  # fmt: skip


@app.command()
@sentences(interrupted="Interrupted.")
@grouped
def score(
    *,
    restored: Annotated[Path, path_argument("The picture to score.", metavar="A")],
    gt: Annotated[
        Path | None, path_argument("Its original.", metavar="B", show_default=False)
    ] = None,
    measured: Measured,
    machine: Machine,
    as_json: AsJson = False,
) -> None:
    """Score one picture against its original. Many pictures: evaluate."""
    from ..evaluation import score_files
    from ..evaluation.tables import problems
    from ._scores_shown import print_score, print_score_json

    machine.use()
    with wrong_usage():
        settings = measured.settings(gt, sets=False)
    row = score_files(restored, gt, settings)
    if row.error:
        fail(row.error)
    if as_json:
        print_score_json(row, settings)
    else:
        print_score(row, settings)
    for note in row.notes:
        say(note)
    if row.problems:
        fail(_lines(problems(row)))


def _report_folder(out: Path | None, folders: list[Path], *others: Path | None) -> Path:
    """Where the report goes: never among the pictures, which it would join in the next run."""
    from ...core.errors import FacewrightError
    from ...core.files.names import fit_name
    from ..evaluation.pairing import check_folder

    for folder in folders:
        check_folder(folder)
    first = folders[0].resolve()
    out = out or first.with_name(fit_name(f"{first.name}_evaluation", keep=11))
    for folder in (*folders, *others):
        if folder is not None and out.resolve().is_relative_to(folder.resolve()):
            raise FacewrightError(
                f"The report would be written into {folder}, whose pictures are evaluated. Choose "
                "another folder with -o."
            )
    return out


def _left_out(result: Any) -> list[str]:
    from ..evaluation.page import left_out

    return [f"{name}: {why}" for found in left_out(result).values() for name, why in found]


def _lines(lines: list[str]) -> str:
    return "\n".join(first_of(lines, "... and {} more; the report names all"))
