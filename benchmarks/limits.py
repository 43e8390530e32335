"""What cosines of the bundled recogniser mean, and what a guard limited so holds back.

    python bootstrap.py bench limits                 480 people of 8 photos: about 20 CPU minutes
    python bootstrap.py bench limits --people 80     fewer

Expected: cosine 0.65 is reached by 1 to 2 % of strangers; a guard at 1 % holds back every
restoration of another person and at most 2 % of the right ones. The table of
`core.people.limits` is what it found. Rendered people that no training and no other benchmark saw.
"""

import argparse
import json
from pathlib import Path

import torch
import torch.nn.functional as F
from facewright.core.degradation import Degradation
from facewright.core.faces import load_analyzer
from facewright.core.geometry.align import align_faces
from facewright.core.people.calibration import calibrate
from facewright.core.people.limits import percent
from facewright.core.people.person import Person
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless.make.restore import load_restorer
from facewright.training.world.faces3d import photos

RESULTS = Path(__file__).parent / "results/limits.json"
FIRST = 2**41 + 2**24
PHOTOS, ALBUM = 8, 4
DAMAGE = ("moderate", "severe")
GUARDED = 96
"""Faces that are restored."""
RATES = (0.05, 0.016, 0.01, 0.001)


def crops_of(person, analyzer):
    """(PHOTOS, 3, 128, 128): portraits in which the detector found the face."""
    seeds = [2 * FIRST + person * PHOTOS + k for k in range(PHOTOS)]
    pictures = photos(FIRST + person, seeds, 256, aligned=False).pixels
    faces = [analyzer.detect(picture)[:1] for picture in pictures]
    crops = align_faces(list(pictures), faces, 128).pixels
    return (crops * 255 + 0.5).clamp(0, 255).byte().float() / 255


def embed(recogniser, crops):
    return torch.cat([recogniser(part) for part in crops.split(16)])


def album(person, crops, embeddings, recogniser, landmarks=None):
    n = len(crops)
    return Person(
        name=f"p{person}",
        crops=crops,
        embeddings=embeddings,
        landmarks=torch.zeros(n, 68, 2) if landmarks is None else landmarks,
        quality=torch.ones(n),
        recogniser=recogniser.id,
        sources=("photo",) * n,
    )


def damaged(crops, preset):
    """Each crop (p, k, 3, s, s) with a seed of its own."""
    p, k = crops.shape[:2]
    seeds = [person * PHOTOS + photo for person in range(p) for photo in range(k)]
    return Degradation.preset(preset)(crops.flatten(0, 1), seed=seeds)[0].unflatten(0, (p, k))


def by_damage(crops, templates, recogniser, limits):
    """Share of strangers above and of the right people below each cosine, by damage."""
    own = torch.eye(len(templates), dtype=torch.bool)
    found = {}
    for preset in ("none", *DAMAGE):
        faces = crops if preset == "none" else damaged(crops, preset)
        embeddings = embed(recogniser, faces[:, ALBUM:].flatten(0, 1)).double()
        cosines = (embeddings @ templates.T).unflatten(0, (len(templates), -1)).transpose(0, 1)
        rates = {0.65: "default", **{limits.cosine_at(r): percent(r) for r in RATES}}
        found[preset] = {
            name: {
                "cosine": round(cosine, 4),
                "strangers": float((cosines[:, ~own] >= cosine).double().mean()),
                "missed": float((cosines[:, own] < cosine).double().mean()),
            }
            for cosine, name in rates.items()
        }
    return found


def guarded(crops, recogniser, limits):
    """Share of restorations held back, by what they are restorations of and who is the anchor."""
    method = load_restorer("nano-honestface").method
    albums = [
        album(i, own[:ALBUM], embed(recogniser, own[:ALBUM]), recogniser,
              method.landmarker.landmarks(own[:ALBUM]).float())
        for i, own in enumerate(crops)
    ]  # fmt: skip
    templates = torch.stack([person.template for person in albums]).double()
    wrong = [*albums[1:], albums[0]]
    found = {}
    for preset in DAMAGE:
        lq = damaged(crops[:, ALBUM + 1 : ALBUM + 2], preset)[:, 0]
        ruined = F.interpolate(F.interpolate(lq, (8, 8), mode="area"), (128, 128), mode="bicubic")
        restored = {
            "right album": (lq, albums),
            "no album": (lq, [None] * len(lq)),
            "wrong album": (lq, wrong),
            "from 8 x 8 pixels": (ruined.clamp(0, 1), [None] * len(lq)),
        }
        restored = {
            name: method.restore(x, people, options=None, generator=None, chunk_size=4)
            for name, (x, people) in restored.items()
        }
        restored["another person's"] = restored["right album"].roll(1, 0)
        anchors = {"album": templates, "input": embed(recogniser, lq).double()}
        found[preset] = {
            f"{name}, against the {anchor}": {
                str(limit): float((1 - (embed(recogniser, x).double() * to).sum(1) > drift)
                                  .double().mean())
                for limit, drift in {"0.5": 0.5}.items()
                | {percent(r): 1 - limits.cosine_at(r) for r in RATES}.items()
            }
            for name, x in restored.items()
            for anchor, to in anchors.items()
        }  # fmt: skip
    return found


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--people", type=int, default=480)
    count = parser.parse_args().people
    recogniser, analyzer = nano_recogniser(nano.load_identity("loss")), load_analyzer("nano")
    crops = torch.stack([crops_of(i, analyzer) for i in range(count)])
    people = [album(i, own, embed(recogniser, own), recogniser) for i, own in enumerate(crops)]
    found = calibrate(people)
    templates = torch.stack([F.normalize(p.embeddings[:ALBUM].double().mean(0), dim=0)
                             for p in people])  # fmt: skip
    result = {
        "calibration": found.facts(),
        "by damage": by_damage(crops, templates, recogniser, found.limits),
        "guard": guarded(crops[-GUARDED:], recogniser, found.limits),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(found.report))
    print(json.dumps({k: result[k] for k in ("by damage", "guard")}, indent=1))


if __name__ == "__main__":
    main()
