"""How much of the damage of real photographs a way to make damage covers (FLIPNET, Fig. 5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.degradation import Degradation
from ...core.degradation.descriptors import DESCRIPTORS, describe_damage
from ...core.drawing.sheet import resized
from ...core.errors import FacewrightError, listed
from ...core.files.scan import LeftAside, pictures_in
from ...core.images import read_picture
from ...core.metrics import FrechetStatistics
from ...core.metrics.manifolds import coverage, recall
from ..jobs.batch import OnJob, Summary, run_jobs, unwatched
from ..jobs.planning import Job
from ..jobs.recorded import one_thread, picture_seed
from ..jobs.workers import Team
from .pairing import check_folder

REAL, OFF_SHELF, ON_THE_FLY = "real", "off-shelf", "on-the-fly"
"""What a set of pictures is: photographs, made beforehand, or made here by a preset."""
FEWEST = 20
"""Pictures on either side, below which no numbers are given."""
THEMSELVES = "the photographs themselves"
TOGETHER = "all together"
MEASURES = ("recall", "coverage", "frechet")


@dataclass(frozen=True)
class Pictures:
    """A set of pictures that is compared as a whole."""

    name: str
    kind: str
    """REAL, OFF_SHELF or ON_THE_FLY."""
    folder: Path
    preset: str = ""
    """Of a set that is made here, from the good pictures of `folder`."""


@dataclass(frozen=True)
class Look(Job):
    """One picture to describe."""

    of: int = 0
    """Which set it belongs to."""
    preset: str = ""
    seed: int = 0
    side: int = 512


@dataclass(frozen=True)
class Cell:
    """How much of one real set another set covers, over random draws of equal size."""

    pictures: int
    """On either side of each draw."""
    draws: dict[str, list[float]]
    """Measure -> a value per draw."""

    def mean(self, measure: str) -> float:
        return float(np.mean(self.draws[measure]))


@dataclass
class Found:
    """What was measured."""

    sets: list[Pictures]
    names: list[list[str]]
    """Of each set's pictures that could be described, in order."""
    descriptors: list[Tensor]
    """(n, d) of each set."""
    table: dict[str, dict[str, Cell]] = field(default_factory=dict)
    """Made set or THEMSELVES -> real set or TOGETHER -> cell; a cell that is missing had too few
    pictures."""
    resized: dict[str, int] = field(default_factory=dict)
    """Set -> how many of its pictures had another size than the one compared at."""
    notes: list[str] = field(default_factory=list)

    @property
    def real(self) -> list[int]:
        return [i for i, one in enumerate(self.sets) if one.kind == REAL]

    def scaled(self) -> list[Tensor]:
        """Descriptors in units of their spread over all photographs, whose mean is 0."""
        real = torch.cat([self.descriptors[i] for i in self.real])
        spread = real.std(0)
        # A descriptor that no photograph varies in says nothing about how far others are.
        spread = torch.where(spread > 1e-6, spread, torch.ones_like(spread))
        return [(x - real.mean(0)) / spread for x in self.descriptors]


class CoverageRun:
    """What `facewright coverage` is about to do, checked before the first picture is opened."""

    def __init__(
        self,
        made: Sequence[Path],
        real: Sequence[Path],
        out: Path,
        *,
        gt: Path | None = None,
        presets: Sequence[str] = (),
        side: int = 512,
        most: int | None = None,
        seed: int = 0,
    ) -> None:
        """
        Args:
            made: folders of degraded pictures.
            real: folders of photographs.
            out: folder of the report.
            gt: good pictures, which presets degrade here.
            presets: names that `Degradation.preset` knows.
            side: pixels that all pictures are compared at.
            most: pictures of a set, drawn by `seed`; None takes all.
            seed: of which pictures are taken, of the presets, and of the draws.

        Raises:
            FacewrightError: folders without pictures, presets without good pictures or the other
                way round, an unknown preset, nothing to compare, or too few photographs.
        """
        if bool(presets) != (gt is not None):
            raise FacewrightError(
                "Presets degrade good pictures here: give their folder with --gt, and with "
                "--preset at least one preset."
            )
        for name in presets:
            Degradation.preset(name)
        self.out, self.side, self.seed = out, side, seed
        self.aside = LeftAside()
        self.sets = _sets(made, real, gt, presets)
        self.jobs: list[Look] = []
        for index, one in enumerate(self.sets):
            self.jobs += self._jobs(index, one, most)
        photographs = sum(self.sets[job.of].kind == REAL for job in self.jobs)
        if photographs < 2 * FEWEST:
            raise FacewrightError(
                f"Coverage is told from at least {2 * FEWEST} photographs, which are compared with "
                f"themselves, too: got {photographs}."
            )

    def _jobs(self, index: int, one: Pictures, most: int | None) -> list[Look]:
        check_folder(one.folder)
        files = sorted(pictures_in(one.folder, self.aside))
        if not files:
            raise FacewrightError(f"There are no pictures in {one.folder}.")
        if most is not None and len(files) > most:
            rng = np.random.default_rng((self.seed, index))
            files = [files[i] for i in sorted(rng.choice(len(files), most, replace=False))]
        jobs = []
        for file in files:
            name = file.relative_to(one.folder).as_posix()
            seed = picture_seed(self.seed, name, 1)
            jobs.append(Look(file, self.out, name, "", {}, index, one.preset, seed, self.side))
        return jobs

    def carry_out(
        self, *, draws: int = 10, workers: int | Team = 1, on_job: OnJob = unwatched
    ) -> tuple[Found, Summary]:
        """Describe every picture and compare the sets; pictures that fail are left out, and named.

        Neither pixels nor numbers depend on `workers`.
        """
        with one_thread():
            summary = run_jobs(
                self.jobs, look, finished=lambda job: False, workers=workers, on_job=on_job
            )
        failed = set(summary.failed)
        # A file may be looked at for several presets.
        ready = [job for job in self.jobs if job.source not in failed]
        found = Found(self.sets, [[] for _ in self.sets], [torch.empty(0)] * len(self.sets))
        rows: list[list[list[float]]] = [[] for _ in self.sets]
        by_job = iter([entry for entry in summary.done if Path(entry["input"]) not in failed])
        for job, facts in zip(ready, by_job, strict=True):
            found.names[job.of].append(job.name)
            rows[job.of].append(facts["descriptors"])
            name = self.sets[job.of].name
            found.resized[name] = found.resized.get(name, 0) + facts["resized"]
        found.descriptors = [
            torch.tensor(x, dtype=torch.float64).reshape(-1, len(DESCRIPTORS)) for x in rows
        ]
        if sum(len(found.descriptors[i]) for i in found.real) < 2:
            raise FacewrightError(
                "No two photographs could be read. " + listed(summary.failed.values(), between=" ")
            )
        compare(found, draws, self.seed)
        presets = [Degradation.preset(one.preset).settings for one in self.sets if one.preset]
        remarks = [preset.remark(self.side, self.side) for preset in presets]
        found.notes += dict.fromkeys(filter(None, remarks))
        return found, summary


