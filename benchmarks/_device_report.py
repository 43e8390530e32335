"""The device benchmark's result for people: a line for each row, and where goals are met."""

import math
from collections.abc import Callable

from ._device_run import Row

GOALS = (
    ("one face, ms", 15.0, "faces", ("float16, batch 1", "bfloat16, batch 1"), "ms"),
    ("a face of 16, ms", 8.0, "faces", ("float16, batch 16", "bfloat16, batch 16"), "ms_per_face"),
    ("memory of one face in float16, MB", 3.2 * 1024, "faces", ("float16, batch 1",), "peak_mb"),
)
"""What is aimed at on an H200: name, at most, part, rows of which the best counts, key."""


def told(part: str, row: Row) -> str:
    """A row in a line."""
    name = row["name"]
    if "left_out" in row:
        return f"{name}: left out {row['left_out']}"
    if "failed" in row:
        where = f" ({row['where']})" if row.get("where") else ""
        return f"{name}: FAILED, {row['failed']}: {row.get('why', '')}{where}"
    return f"{name}: {'; '.join(filter(None, (say(row) for say in SAYINGS)))}"


def _machine(row: Row) -> str:
    if "versions" not in row:
        return ""
    versions = ", ".join(f"{k} {v}" for k, v in row["versions"].items() if v)
    driver = f", driver {row['driver']}" if row.get("driver") else ""
    return f"{row['device']}{driver}, {versions}"


def _rates(row: Row) -> str:
    if "gb_per_s" in row:
        return ", ".join(f"{k} {v:.1f} GB/s" for k, v in row["gb_per_s"].items())
    return f"{row['tflops']:.3g} TFLOP/s" if "tflops" in row else ""


def _time(row: Row) -> str:
    if "s_per_step" in row:
        return f"{row['s_per_step']:.3f} s a step, {row['samples_per_s']:.3g} samples/s"
    if "ms" not in row:
        return f"{row['seconds']:.1f} s" if "seconds" in row else ""
    face = f", {row['ms_per_face']:.2f} a face" if row.get("batch", 1) > 1 else ""
    step = f", {row['ms_per_step']:.2f} a step" if "ms_per_step" in row else ""
    parts = ", ".join(f"{k} {v['ms']:.2f}" for k, v in row.get("parts", {}).items())
    built = f", built in {row['built_s']:.0f} s" if "built_s" in row else ""
    return f"{row['ms']:.2f} ms{face}{step}{f' ({parts})' if parts else ''}{built}"


def _memory(row: Row) -> str:
    return f"{row['peak_mb']} MB" if row.get("peak_mb") is not None else ""


def _agreement(row: Row) -> str:
    if "agreement" not in row:
        return ""
    cells = []
    for part, found in row["agreement"].items():
        db = found.get("psnr_db", math.nan) if found["finite"] else math.nan
        shown = "NaN" if not found["finite"] else "equal" if db is None else f"{db:.1f} dB"
        cells.append(f"{part} {shown}")
    same = f", tokens equal {row['tokens_equal']:.1%}" if "tokens_equal" in row else ""
    return ", ".join(cells) + same


def _traffic(row: Row) -> str:
    t = row.get("traffic", {})
    if "to_device_bytes" not in t:
        return ""
    way = "{0} {1} copies of {2:.2f} MB"
    ways = (
        way.format(k.replace("_", " "), t[f"{k}_copies"], t[f"{k}_bytes"] / 2**20)
        for k in ("to_device", "to_host")
    )
    waits = row.get("waits", {}).get("waits")
    return f"{', '.join(ways)}, {t['numbers_read']} numbers read" + (
        "" if waits is None else f", {waits} waits"
    )


def _difference(row: Row) -> str:
    if "first_step_difference" not in row:
        return ""
    return (
        f"differs from plain by {row['first_step_difference']:.0e} in the first step, "
        f"{row['largest_difference']:.0e} in all"
    )


def _formats(row: Row) -> str:
    """Said where not all are in one, as after an overflow of float16."""
    held = row.get("formats", {})
    if len(set(held.values())) < 2:
        return ""
    return "held in " + ", ".join(f"{k} {v}" for k, v in held.items())


def _operations(row: Row) -> str:
    return f"{row['macs_g_whole']:.4g} G multiply-accumulates" if "macs_g_whole" in row else ""


