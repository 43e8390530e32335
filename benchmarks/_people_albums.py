"""Albums with one photograph of somebody else who looks like the person."""

from facewright.benchmarks._people_world import (
    analyzer,
    mixed,
    people_of,
    recogniser,
    seeds,
    share,
)
from facewright.core.people.album import make_person
from facewright.training.world.faces3d import render
from facewright.training.world.nuisances import sample_nuisances

ALBUMS, PHOTOS = 40, 5
LIKENESS = (0.0, 0.25, 0.5, 0.75)
_SIDE = 192


def _shots(people, looks):
    return list(render(people, sample_nuisances(looks), _SIDE, aligned=False).pixels)


def albums() -> list[dict]:
    """How often the odd photograph is named by a warning, and how often one is that is not odd."""
    found = {likeness: [] for likeness in LIKENESS}
    false = []
    for i in range(ALBUMS):
        person, other = (people_of(seeds(5, 2, 10 * i)).take([k]) for k in (0, 1))
        own = _shots(person.take([0] * PHOTOS), seeds(5, PHOTOS, 20_000 + 20 * i))
        false.append(bool(_warned(own)))
        for k, likeness in enumerate(LIKENESS):
            odd = _shots(mixed(other, person, likeness), seeds(5, 1, 40_000 + 20 * i + k))
            found[likeness].append(any("odd.png" in line for line in _warned([*own, *odd])))
    return [
        *(
            share(f"photo of somebody with {100 * likeness:.0f} % of the person's looks found",
                  hits, goal="as a stranger" if likeness == 0.25 else "")
            for likeness, hits in found.items()
        ),
        share("albums of one person alone with a warning", false, goal="5 % at most"),
    ]  # fmt: skip


def _warned(photos):
    names = [f"{k}.png" for k in range(PHOTOS)] + ["odd.png"]
    _, report = make_person(
        photos,
        name="Ada",
        sources=names[: len(photos)],
        analyzer=analyzer(),
        recogniser=recogniser(),
        crop_size=128,
    )
    return [line for line in report if line.startswith("warning")]