def look(job: Look) -> dict[str, Any]:
    """The descriptors of one picture, degraded first where it belongs to a preset."""
    pixels = read_picture(job.source).pixels[:3]
    height, width = pixels.shape[-2:]
    x = square(pixels, job.side)[None]
    if job.preset:
        x, _ = Degradation.preset(job.preset)(x, [job.seed])
    return {
        "descriptors": describe_damage(x)[0].tolist(),
        "resized": (height, width) != (job.side, job.side),
    }


def compare(found: Found, draws: int, seed: int) -> None:
    """Fill `found.table`.

    Fréchet distances and recall of sets of different sizes cannot be compared. So every cell takes
    as many pictures on either side, `draws` times at random, as the smallest made set and half of
    the real set allow; the other half of the real set is compared with the first for the best that
    can be reached.
    """
    scaled = found.scaled()
    made = [i for i, one in enumerate(found.sets) if one.kind != REAL]
    fewest = min((len(scaled[i]) for i in made), default=0)
    targets = {found.sets[i].name: scaled[i] for i in found.real}
    if len(targets) > 1:
        targets = {TOGETHER: torch.cat(list(targets.values())), **targets}
    for name, real in targets.items():
        count = min(len(real) // 2, fewest)
        if count < FEWEST:
            found.notes.append(
                f"{name} has too few pictures for numbers: {FEWEST} on either side are needed, of "
                f"{len(real)} photographs and {fewest} made ones."
            )
            continue
        cells: dict[str, list[dict[str, float]]] = {}
        for draw in range(draws):
            rng = np.random.default_rng((seed, draw))
            order = torch.from_numpy(rng.permutation(len(real)))
            one, other = real[order[:count]], real[order[count : 2 * count]]
            for i in made:
                some = torch.from_numpy(rng.choice(len(scaled[i]), count, replace=False))
                cells.setdefault(found.sets[i].name, []).append(_measured(one, scaled[i][some]))
            cells.setdefault(THEMSELVES, []).append(_measured(one, other))
        for row, values in cells.items():
            by_measure = {m: [v[m] for v in values] for m in MEASURES}
            found.table.setdefault(row, {})[name] = Cell(count, by_measure)


def square(pixels: Tensor, side: int) -> Tensor:
    """The largest square in the middle, with `side` pixels."""
    height, width = pixels.shape[-2:]
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    return resized(pixels[:, top : top + short, left : left + short], side, side)


def _measured(real: Tensor, made: Tensor) -> dict[str, float]:
    statistics = FrechetStatistics(), FrechetStatistics()
    for each, x in zip(statistics, (real, made), strict=True):
        each.update(x)
    return {
        "recall": recall(real, made),
        "coverage": coverage(real, made),
        "frechet": float(statistics[0].distance(statistics[1])),
    }


def _sets(
    made: Sequence[Path], real: Sequence[Path], gt: Path | None, presets: Sequence[str]
) -> list[Pictures]:
    sets = [Pictures(_name(f), REAL, f) for f in real]
    sets += [Pictures(_name(f), OFF_SHELF, f) for f in made]
    sets += [Pictures(f"preset {n}", ON_THE_FLY, gt, n) for n in presets if gt is not None]
    if len(sets) == len(real):
        raise FacewrightError(
            "Give something to compare with the photographs: folders of degraded pictures, or "
            "--preset with --gt."
        )
    names = [one.name for one in sets]
    for i, one in enumerate(sets):
        if names.count(one.name) > 1:
            # The folder that it lies in tells folders of one name apart.
            longer = f"{one.folder.resolve().parent.name}/{one.name}"
            sets[i] = Pictures(longer, one.kind, one.folder, one.preset)
    names = [one.name for one in sets]
    if twice := [name for name in names if names.count(name) > 1]:
        raise FacewrightError(
            f"{twice[0]} is given twice, or is the name of two folders. Give every set once."
        )
    return sets


def _name(folder: Path) -> str:
    return folder.resolve().name or str(folder)