SAYINGS: tuple[Callable[[Row], str], ...] = (
    _machine, _rates, _time, _memory, _agreement, _difference, _traffic, _operations, _formats,
)  # fmt: skip


def rows_of(result: dict, part: str) -> dict[str, Row]:
    """Rows of a part that hold figures, by name."""
    rows = result["parts"].get(part, {}).get("rows", [])
    return {r["name"]: r for r in rows if "failed" not in r and "left_out" not in r}


def ratios(result: dict) -> list[str]:
    """Ours against the plain flow and loops, each in the same run."""
    lines = []
    faces = rows_of(result, "faces")
    for name, row in faces.items():
        plain = faces.get(f"plain, {name}")
        if plain:
            lines.append(f"{name}: {row['ms'] / plain['ms']:.2f} of the plain flow's time")
    if (best := faces.get("float16, batch 1")) and (plain := faces.get("plain, float32, batch 1")):
        ratio = best["ms"] / plain["ms"]
        lines.append(f"float16, batch 1: {ratio:.2f} of the plain flow's time in float32")
    sampling = rows_of(result, "sampling")
    for name, row in sampling.items():
        way, _, dtype = name.partition(", ")
        stock = sampling.get(f"stock, {dtype}")
        if stock and way != "stock":
            lines.append(f"{name}: {row['ms'] / stock['ms']:.2f} of the model's alone")
    for part in ("onestep", "flipnet"):
        found = rows_of(result, part)
        for arm, row in found.items():
            if arm != "plain" and "plain" in found and "s_per_step" in row:
                plain = found["plain"]
                speed = plain["s_per_step"] / row["s_per_step"]
                text = f"{part}, {arm}: {speed:.2f} times the plain loop's samples a second"
                if "held_mb" in row and "held_mb" in plain:  # a GPU's, not a process's growth
                    text += f", {row['peak_mb'] / plain['peak_mb']:.2f} of its memory"
                lines.append(text)
    return lines


def distances(result: dict) -> list[str]:
    """Share of the convolution peak of the same run that each part of a face reaches."""
    faces, peaks = rows_of(result, "faces"), rows_of(result, "machine")
    counted = faces.get("operations")
    if counted is None:
        return []
    lines = []
    for name, row in faces.items():
        kind = name.partition(",")[0]
        peak = peaks.get(f"convolutions, {kind}")
        if peak is None or "parts" not in row:
            continue
        # The embedder computes in float32, whatever the rest does: torch's default, TF32.
        slower = peaks.get("convolutions, float32 as TF32", peak)
        shares = []
        for part, time in row["parts"].items():
            rate = 2 * counted["macs_g"][part] * row["batch"] / time["ms"]  # G a ms are T a s
            top = (slower if part == "embed" else peak)["tflops"]
            shares.append(f"{part} {rate:.3g} TFLOP/s ({rate / top:.0%})")
        lines.append(f"{name}: {', '.join(shares)}")
    return lines


def goals(result: dict) -> list[str]:
    """What was aimed at on an H200, and the best of the rows that count."""
    lines = []
    for name, most, part, names, key in GOALS:
        rows = rows_of(result, part)
        found = [rows[n][key] for n in names if n in rows and rows[n].get(key) is not None]
        if found:
            verdict = "met" if min(found) <= most else "MISSED"
            lines.append(f"{name}: {min(found):.4g}, at most {most:.4g}: {verdict}")
        else:
            lines.append(f"{name}: not measured (at most {most:.4g})")
    return lines


def report(result: dict) -> str:
    """Every row, then ratios, distances to the peaks and goals."""
    lines = []
    for part, found in result["parts"].items():
        lines.append(f"\n{part} ({found['seconds']:.0f} s)")
        lines += [f"  {told(part, row)}" for row in found["rows"]]
    sections = {
        "ratios": ratios(result),
        "of this run's convolution peak": distances(result),
        "goals for an H200": [] if result["tiny"] else goals(result),
    }
    for title, shown in sections.items():
        if shown:
            lines += [f"\n{title}", *(f"  {line}" for line in shown)]
    lines.append(f"\n{result.get('seconds', 0):.0f} s in all")
    return "\n".join(lines)
