"""People one can rely on: every figure of experiments/people.md, before and after the remedies.

    python bootstrap.py bench people [--only guard,match] [--label after] [--out FOLDER]

On people that nothing else used (seeds from 88,000,000 on), on one thread. Parts: guard, receipts,
match, albums, tracks, cluster, scores; `--only` runs some and keeps the others' figures as they
stand in the result. The files run with release 0.1.0 as well (`--label before`; how is said in
experiments/people.md, as is what was expected). Writes benchmarks/results/people_LABEL.json and
prints the table of both labels.
"""

import argparse
import importlib
import json
import math
import time
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
PARTS = {
    "guard": ("_people_guard", "guarded"),
    "receipts": ("_people_guard", "receipts"),
    "match": ("_people_match", "strangers", "groups", "twins"),
    "albums": ("_people_albums", "albums"),
    "tracks": ("_people_tracks_bench", "tracks"),
    "cluster": ("_people_cluster_bench", "clusters"),
    "scores": ("_people_scores", "triples", "turned", "mirror_images"),
}
LABELS = ("before", "after")


def measure(part: str) -> list[dict]:
    module, *functions = PARTS[part]
    found = importlib.import_module(f"facewright.benchmarks.{module}")
    return [row for name in functions for row in getattr(found, name)()]


def in_words(row: dict | None) -> str:
    """Value and interval of a row."""
    if row is None or row["value"] is None:
        return "not there"
    factor, digits = (100, 1) if row["unit"] == "%" else (1, 3)
    ends = [row[name] for name in ("low", "high")]
    spread = ""
    if None not in ends:
        spread = f" [{', '.join(f'{factor * end:.{digits}f}' for end in ends)}]"
    return f"{factor * row['value']:.{digits}f}{' %' * bool(row['unit'])}{spread} ({row['count']})"


def table(results: dict[str, dict]) -> str:
    """Markdown: a line per figure, before and after."""
    lines = ["| figure | goal | before | after |", "|---|---|---|---|"]
    rows = {label: _by_figure(results.get(label)) for label in LABELS}
    order = dict.fromkeys(key for label in reversed(LABELS) for key in rows[label])
    for part, figure in sorted(order, key=lambda key: list(PARTS).index(key[0])):
        before, after = (rows[label].get((part, figure)) for label in LABELS)
        goal = (after or before or {}).get("goal") or ""
        lines.append(f"| {part}: {figure} | {goal} | {in_words(before)} | {in_words(after)} |")
    return "\n".join(lines)


def _by_figure(result: dict | None) -> dict[tuple[str, str], dict]:
    parts = (result or {}).get("parts", {})
    return {(p, row["figure"]): row for p, rows in parts.items() for row in rows if p in PARTS}


def _finite(row: dict) -> dict:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def read(out: Path, label: str) -> dict:
    path = out / f"people_{label}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--label", choices=LABELS, default="after")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    for part in filter(None, args.only.split(",")):
        if part not in PARTS:
            parser.error(f"there is no part {part!r}; known: {', '.join(PARTS)}")
        start = time.process_time()
        rows = [_finite(row) for row in measure(part)]
        seconds = time.process_time() - start
        result = read(args.out, args.label)
        result.setdefault("parts", {})[part] = rows
        result.setdefault("seconds", {})[part] = round(seconds, 1)
        path = args.out / f"people_{args.label}.json"
        path.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n")
        print(f"{part}: {seconds:.0f} s", flush=True)
    print(table({label: read(args.out, label) for label in LABELS}))


if __name__ == "__main__":
    main()
