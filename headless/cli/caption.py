"""`facewright caption`: text beside pictures, for methods that train with prompts."""

from pathlib import Path
from typing import Annotated

import typer

from ._common import (
    AsJson,
    Device,
    app,
    check_choice,
    counted,
    is_folder,
    job_progress,
    needs_training,
    path_argument,
    path_option,
    say,
    tell,
    use_device,
    wrong_usage,
)
from ._failures import sentences


@app.command()
@sentences(interrupted="Interrupted. The same command goes on with the captions that are missing.")
def caption(
    folder: Annotated[
        Path, path_argument("Pictures, subfolders included, or a data set.", callback=is_folder)
    ],
    model: Annotated[
        Path,
        path_option(
            "Folder of a BLIP model as transformers saves it, such as "
            "Salesforce/blip-image-captioning-base; nothing is downloaded.",
            callback=is_folder,
        ),
    ],
    rule: Annotated[
        str,
        typer.Option(
            help="Which pictures of pairs are the good ones, that alone get captions: auto, a rule "
            "of `facewright pairs`, or none for all pictures."
        ),
    ] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write captions that are there already anew.")
    ] = False,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Write a caption beside each picture, a.txt beside a.png, by a BLIP model of yours.

    `facewright train` reads them where a config says `captions: true`. Captions that are there
    already stay, so that an interrupted run goes on, and those you wrote yourself are kept.
    Degraded pictures (a.lq.png, the degraded side of pairs) get none: training reads the good
    picture's.
    """
    with needs_training("Captioning"):
        from ...training.data.files import picture_folder
        from ...training.data.pairing import EXAMPLES
    from ..make.captions import caption_jobs, write_captions

    check_choice("--rule", rule, ("auto", "none", *EXAMPLES))
    use_device(device)
    with wrong_usage():
        good = None if rule == "none" else _good_pictures(folder, rule)
        found = picture_folder(folder)
    pictures = [sample.file for sample in found.samples] if good is None else good
    with wrong_usage():
        jobs = caption_jobs(pictures)
    with job_progress("Captioning", len(jobs), quiet=as_json) as on_job:
        summary = write_captions(jobs, model, overwrite=overwrite, on_job=on_job)
    words = f"{counted(len(summary.done), 'caption')} written beside the pictures in {folder}"
    tell(summary, len(jobs), found.aside, words, as_json)


def _good_pictures(folder: Path, rule: str) -> list[Path] | None:
    """Those of a data set of pairs; None where the folder is none."""
    from ...training.data.pairing import NoPairsError, find_pairs
    from ...training.settings.data_sections import PairFolders

    entry = PairFolders.model_validate({"folder": folder, "rule": rule})
    try:
        found = find_pairs(entry)
    except NoPairsError:
        if rule != "auto":
            raise
        return None
    if found.rule == "beside" and rule == "auto":
        return None  # a plain folder, some of whose pictures have a degraded one beside them
    say(
        f"{folder} holds {counted(len(found.pairs), 'pair')} by the rule {found.rule}: their good "
        "pictures get captions. --rule none is for all pictures."
    )
    return [good for good, _ in found.pairs.values()]
