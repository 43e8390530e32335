"""`facewright shards`: a folder of training pictures as a few large files."""

from pathlib import Path
from typing import Annotated

import typer

from ...core.errors import listed
from ._common import (
    OUT,
    app,
    check_choice,
    counted,
    fail,
    is_folder,
    needs_training,
    path_argument,
    path_option,
    progress,
    say,
    say_aside,
    wrong_usage,
)
from ._failures import sentences


@app.command()
@sentences(interrupted="Interrupted. Run the same command again to write the shards anew.")
def shards(
    folder: Annotated[Path, path_argument("Training pictures.", callback=is_folder)],
    out: Annotated[Path, path_option("Folder for the shards.", *OUT)],
    size_mb: Annotated[float, typer.Option(min=1, help="Megabytes in a shard, about.")] = 1000.0,
    pairs: Annotated[
        str | None,
        typer.Option(
            help="FOLDER is a data set of real pairs: auto, or a rule of `facewright pairs`."
        ),
    ] = None,
) -> None:
    """Pack a folder of pictures into WebDataset tar shards for `facewright train`.

    Disks and networks that are slow with many small files are quick with these. Subfolders keep
    their names, so that `identity: parent` finds the same people; captions (a.txt) and degraded
    counterparts (a.lq.png) go along. OUT/manifest.jsonl says which file went where.
    """
    with needs_training("Training"):
        from ...training.data.pack import pack
        from ...training.data.pairing import EXAMPLES, find_pairs
        from ...training.settings.data_sections import PairFolders
    found = None
    if pairs is not None:
        check_choice("--pairs", pairs, ("auto", *EXAMPLES))
        with wrong_usage():
            found = find_pairs(PairFolders.model_validate({"folder": folder, "rule": pairs}))
    with progress("Packing", 1, quiet=False) as show:
        packed = pack(
            folder,
            out,
            megabytes=size_mb,
            pairs=found,
            on_shard=lambda done, total: show(f"{done} of {counted(total, 'shard')}", done / total),
        )
    say(
        f"{counted(packed.pictures, 'picture')} in {counted(len(packed.shards), 'shard')} in {out}."
    )
    last = len(packed.shards) - 1
    name = packed.shards[0].name.removesuffix("000000.tar")
    pattern = f"{name}{{000000..{last:06d}}}.tar" if last else packed.shards[0].name
    # Real damage is not to be resized away.
    more = ", lq: true, crop: true" if found else ""
    say(f'Train on them with `data: {{source: shards, shards: "{out / pattern}"{more}, ...}}`.')
    if packed.others:
        some = counted(len(packed.others), "picture")
        say(f"{some} of neither side, left out: {listed(packed.others)}.", "yellow")
    say_aside(packed.aside)
    if packed.left_out:
        lines = [f"{file}: {why}" for file, why in packed.left_out.items()]
        fail(f"{counted(len(lines), 'file')} left out:\n" + "\n".join(lines))
