"""The best face analyzer that is ready on this machine, and why it is that one."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import CheckpointError, FacewrightError, shorten
from ..files.known import MEDIAPIPE
from ..geometry.face import Face, FaceAnalyzer
from .needs import NEEDS, find_weights, home_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Passed:
    """An analyzer that "auto" did not take."""

    name: str
    why: str
    broken: bool = False
    """What it needs is there and does not work, which is worth a warning."""


@dataclass(frozen=True)
class Choice:
    """Which analyzer "auto" took, and why."""

    name: str
    file: Path | None
    """Its weights; None where it needs none."""
    passed: tuple[Passed, ...]
    note: str = ""
    """What it misses here, a sentence."""

    @property
    def looked(self) -> str:
        """Who looks for faces, why not a better one, and what is missed."""
        text = f"Faces are looked for by {self.name}"
        if self.file is not None:
            text += f" ({'/'.join(self.file.parts[-3:])})"
        if self.passed:
            text += f", because {self.passed[0].why.removesuffix('.')}"
            if not NEEDS[self.name].dense:
                text += f"; {self.name} {NEEDS[self.name].about}"
        return f"{text}. {self.note}".rstrip()

    @property
    def warnings(self) -> list[str]:
        """A sentence for each analyzer whose files are there and do not work."""
        return [
            f"The face analyzer {passed.name} was passed over, though its files are there: "
            f"{passed.why}"
            for passed in self.passed
            if passed.broken
        ]


class AutoAnalyzer:
    """The analyzer that was chosen: it does all the work, and gives what it can give."""

    def __init__(self, chosen: FaceAnalyzer, choice: Choice) -> None:
        self.chosen, self.choice = chosen, choice
        self.name = chosen.name

    def detect(self, image: Tensor) -> list[Face]:
        """See `FaceAnalyzer`."""
        return self.chosen.detect(image)

    def __getattr__(self, name: str) -> Any:
        if name == "chosen":  # not there yet: this is being copied
            raise AttributeError(name)
        return getattr(self.chosen, name)


def note_of(analyzer: FaceAnalyzer) -> str:
    """A sentence on what an analyzer misses for want of a file; empty where it has all."""
    return getattr(analyzer, "note", "")


def choose(
    load: Callable[[str], FaceAnalyzer],
    model_dir: str | Path | None = None,
    *,
    check: Callable[[FaceAnalyzer], object] | None = None,
) -> AutoAnalyzer:
    """The first analyzer of `NEEDS` whose files and package are here.

    One whose files are there and broken is passed over with a warning: most pictures are better
    restored with another detector than not at all, and reports name what to mend.

    Args:
        load: an analyzer by its name.
        model_dir: as in `core.faces.load_analyzer`.
        check: raises FacewrightError for one that does not give the landmarks that are needed; None
            where none are.

    Raises:
        CheckpointError: none is ready; the sentences say what each lacks.
    """
    passed: list[Passed] = []
    for name, needs in NEEDS.items():
        file = find_weights(name, model_dir)
        if lacks := needs.lacks(file, home_of(name, model_dir)):
            passed.append(Passed(name, lacks))
        elif check is not None and not needs.dense:
            passed.append(Passed(name, "it gives no dense landmarks"))
        else:
            try:
                analyzer = load(name)
            except Exception as error:  # noqa: BLE001 (other people's packages raise anything)
                passed.append(Passed(name, _sentence(error), broken=True))
                continue
            try:
                if check is not None:
                    check(analyzer)
            except FacewrightError as error:
                passed.append(Passed(name, str(error)))
                continue
            choice = Choice(name, file, tuple(passed), note_of(analyzer))
            for warning in choice.warnings:
                _LOG.warning(warning)
            _LOG.info(choice.looked)
            return AutoAnalyzer(analyzer, choice)
    raise CheckpointError(_none_is_ready(passed, model_dir, check is not None))


def _none_is_ready(passed: list[Passed], model_dir: str | Path | None, dense: bool) -> str:
    what = " that gives the landmarks needed here" if dense else ""
    lines = "\n".join(f"- {p.name}: {p.why}" for p in passed)
    return (
        f"No face analyzer{what} is ready. The best one needs no package: put "
        f"{MEDIAPIPE.names[0]} ({MEDIAPIPE.source}; {MEDIAPIPE.licence}) into "
        f"{home_of('mediapipe', model_dir)}. What they lack:\n{lines}"
    )


def _sentence(error: Exception) -> str:
    return str(error) if isinstance(error, FacewrightError) else shorten(repr(error), 300)
