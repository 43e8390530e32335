"""A folder of rendered strangers, grouped into people, and how well; part of the people benchmark.

Alone: `python -m facewright.benchmarks._people_cluster [--seeds 400 401 ...]`.

A world has 40 people with 1 to 12 portraits each and 20 group pictures of 2 to 5, half of it sharp,
the rest damaged (mild, moderate, severe). Persons 0 and 1 look alike: every parameter of the second
lies four fifths of the way to the first. Seeds below 400 were seen while building.
"""

import argparse
import json

import numpy as np
import torch
from facewright.core.degradation import Degradation
from facewright.core.faces import detect_faces, load_analyzer
from facewright.core.geometry.align import align_faces
from facewright.core.metrics.statistics import mean_interval
from facewright.core.people.clusters import cluster_faces
from facewright.core.people.person import to_bytes
from facewright.core.people.recogniser import nano_recogniser
from facewright.core.weights import nano
from facewright.headless.make.people_cluster import limits_for
from facewright.training.world.faces3d import render
from facewright.training.world.identities import Identities, sample_identities
from facewright.training.world.nuisances import sample_nuisances
from facewright.training.world.scenes import group_scene

SEEDS = tuple(range(400, 406))
PEOPLE = 40
_MOST = 12
_GROUPS = 20
_ALIKE = 0.8
_FIRST = 700_000
"""Seed of the first person of the first world; no training and no other benchmark draws them."""
_DAMAGE = ("", "", "", "mild", "moderate", "severe")


def world(seed):
    """(picture (3, h, w), who is in it from left to right) of every photograph; people are numbers.

    Persons 0 and 1, who look alike, are on portraits only.
    """
    rng = torch.Generator().manual_seed(seed)

    def below(n):
        return int(torch.randint(n, (), generator=rng))

    seeds = [_FIRST + seed * PEOPLE + i for i in range(PEOPLE)]
    people = _with_look_alike(sample_identities(seeds))
    for _ in range(_GROUPS):
        who = (2 + torch.randperm(PEOPLE - 2, generator=rng)[: 2 + below(4)]).tolist()
        shot = below(2**31)
        pixels = group_scene(shot, [seeds[i] for i in who]).pixels
        yield _damaged(pixels, _DAMAGE[below(len(_DAMAGE))], shot), who
    for person in range(PEOPLE):
        # Few people are on many photographs.
        for _ in range(max(1, round(_MOST ** (below(1000) / 999)))):
            shot = below(2**31)
            photo = sample_nuisances([shot])
            pixels = render(people.take([person]), photo, 256, aligned=False).pixels[0]
            yield _damaged(pixels, _DAMAGE[below(len(_DAMAGE))], shot), [person]


def _with_look_alike(people):
    mixed = {
        name: torch.cat([value[:1], value[1:2] * (1 - _ALIKE) + value[:1] * _ALIKE, value[2:]])
        if value.is_floating_point()
        else value
        for name, value in vars(people).items()
    }
    return Identities(**mixed)


def _damaged(pixels, preset, seed):
    if not preset:
        return pixels
    return Degradation.preset(preset)(pixels[None], seed=seed)[0][0]


def faces_of(seed, analyzer, recogniser):
    """Photo, person (n,), embeddings (n, d) of the faces of a world, and how many were not found.

    A photo on which another number of faces is found than there are is left out.
    """
    photos, who, embeddings, lost = [], [], [], 0
    for number, (pixels, people) in enumerate(world(seed)):
        found = detect_faces(analyzer, pixels) or detect_faces(analyzer, pixels, padding=0.3)
        if len(found) != len(people):
            lost += len(people)
            continue
        found.sort(key=lambda face: face.center)
        crops = to_bytes(align_faces([pixels], [found], 128).pixels).float() / 255
        embeddings.append(recogniser(crops).double())
        photos += [number] * len(people)
        who += people
    return np.array(photos), np.array(who), torch.cat(embeddings).numpy(), lost


