"""Where the wires of a workflow run: none behind a node.

The editor draws a wire as one curve from output to input. Where something is in its way, the wire
gets reroutes (points that the editor keeps with a workflow) at the corners of a way along lanes,
each of which belongs to one output.
"""

import bisect
import heapq
import itertools
import math
from collections.abc import Sequence

import numpy as np

from .layout import GRID, Box, Point

_CLEAR = 2 * GRID
"""From a node to the nearest lane beside it."""
_LANES = 4
"""Beside each edge of a node."""
_TOUCH = 6
"""No wire comes nearer to a node than that."""
_BEND, _CROSSING, _CLASH = 120, 20, 400
"""What a bend costs, in pixels, and a wire that is crossed or run over."""
_SHARED = 0.4
"""A lane of the same output is that much cheaper."""
_SHORT = 500
"""A curve as high as that needs no reroute at its socket."""
_NEAR = 60
"""Lanes so close need no right angle between them."""
_OFFSET = 20
"""The editor's own: how far a curve follows its direction at a reroute, at most."""
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))

Place = tuple[int, int]
"""Of a crossing of two lanes: column and row."""
_State = tuple[Place, int]
"""There, heading for one of `_STEPS`."""
_Came = dict[_State, _State | None]
"""From where each was reached."""


class Wires:
    """Ways around `obstacles` and below `top` for wires that begin or end at `heights`."""

    def __init__(self, obstacles: Sequence[Box], top: int, heights: Sequence[float]) -> None:
        self._boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in obstacles], float)
        left, up, right, down = np.round(self._boxes / GRID).astype(int).T * GRID
        steps = _CLEAR + GRID * np.arange(_LANES)[:, None]
        xs = np.unique([left - steps, right + steps])
        ys = np.unique(np.concatenate([np.ravel([up - steps, down + steps]), heights]))
        ys = ys[ys > top]
        low, high = self._boxes[:, :2] - _CLEAR + 1, self._boxes[:, 2:] + _CLEAR - 1
        columns = (low[:, 0, None] < xs) & (xs < high[:, 0, None])
        rows = (low[:, 1, None] < ys) & (ys < high[:, 1, None])
        over = (xs[:-1] < high[:, 0, None]) & (low[:, 0, None] < xs[1:])
        along = (ys[:-1] < high[:, 1, None]) & (low[:, 1, None] < ys[1:])
        blocked = over[:, :, None] & rows[:, None, :], columns[:, :, None] & along[:, None, :]
        self._free = [np.logical_not(np.any(each, axis=0)).tolist() for each in blocked]
        self._xs, self._ys = xs.tolist(), ys.tolist()
        self._owners: dict[tuple[Place, int], object] = {}
        self._passed: dict[Place, object] = {}
        self._known: set[object] = set()

    def route(self, start: Point, end: Point, owner: object) -> list[Point]:
        """Points between output and input, none where nothing is in the way.

        Wires of one `owner` (an output) share their lanes.
        """
        if self._clear([start, end]):
            return []
        places = self._way(self._beside(start, 1), self._beside(end, -1), owner)
        points: list[Point] = [(self._xs[i], self._ys[j]) for i, j in places]
        return self._simpler([start, *points, end])[1:-1]

    def _simpler(self, points: list[Point]) -> list[Point]:
        """Without what the curve does not need: at sockets, and where two bends are close."""
        at = 1
        while at < len(points) - 1:
            (x, y), (u, v) = points[at - 1], points[at + 1]
            ends = at == 1 or at == len(points) - 2
            small = abs(y - v) <= _SHORT if ends else min(abs(x - u), abs(y - v)) <= _NEAR
            less = [*points[:at], *points[at + 1 :]]
            if small and self._clear(less):
                points, at = less, max(at - 1, 1)
            else:
                at += 1
        return points

    def _beside(self, socket: Point, side: int) -> Place:
        """The nearest lane in front of a socket."""
        column = bisect.bisect_left(self._xs, socket[0] + side * (_CLEAR - 1))
        return column - (side < 0), bisect.bisect_left(self._ys, socket[1])

    def _way(self, first: Place, last: Place, owner: object) -> list[Place]:
        """A* over the lanes; the places at which it bends."""
        # Where no lane is cheap, the rest of the way is known better.
        rest = 0.8 if owner in self._known else 1.2
        waiting: list[tuple[float, float, _State, _State | None]] = [(0.0, 0.0, (first, 0), None)]
        came: _Came = {}
        while waiting:
            _, spent, state, before = heapq.heappop(waiting)
            if state in came:
                continue
            came[state] = before
            place, heading = state
            if place == last and heading == 0:
                break
            for turn, (dx, dy) in enumerate(_STEPS):
                there, step = place, float(_BEND)
                if turn == heading:
                    there = place[0] + dx, place[1] + dy
                    step = self._step(place, there, turn, owner)
                elif self._passed.get(place, owner) != owner:
                    step += _CLASH
                back = (turn - heading) % 4 == 2
                if step < math.inf and not back and (there, turn) not in came:
                    bends = turn % 2 or 2 * (there[1] != last[1] or turn == 2)
                    far = spent + step + rest * self._distance(there, last) + bends * _BEND
                    heapq.heappush(waiting, (far, spent + step, (there, turn), state))
        return self._trace(came, (last, 0), owner) if (last, 0) in came else []

    def _distance(self, a: Place, b: Place) -> float:
        across = abs(self._xs[a[0]] - self._xs[b[0]])
        return across + abs(self._ys[a[1]] - self._ys[b[1]])

    def _step(self, place: Place, there: Place, turn: int, owner: object) -> float:
        """What it costs to go to the next place, infinite if that cannot be."""
        column, row = corner = min(place, there)
        if min(there) < 0 or there[0] >= len(self._xs) or there[1] >= len(self._ys):
            return math.inf
        if not self._free[turn % 2][column][row]:
            return math.inf
        length = self._distance(place, there)
        user = self._owners.get((corner, turn % 2), None)
        if user == owner:
            length *= _SHARED
        elif user is not None:
            length += _CLASH
        return length + _CROSSING * (self._passed.get(there, owner) != owner)

    def _trace(self, came: _Came, state: _State, owner: object) -> list[Place]:
        self._known.add(owner)
        bends = []
        while (before := came[state]) is not None:
            if before[0] == state[0]:
                bends.append(state[0])
            else:
                self._owners[min(before[0], state[0]), state[1] % 2] = owner
            self._passed[state[0]] = owner
            state = before
        return bends[::-1]

    def _clear(self, points: list[Point]) -> bool:
        drawn = curve(points)
        # Its own two nodes are touched where the wire begins and ends.
        near = [np.linalg.norm(drawn - np.array(end), axis=1) for end in (points[0], points[-1])]
        touch = np.where(np.minimum(*near) < _CLEAR + GRID, -1, _TOUCH)[None, :, None]
        low = self._boxes[:, None, :2] - touch < drawn[None]
        return not (low & (drawn[None] < self._boxes[:, None, 2:] + touch)).all(-1).any()


def curve(points: Sequence[Point], count: int = 33) -> np.ndarray:
    """What the editor draws from an output through reroutes to an input: points on it, (n, 2)."""
    tangents = [(1.0, 0.0)]
    for before, at, after in zip(points, points[1:], points[2:], strict=False):
        come = math.atan2(at[1] - before[1], at[0] - before[0])
        go = math.atan2(after[1] - at[1], after[0] - at[0])
        turn = (come - go) / 2
        turn += math.pi if abs(turn) > math.pi / 2 else 0
        tangents.append((math.cos(come - turn), math.sin(come - turn)))
    tangents.append((1.0, 0.0))
    t = np.linspace(0, 1, count)[:, None]
    drawn = []
    for i, (a, b) in enumerate(itertools.pairwise(points)):
        far = math.dist(a, b) * 0.25
        near = [far if end in (0, len(points) - 1) else min(far, _OFFSET) for end in (i, i + 1)]
        one = np.add(a, np.multiply(tangents[i], near[0]))
        other = np.subtract(b, np.multiply(tangents[i + 1], near[1]))
        drawn.append(
            (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * one + 3 * (1 - t) * t**2 * other + t**3 * b
        )
    return np.concatenate(drawn)
