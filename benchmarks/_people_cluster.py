"""A folder of rendered strangers, grouped into people, and how well: no benchmark of its own.

A world has 24 people with 1 to 12 faces each, in portraits and in group pictures of 2 to 5, sharp
or degraded (half sharp, the rest mild, moderate and severe). Two of the people look alike: every
parameter of one lies four fifths of the way to the other's.
"""

import torch
from facewright.core.degradation import Degradation
from facewright.training.world.faces3d import render
from facewright.training.world.identities import Identities, sample_identities
from facewright.training.world.nuisances import sample_nuisances
from facewright.training.world.scenes import group_scene

PEOPLE = 24
_MOST = 12
_GROUPS = 12
"""Group pictures of a world."""
_ALIKE = 0.8
_FIRST = 700_000
"""Seed of the first person of the first world; no training and no other benchmark draws them."""
_DAMAGE = ("", "", "", "mild", "moderate", "severe")


def world(seed):
    """(picture (3, h, w), who is in it from left to right) of every photograph; people are numbers.

    The looks alike of person 0 is person 1, on portraits only.
    """
    rng = torch.Generator().manual_seed(seed)

    def below(n):
        return int(torch.randint(n, (), generator=rng))

    seeds = [_FIRST + seed * PEOPLE + i for i in range(PEOPLE)]
    people = sample_identities(seeds)
    people = _with_look_alike(people)
    pictures = []
    for _ in range(_GROUPS):
        who = (2 + torch.randperm(PEOPLE - 2, generator=rng)[: 2 + below(4)]).tolist()
        shot = below(2**31)
        pixels = group_scene(shot, [seeds[i] for i in who]).pixels
        pictures.append((_damaged(pixels, _DAMAGE[below(len(_DAMAGE))], shot), who))
    for person in range(PEOPLE):
        # Few people are on many photographs.
        for _ in range(max(1, round(_MOST ** (below(1000) / 999)))):
            shot = below(2**31)
            pixels = render(
                people.take([person]), sample_nuisances([shot]), 256, aligned=False
            ).pixels[0]
            pictures.append((_damaged(pixels, _DAMAGE[below(len(_DAMAGE))], shot), [person]))
    return pictures


def _with_look_alike(people):
    mixed = {
        name: torch.cat([value[:1], (value[1:2] * (1 - _ALIKE) + value[:1] * _ALIKE), value[2:]])
        if value.is_floating_point()
        else value
        for name, value in vars(people).items()
    }
    return Identities(**mixed)


def _damaged(pixels, preset, seed):
    if not preset:
        return pixels
    return Degradation.preset(preset)(pixels[None], seed=seed)[0][0]
