"""The guard with references, and what its receipts tell of: pictures as they are delivered.

Nothing of a receipt enters the judgement: the delivered picture is cut out again at the face and
compared with the picture before and with the full restoration of the same options.
"""

from dataclasses import replace

import torch
from facewright.benchmarks._people_world import (
    DAMAGE,
    SIZE,
    albums_of,
    damaged,
    embedded,
    mean_by,
    people_of,
    seeds,
    share,
    share_by,
)
from facewright.core.geometry.align import align_faces
from facewright.headless import RestoreOptions, load_restorer
from facewright.training.world.faces3d import render
from facewright.training.world.nuisances import sample_nuisances

PEOPLE, MEASURED = 40, 24
LIMITS = (0.05, 0.15)
ACTIONS = ("lower strength", "fall back")
VARIANTS = (
    {},
    {"color": "lab"},
    {"strength": 0.7},
    {"mask": "oval"},
    {"feather": 0.3},
    {"color": "wavelet", "strength": 0.85},
)
SETTINGS = (
    {"strength": 0.0},
    {"strength": 0.3},
    {"strength": 0.7},
    {"color": "adain"},
    {"color": "wavelet"},
    {"color": "lab"},
    {"feather": 0.4},
    {"mask": "oval"},
)
EQUAL = 1e-4
"""Of drift: closer ones are one."""
_PICTURE = 200


class Remembering:
    """A method that restores the same crops once."""

    def __init__(self, method):
        self._method, self._known = method, {}

    def __getattr__(self, name):
        return getattr(self._method, name)

    def restore(self, lq, people, **how):
        key = (lq.numpy().tobytes(), tuple(id(person) for person in people))
        if key not in self._known:
            self._known = {key: self._method.restore(lq, people, **how)}
        return self._known[key].clone()


def _portraits(numbers, shift):
    looks = sample_nuisances([number + shift for number in numbers])
    return render(people_of(numbers), looks, _PICTURE, aligned=False).pixels


def _cut(restorer, picture, options):
    """Of the one face of a picture: how to cut it out of any other like it. None without one."""
    found = restorer.find(picture, options)
    if len(found) != 1:
        return None
    return lambda other: align_faces([other], [found], SIZE).pixels


def guarded() -> list[dict]:
    """Deliveries with an album, held back or not."""
    restorer = load_restorer("nano-honestface", measured=True)
    restorer = replace(restorer, method=Remembering(restorer.method))
    numbers = seeds(0, PEOPLE)
    photos = [number + 40_000 + k for number in numbers for k in (0, 10_000, 20_000, 30_000)]
    albums = albums_of(people_of(numbers), [f"p{n}" for n in numbers], photos)
    both, farther, lost, fell_farther, fallen, held, who, who_fell = [], [], [], [], 0, 0, [], []
    turn = 0
    for k, kind in enumerate(DAMAGE):
        pictures = damaged(_portraits(numbers, 90_000 + 1000 * k), kind, numbers)
        for number, album, picture in zip(numbers, albums, pictures, strict=True):
            variant = VARIANTS[turn % len(VARIANTS)]
            turn += 1
            plain = RestoreOptions(person=album, **variant)
            cut = _cut(restorer, picture, plain)
            if cut is None:
                continue

            def drift(other, cut=cut, album=album):
                return 1 - float(embedded(cut(other))[0] @ album.template.double())

            before, full = drift(picture), drift(restorer.restore(picture, plain).pixels)
            for limit in LIMITS:
                for action in ACTIONS:
                    options = replace(plain, max_drift=limit, on_drift=action)
                    done = restorer.restore(picture, options)
                    after, receipt = drift(done.pixels), done.guard.receipts[0]
                    who.append(number)
                    both.append(after > max(before, full) + EQUAL)
                    back = receipt.verdict not in ("kept", "too far")
                    held += back
                    farther.append(back and after > full + EQUAL)
                    if receipt.verdict == "fell back":
                        fallen += 1
                        who_fell.append(number)
                        fell_farther.append(after > full + EQUAL)
                        lost.append(after - full)
    faces = f"{len(both)} deliveries, {held} held back, {fallen} to the input"
    return [
        share_by("farther than both the input and full strength", both, who, goal="0", of=faces),
        share_by("held back, and farther than full strength", farther, who, goal="0", of=faces),
        share_by("of those that fell back to the input: farther than full strength", fell_farther,
                 who_fell, goal="0", of=faces),
        mean_by("drift lost by falling back to the input", lost, who_fell, of=faces),
    ]  # fmt: skip


_NUMBERS = ("drift", "cosine", "a_ld", "color_difference", "seam", "sharpness")


def receipts() -> list[dict]:
    """Whether receipts measure what was delivered."""
    restorer = load_restorer("nano", measured=True)
    restorer = replace(restorer, method=Remembering(restorer.method))
    numbers = seeds(1, MEASURED)
    pictures = damaged(_portraits(numbers, 50_000), "moderate", numbers)
    same, wrong, nothing, who = [], [], [], []
    for number, picture in zip(numbers, pictures, strict=True):
        plain = RestoreOptions(receipts=True)
        cut = _cut(restorer, picture, plain)
        if cut is None:
            continue
        own = embedded(cut(picture))[0]
        usual = restorer.restore(picture, plain)
        known = usual.guard.entries[0]
        for setting in SETTINGS:
            done = restorer.restore(picture, replace(plain, **setting))
            entry = done.guard.entries[0]
            changed = not torch.equal(done.pixels, usual.pixels)
            same.append(changed and all(entry[name] == known[name] for name in _NUMBERS))
            drift = 1 - float(embedded(cut(done.pixels))[0] @ own)
            wrong.append(abs(entry["drift"] - drift))
            who.append(number)
            if setting == {"strength": 0.0}:
                nothing.append(entry["color_difference"] > 1)
    return [
        share_by("another delivery, the same receipt", same, who, goal="0",
                 of=f"{len(SETTINGS)} settings"),
        share("nothing changed (strength 0), and the receipt says a color difference above 1",
              nothing, goal="0"),
        mean_by("drift of the receipt less that of the delivered face, absolute", wrong, who,
                goal="below 0.001"),
    ]  # fmt: skip
