"""One process of the campaign: tries cases of one kind and writes a line of JSON for each."""

import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

from . import prepared
from .watch import Room, Told, Wrong, ran

MOST_MEMORY = 4 * 2**30
"""Bytes of data that a process may hold."""


def main(kind: str, seed: str, first: str, end: str, folder: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(os.path.join(folder, "said.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)  # whatever libraries say
    os.dup2(log, 2)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    import torch

    torch.set_num_threads(1)
    room = Room(Path(folder) / "room")
    tempfile.tempdir = str(room.spare)
    os.chdir(room.given)
    case = prepared(kind, room)
    print("ready", file=answers, flush=True)
    for number in range(int(first), int(end)):
        print(json.dumps(_tried(case, f"{seed}/{kind}/{number}", room)), file=answers, flush=True)


def _tried(case, name, room):
    """One case, in words."""
    room.begin()
    detail = ""
    start = time.monotonic()
    try:
        outcome = "sentence" if isinstance(case(random.Random(name)), Told) else "result"
    except Wrong as wrong:
        outcome, detail = "wrong", str(wrong)[:500]
    except Exception:  # noqa: BLE001 - whatever it is, it is counted
        outcome, detail = "traceback", traceback.format_exc(limit=-12)[-2500:]
    return {
        "case": name,
        "outcome": outcome,
        "detail": detail,
        "code": ran[:5],
        "outside": room.outside[:5],
        "seconds": round(time.monotonic() - start, 3),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
