"""A folder of strangers, grouped into people: how pure the groups are, and how whole."""

from collections import Counter

import torch
from facewright.benchmarks._people_cluster import world
from facewright.benchmarks._people_world import (
    analyzer,
    embedded,
    recogniser,
    share_by,
)
from facewright.core.faces import detect_faces
from facewright.core.geometry.align import align_faces

WORLDS = (880,)


def clusters() -> list[dict]:
    """Before there was nothing to group faces with."""
    try:
        from facewright.core.people.clusters import cluster_faces
        from facewright.core.people.limits import limits_of
    except ImportError:
        return []
    pure, whole, unsure, who, named = [], [], [], [], []
    for seed in WORLDS:
        crops, photos, people = [], [], []
        for photo, (picture, shown) in enumerate(world(seed)):
            faces = detect_faces(analyzer(), picture)
            faces = sorted(faces, key=lambda face: face.center[0])
            if len(faces) != len(shown):
                continue  # whom a face shows would be a guess
            crops.append(align_faces([picture], [faces], 128).pixels)
            photos += [photo] * len(faces)
            people += shown
        found = cluster_faces(
            embedded(torch.cat(crops)).numpy(),
            photos,
            limits_of(recogniser().id),
            recogniser=recogniser().id,
        ).group
        inside = [(int(g), person) for g, person in zip(found, people, strict=True)]
        owner = {
            g: Counter(p for k, p in inside if k == g).most_common(1)[0][0] for g in set(found)
        }
        largest = {
            person: Counter(g for g, p in inside if p == person and g >= 0).most_common(1)
            for person in set(people)
        }
        for group, person in inside:
            name = f"{seed}/{person}"
            unsure.append(group < 0)
            main = largest[person]
            whole.append(bool(main) and group == main[0][0] and owner[group] == person)
            who.append(name)
            if group >= 0:
                pure.append(owner[group] == person)
                named.append(name)
    return [
        share_by("faces in a group that is mostly their own person", pure, named, goal="98 %"),
        share_by("faces in the largest group of their person", whole, who, goal="85 %"),
        share_by("faces said to be unsure", unsure, who),
    ]
