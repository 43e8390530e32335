"""Files, workflows and answers from strangers by the thousand: a result, or a sentence.

    python bootstrap.py bench hostile_files [--cases N] [--seed S] [--kind K] [--jobs N]

Every case is drawn from the seed, its kind and its number, so that any can be tried again alone.
A process of its own tries them, with 4 GiB of memory at the most; where a case kills it or takes
more than 60 seconds, that is counted and the next process goes on behind it. Meanwhile Python's
audit hooks watch for programs being started, code of a file being compiled or run, files being
opened for writing outside the folder for results, and files being read that nothing may read; after
every case the folders are compared as well, for what libraries in C have written.

sentences      refused by an error of ours, which is whole, printable and leaves nothing behind
tracebacks     any other exception, lack of memory included
wrong results  judged by another way: a sum in float64, another decoder, what had been drawn
code run       of the file; files outside: written beside, or read without being named

`--cases` are those of all kinds together. Writes benchmarks/results/hostile_files.json; with
`--kind` or another number of cases it only prints. Exit code 1 unless all of these are zero.
"""

import argparse
import json
import os
import platform
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ._hostile import KINDS

RESULTS = Path(__file__).parent / "results"
PATIENCE = 60
STARTING = 180
"""Seconds that a process may take before its first case."""
FAULTS = ("tracebacks", "hangs", "deaths", "wrong results", "code run", "files outside")
CASES = sum(cases for *_, cases in KINDS.values())


def tried(kind, seed, cases, folder, patience=PATIENCE):
    """Every case of a kind, one after the other: yields what became of each."""
    done = 0
    while done < cases:
        process = started(kind, seed, done, cases, folder)
        lines = queue.Queue()
        threading.Thread(target=_passed_on, args=(process.stdout, lines), daemon=True).start()
        try:
            if _next(lines, STARTING) != "ready\n":
                raise SystemExit(f"{kind} cannot be tried here: {_last_words(folder)}")
            while done < cases:
                line = _next(lines, patience)
                name = f"{seed}/{kind}/{done}"
                done += 1
                if not line:
                    outcome = "hang" if line is None else "death"
                    detail = _last_words(folder)
                    yield {"case": name, "outcome": outcome, "detail": detail, "seconds": patience}
                    break
                yield json.loads(line)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _next(lines, seconds):
    """A line, "" where the process has ended, None where it takes too long."""
    try:
        return lines.get(timeout=seconds)
    except queue.Empty:
        return None


def started(kind, seed, first, end, folder):
    command = [sys.executable, "-m", "facewright.benchmarks._hostile.child"]
    settings = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(folder)}
    return subprocess.Popen(
        [*command, kind, str(seed), str(first), str(end), str(folder)],
        env={**os.environ, **settings, "HOME": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
    )


def _passed_on(stream, lines):
    for line in stream:
        lines.put(line)
    lines.put("")


def _last_words(folder):
    log = Path(folder) / "said.log"
    return log.read_text(errors="replace")[-1500:] if log.exists() else ""


def counted(kind, outcomes):
    """A row of the table, and what is wrong."""
    told = Counter(o["outcome"] for o in outcomes)
    row = {
        "kind": kind,
        "cases": len(outcomes),
        "results": told["result"],
        "sentences": told["sentence"],
        "tracebacks": told["traceback"],
        "hangs": told["hang"],
        "deaths": told["death"],
        "wrong results": told["wrong"],
        "code run": sum(bool(o.get("code")) for o in outcomes),
        "files outside": sum(bool(o.get("outside")) for o in outcomes),
        "slowest s": round(max((o["seconds"] for o in outcomes), default=0), 2),
        "peak MiB": max((o.get("peak_mib", 0) for o in outcomes), default=0),
    }
    fine = ("result", "sentence")
    faults = [o for o in outcomes if o["outcome"] not in fine or o.get("code") or o.get("outside")]
    return row, faults


def report(rows):
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    total = {c: sum(r[c] for r in rows) for c in columns[1:-2]}
    total |= {c: max(r[c] for r in rows) for c in columns[-2:]} | {"kind": "all"}
    for row in [*rows, total]:
        lines.append(f"| {' | '.join(str(row[c]) for c in columns)} |")
    return "\n".join(lines)


def campaign(kinds, seed, share=1.0, *, most=None, jobs=1, say=print):
    """Rows and faults by kind.

    Args:
        share: of the cases that a whole campaign has.
        most: cases of a kind at the most.
        jobs: kinds that are tried at once.
    """

    def one(kind):
        cases = max(1, round(KINDS[kind][2] * share))
        folder = Path(tempfile.mkdtemp(prefix="facewright-hostile-"))
        try:
            row, bad = counted(kind, list(tried(kind, seed, min(cases, most or cases), folder)))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        say(f"{kind}: {row['cases']} cases, {len(bad)} faults")
        return row, bad

    with ThreadPoolExecutor(jobs) as team:
        done = list(team.map(one, kinds))
    return [row for row, _ in done], [fault for _, bad in done for fault in bad]


def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=CASES)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=list(KINDS), action="append")
    parser.add_argument("--jobs", type=int, default=1, help="kinds that are tried at once")
    parser.add_argument("--list", action="store_true", help="the kinds, and no more")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    if args.list:
        print("\n".join(KINDS))
        return
    start = time.monotonic()
    rows, faults = campaign(args.kind or KINDS, args.seed, args.cases / CASES, jobs=args.jobs)
    seconds = round(time.monotonic() - start)
    for fault in faults[:40]:
        print(json.dumps(fault, indent=1))
    print(report(rows))
    print(f"{seconds} s")
    if not args.kind and args.cases == CASES:
        args.out.mkdir(parents=True, exist_ok=True)
        path = args.out / "hostile_files.json"
        machine = {"system": platform.system(), "python": platform.python_version()}
        result = {"seed": args.seed, "seconds": seconds, "machine": machine, "rows": rows}
        path.write_text(json.dumps({**result, "faults": faults}, indent=1) + "\n")
        print(f"written: {path}")
    raise SystemExit(bool(faults))


if __name__ == "__main__":
    main()