def scores(group, who):
    """Figures of groups (n,), -1 for unsure, against the people (n,).

    Purity and precision are of the faces that have a group; for recall an unsure face is alone.
    `placed`: the share of all faces that are in the largest group of their person.
    """
    group, who = np.asarray(group), np.asarray(who)
    sure, alone = group >= 0, group.copy()
    alone[~sure] = group.max(initial=-1) + 1 + np.arange((~sure).sum())
    together, same = alone[:, None] == alone, who[:, None] == who
    both = (together & same).sum(1)
    pairs = np.triu(together & same, 1).sum()
    majority = [np.bincount(who[group == g]).max() for g in set(group[sure].tolist())]
    largest = [np.unique(alone[(who == w) & sure], return_counts=True)[1] for w in set(who)]
    return {
        "purity": sum(majority) / max(1, sure.sum()),
        "placed": sum(counts.max() for counts in largest if len(counts)) / len(who),
        "pair precision": pairs / max(1, np.triu(together, 1).sum()),
        "pair recall": pairs / max(1, np.triu(same, 1).sum()),
        "B-cubed precision": float((both / together.sum(1))[sure].mean()),
        "B-cubed recall": float((both / same.sum(1)).mean()),
        "unsure": float((~sure).mean()),
    }


def ways(photos, embeddings, recogniser):
    """Groups (n,) by the name of the way: ours, at once and in two runs, and scikit-learn's."""
    from sklearn.cluster import DBSCAN, HDBSCAN

    limits, of = limits_for(recogniser), {"recogniser": recogniser.id}
    ours = cluster_faces(embeddings, photos, limits, **of).group
    first = photos % 2 == 0
    known = np.full(len(photos), -1)
    known[first] = cluster_faces(embeddings[first], photos[first], limits, **of).group
    distance = np.clip(1 - embeddings @ embeddings.T, 0, 2)
    distance[photos[:, None] == photos] = 2.0
    np.fill_diagonal(distance, 0)
    eps = 1 - limits.same_person
    return {
        "person cluster": ours,
        "in two runs": cluster_faces(embeddings, photos, limits, known=known, **of).group,
        "DBSCAN": DBSCAN(eps=eps, min_samples=1, metric="precomputed").fit_predict(distance),
        "HDBSCAN": HDBSCAN(min_cluster_size=2, min_samples=1, metric="precomputed", copy=True)
        .fit_predict(distance),
    }  # fmt: skip


@torch.no_grad()
def figures(seeds=SEEDS):
    """By way and measure the mean over worlds with its interval; faces that were not found, and how
    many look-alikes share a group silently.

    Returns:
        {"ways": {way: {measure: Mean}}, "without look-alikes": the same of "person cluster",
        "faces": n, "not found": n, "look-alikes together": n, "look-alikes": worlds}
    """
    analyzer, recogniser = load_analyzer("nano"), nano_recogniser(nano.load_identity("loss"))
    rows, plain, faces, missing, mixed = {}, [], 0, 0, 0
    for seed in seeds:
        photos, who, embeddings, lost = faces_of(seed, analyzer, recogniser)
        faces, missing = faces + len(who), missing + lost
        found = ways(photos, embeddings, recogniser)
        for way, group in found.items():
            rows.setdefault(way, []).append(scores(group, who))
        ours = found["person cluster"]
        plain.append(scores(ours[who > 1], who[who > 1]))
        shared = set(ours[who == 0].tolist()) & set(ours[who == 1].tolist()) - {-1}
        mixed += bool(shared)
    return {
        "ways": {way: _means(worlds) for way, worlds in rows.items()},
        "without look-alikes": _means(plain),
        "faces": faces,
        "not found": missing,
        "look-alikes together": mixed,
        "look-alikes": len(seeds),
    }


def _means(worlds):
    return {name: mean_interval([world[name] for world in worlds]) for name in worlds[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    torch.set_num_threads(1)
    found = figures(parser.parse_args().seeds)
    print(json.dumps(found, indent=1, default=vars))
    for way, measures in [*found["ways"].items(), ("no look-alikes", found["without look-alikes"])]:
        shown = (f"{k} {m.mean:.3f} [{m.low:.3f}, {m.high:.3f}]" for k, m in measures.items())
        print(f"{way}: {', '.join(shown)}")


if __name__ == "__main__":
    main()
