"""How far a landmarker's points lie from the truth, and how far its scores move by themselves.

    python bootstrap.py bench landmark_certainty [--people 120]
    FACEWRIGHT_PHOTOS=FOLDER FACEWRIGHT_MEDIAPIPE=FOLDER python bootstrap.py bench \\
        landmark_certainty

With the two folders (photographs, and face_landmarker.task with what it needs) mediapipe is
measured, too: `moves` alone, as nobody knows the true landmarks of photographs, at 512 px.

Rendered people whose landmarks are known, at 128 px, turned to a side by 0 to 40 degrees, sharp and
damaged (mild, moderate, severe). In eye distances, by region and angle:

truth   A-LD of the found landmarks against the true ones, mean and spread over people
moves   A-LD between the landmarks found in the damaged and in the sharp picture, whose true ones
        are the same: root mean square over people and the three kinds of damage. A score below it
        says nothing, and two scores that differ by less cannot be ranked.
people  A-LD of another person in the same pose: as found, and true

`core/faces/certainty.py` holds the first two. Writes benchmarks/results/landmark_certainty.json.
"""

import argparse
import json
import math
import os
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from facewright.core.degradation import Degradation
from facewright.core.faces import load_analyzer
from facewright.core.faces.mediapipe import MediapipeAnalyzer
from facewright.core.geometry.align import align_faces
from facewright.core.geometry.eyes import estimate_yaw, eye_distance
from facewright.core.geometry.landmarks import (
    affine_landmark_distance,
    five_points,
    landmark_distance,
    region_points,
)
from facewright.core.images import read_picture
from facewright.training.world.faces3d import render
from facewright.training.world.identities import sample_identities
from facewright.training.world.nuisances import sample_nuisances

RESULTS = Path(__file__).parent / "results"
YAWS = (0, 10, 20, 30, 40)
DAMAGE = ("mild", "moderate", "severe")
SIZE = 128
FIRST = 51_000_000


def distances(a, b):
    """By score, in pixels, of landmarks (n, 68, 2) against (n, 68, 2)."""
    parts = {f"ald_{r}": region_points(68, r) for r in ("eyes", "mouth")}
    found = {name: affine_landmark_distance(a[:, k], b[:, k]) for name, k in parts.items()}
    return {**found, "ald_all": affine_landmark_distance(a, b), "l2": landmark_distance(a, b)}


def measure(analyzer, seeds, degrees):
    """Of one angle."""
    people, looks = sample_identities(seeds), sample_nuisances(seeds)
    looks = replace(looks, yaw=looks.yaw.sign() * math.radians(degrees))
    sharp = render(people, looks, SIZE, jitter=1.0)
    others = render(people.take([*range(1, len(seeds)), 0]), looks, SIZE, jitter=1.0)
    truth = sharp.landmarks.double()
    eyes = eye_distance(truth)

    def shares(a, b):
        return {name: px / eyes for name, px in distances(a, b).items()}

    found = analyzer.landmarks(sharp.pixels).double()
    damaged = {
        name: analyzer.landmarks(Degradation.preset(name)(sharp.pixels, seed=seeds)[0]).double()
        for name in DAMAGE
    }
    own = [shares(points, truth) for points in (found, *damaged.values())]
    moved = {name: shares(points, found) for name, points in damaged.items()}
    other = shares(analyzer.landmarks(others.pixels).double(), found)
    other_true = shares(others.landmarks.double(), truth)
    said = torch.tensor([estimate_yaw(points, 0.16) for points in five_points(found.float())])
    row = {
        "yaw": degrees,
        "eye_distance_px": float(eyes.mean()),
        "estimated_yaw": [float(said.mean()), float(said.std())],
    }
    for name in own[0]:
        every = torch.cat([part[name] for part in own])
        noise = torch.cat([part[name] for part in moved.values()])
        row[name] = {
            "truth": [float(every.mean()), float(every.std())],
            "truth_sharp": [float(own[0][name].mean()), float(own[0][name].std())],
            "moves": float(noise.square().mean().sqrt()),
            "moves_by_damage": {
                kind: float(part[name].square().mean().sqrt()) for kind, part in moved.items()
            },
            "people": [float(other[name].mean()), float(other_true[name].mean())],
        }
    return row


def of_photographs(folder, model):
    """`moves` of mediapipe over all faces of photographs."""
    analyzer = MediapipeAnalyzer(model)
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    pictures = [read_picture(path).pixels[:3].float() for path in paths]
    crops = torch.cat([align_faces([x], [analyzer.detect(x)], 512).pixels for x in pictures])
    sharp = analyzer.landmarks(crops).double()
    eyes, seeds = eye_distance(sharp), range(len(crops))
    squares = {}
    for name in DAMAGE:
        points = analyzer.landmarks(Degradation.preset(name)(crops, seed=seeds)[0]).double()
        for score, px in distances(points, sharp).items():
            squares.setdefault(score, {})[name] = float((px / eyes).square().mean())
    yaws = [estimate_yaw(points) for points in five_points(sharp.float())]
    return {
        "photographs": len(paths),
        "faces": len(crops),
        "median_estimated_yaw": statistics.median(yaws),
        **{
            score: {
                "moves": math.sqrt(statistics.mean(rows.values())),
                "moves_by_damage": {name: math.sqrt(value) for name, value in rows.items()},
            }
            for score, rows in squares.items()
        },
    }


def report(rows):
    lines = [f"{'':18}" + "".join(f"{row['yaw']:>7} deg" for row in rows)]
    lines += [f"{'estimated':18}" + "".join(f"{r['estimated_yaw'][0]:11.1f}" for r in rows)]
    for name in ("ald_eyes", "ald_mouth", "ald_all", "l2"):
        for what, of in (
            ("truth", lambda x: x["truth"][0]),
            ("  spread", lambda x: x["truth"][1]),
            ("moves", lambda x: x["moves"]),
            ("other, found", lambda x: x["people"][0]),
            ("other, true", lambda x: x["people"][1]),
        ):
            cells = "".join(f"{of(row[name]):11.4f}" for row in rows)
            lines.append(f"{name + ' ' + what:25}{cells}")
    return "\n".join(lines)


@torch.no_grad()
def main(argv=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    analyzer = load_analyzer("nano")
    rows = [measure(analyzer, range(FIRST, FIRST + args.people), yaw) for yaw in YAWS]
    folders = [os.environ.get(f"FACEWRIGHT_{name}") for name in ("PHOTOS", "MEDIAPIPE")]
    photographs = of_photographs(*map(Path, folders)) if all(folders) else None
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "landmark_certainty.json"
    content = {"landmarker": "nano", "size_px": SIZE, "people": args.people, "by_yaw": rows}
    content |= {"mediapipe": photographs} if photographs else {}
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(report(rows))
    print(f"mediapipe: {photographs or 'not measured, the two folders are not named'}")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
