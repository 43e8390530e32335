"""Videos of people who move, turn, cross and change places: whose albums their faces get."""

import math

import torch
from facewright.benchmarks._people_tracks import interval, outcome
from facewright.benchmarks._people_world import analyzer, recogniser

SEED = 8800
"""Of the videos; nothing else draws it."""
IN_GRAPHS = ("sharpness", "another", "cross")
"""Kinds that are decided as a graph of Detect Faces, Smooth Faces and Match People does."""
IN_VIDEO = ("another",)
"""And as Restore Video does."""


def tracks() -> list[dict]:
    """Two ways to decide, in one table."""
    runs = [(kind, False) for kind in IN_GRAPHS] + [(kind, True) for kind in IN_VIDEO]
    with torch.no_grad():
        found = {
            (kind, video): outcome(
                kind, SEED, video=video, recogniser=recogniser(), analyzer=analyzer()
            )
            for kind, video in runs
        }
    rows = []
    for video, where in ((False, "in graphs"), (True, "as Restore Video")):
        mine = [one for (_, by), one in found.items() if by == video]
        faces = [one.faces for one in mine]
        for name, goal in (("nobody", "2 % at most"), ("wrong", "0")):
            figure = f"{where}: known faces with no album"
            if name == "wrong":
                figure = f"{where}: faces with somebody else's album"
            rows.append(_row(figure, [getattr(one, name) for one in mine], faces, goal))
        changes = [one.changes for one in mine]
        rows.append(_row(f"{where}: name changes within tracks, per face", changes, faces, "0"))
        missed = [one.missed for one in mine]
        rows.append(
            _row(f"{where}: another person in the same track, per face", missed, faces, "0")
        )
    return rows


def _row(figure, counts, of, goal):
    value, low, high = interval(counts, of)
    if len(counts) < 2:  # one video tells nothing of others
        low = high = math.nan
    return {
        "figure": figure, "value": value, "low": low, "high": high, "goal": goal, "unit": "%",
        "count": f"{sum(counts)} of {sum(of)}", "of": f"{len(counts)} videos",
    }  # fmt: skip
