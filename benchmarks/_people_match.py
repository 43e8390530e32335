"""Strangers, groups and twins: whose album a face gets, and who is told where that is unsure."""

import torch
from facewright.benchmarks._people_world import (
    DAMAGE,
    albums_of,
    crops_of,
    damaged,
    embedded,
    mixed,
    people_of,
    recogniser,
    seeds,
    share,
    share_by,
)
from facewright.core.people.matching import match_people

ALBUMS, STRANGERS = 150, 300
PICTURES, KNOWN, OFFERED = 240, 3, 8
TWINS, SHARES = 60, (0.1, 0.2, 0.3)
GUARD = 0.5
"""Cosine that Identity Guard passes by default."""


def _limits():
    """Those that ship; None before there were any."""
    try:
        from facewright.core.people.limits import limits_of
    except ImportError:
        return None
    return limits_of(recogniser().id)


def strangers() -> list[dict]:
    """Faces of people against albums of others."""
    owners = people_of(seeds(2, ALBUMS))
    albums = albums_of(owners, [str(i) for i in range(ALBUMS)], seeds(2, 4 * ALBUMS, 10_000))
    others = seeds(2, STRANGERS, 50_000)
    crops = crops_of(people_of(others), others)
    for k, kind in enumerate(DAMAGE[1:]):
        part = slice(STRANGERS // 2 + k * STRANGERS // 6, STRANGERS // 2 + (k + 1) * STRANGERS // 6)
        crops[part] = damaged(crops[part], kind, others[part])
    templates = torch.stack([album.template for album in albums]).double()
    cosines = embedded(crops) @ templates.T
    who = torch.arange(STRANGERS)[:, None].expand_as(cosines).flatten().tolist()

    def reach(figure, cosine, goal=""):
        hits = (cosines >= cosine).flatten().tolist()
        return share_by(figure, hits, who, goal=goal, of=f"cosine {cosine:.3f}")

    rows = [reach("pairs of strangers that reach what the guard lets pass by default", GUARD)]
    limits = _limits()
    for rate, low, high in ((0.001, 0.0003, 0.003), (0.01, 0.005, 0.02)) if limits else ():
        figure = f"pairs of strangers that reach the limit shipped for {100 * rate:g} %"
        goal = f"{100 * low:g} to {100 * high:g} %"
        rows.append(reach(figure, limits.cosine_at(rate), goal))
    return rows


def groups() -> list[dict]:
    """Pictures of three known people and a stranger, eight albums offered."""
    pool = 80
    owners = people_of(seeds(3, pool))
    albums = albums_of(owners, [f"p{i:02}" for i in range(pool)], seeds(3, 4 * pool, 10_000))
    rng = torch.Generator().manual_seed(3)
    wrong, lost, unsure, named, who, new = [], [], [], [], [], []
    for picture in range(PICTURES):
        kind = DAMAGE[picture % len(DAMAGE)]
        offered = torch.randperm(pool, generator=rng)[:OFFERED].tolist()
        shown = offered[:KNOWN]
        looks = seeds(3, KNOWN + 1, 30_000 + 8 * picture)
        crops = torch.cat(
            [
                crops_of(owners.take(shown), looks[:KNOWN]),
                crops_of(people_of([looks[KNOWN] + 30_000]), looks[KNOWN:]),
            ]
        )
        faces = embedded(damaged(crops, kind, looks)).float()
        matches = match_people(
            faces, torch.zeros(len(faces), dtype=torch.long), [albums[i] for i in offered], 0.0,
            recogniser=recogniser().id,
        )  # fmt: skip
        doubt = getattr(matches, "unsure", ()) or [()] * len(faces)
        for k in range(KNOWN):
            who.append(shown[k])
            wrong.append(matches.assigned[k] not in (k, None))
            lost.append(matches.assigned[k] is None)
            unsure.append(bool(doubt[k]))
        new.append(picture)
        named.append(matches.assigned[KNOWN] is not None)
    return [
        share_by("known people with somebody else's album", wrong, who, goal="0"),
        share_by("known people without an album, the unsure included", lost, who,
                 goal="2 points more at most"),
        share_by("known people said to be unsure", unsure, who),
        share("strangers with an album", named),
    ]  # fmt: skip


def twins() -> list[dict]:
    """Albums of people who are nearly one."""
    swapped, silent, told, who, near_silent, near = [], [], [], [], [], []
    for pair in range(TWINS):
        mix = SHARES[pair % len(SHARES)]
        first, other = (
            people_of(seeds(4, 2, 10 * pair)).take([0]),
            people_of(seeds(4, 2, 10 * pair)).take([1]),
        )
        both = [first, mixed(first, other, mix)]
        start = 20_000 + 20 * pair
        albums = [
            albums_of(person, [name], seeds(4, 4, start + 4 * i))[0]
            for i, (person, name) in enumerate(zip(both, ("Ada", "Bo"), strict=True))
        ]
        close = float(albums[0].template @ albums[1].template)
        kind = DAMAGE[pair % len(DAMAGE)]
        for shown in ((0, 1), (0,), (1,)):
            looks = seeds(4, len(shown), start + 8 + 2 * sum(shown) + len(shown))
            crops = torch.cat(
                [crops_of(both[i], [look]) for i, look in zip(shown, looks, strict=True)]
            )
            faces = embedded(damaged(crops, kind, looks)).float()
            matches = match_people(
                faces, torch.zeros(len(faces), dtype=torch.long), albums, 0.0,
                recogniser=recogniser().id,
            )  # fmt: skip
            warned = any("nearly one person" in line for line in getattr(matches, "warnings", ()))
            for face, right in enumerate(shown):
                is_wrong = matches.assigned[face] == 1 - right
                swapped.append(is_wrong)
                silent.append(is_wrong and not warned)
                told.append(bool(getattr(matches, "unsure", ()) and matches.unsure[face]))
                who.append(pair)
                if close >= 0.96:
                    near_silent.append(is_wrong and not warned)
                    near.append(pair)
    return [
        share_by("twins' faces with the other's album, and nothing is said", silent, who, goal="0"),
        share_by("the same where the albums' cosine is 0.96 or more", near_silent, near, goal="0"),
        share_by("twins' faces with the other's album, said or not", swapped, who),
        share_by("twins' faces said to be unsure", told, who),
    ]
