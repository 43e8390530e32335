"""What each face analyzer for photographs needs before it is worth loading, and where that lies."""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files.known import INSIGHTFACE, MEDIAPIPE, RETINAFACE, KnownFile
from ..files.search import find_file, model_roots


@dataclass(frozen=True)
class Needs:
    """The weights and the package of an analyzer."""

    about: str
    """What its user gets."""
    weights: KnownFile | None = None
    """None where it needs none."""
    pack: tuple[str, ...] = ()
    """Names of the file that tells that `weights` are there, where these are a folder."""
    pack_folders: tuple[str, ...] = ()
    """Folders in which that is searched."""
    package: str = ""
    """What it imports; empty where that is nothing of its own."""
    install: str = ""
    """What pip is told to install."""
    own: Callable[[], Iterable[Path]] = tuple
    """Where its package keeps weights."""
    dense: bool = True
    """Whether it gives dense landmarks where all its weights are there."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """Names of the file that tells that the weights are there."""
        return self.pack or (self.weights.names if self.weights else ())

    @property
    def folders(self) -> tuple[str, ...]:
        """Folders in which that file is searched."""
        return self.pack_folders or (self.weights.folders if self.weights else ())

    @property
    def packaged(self) -> bool:
        """Whether its package is installed; nothing is imported."""
        if self.package in sys.modules:  # whose specification may be none
            return sys.modules[self.package] is not None
        return not self.package or importlib.util.find_spec(self.package) is not None

    @property
    def package_too(self) -> str:
        """What is said behind a sentence on lacking weights: empty, or that its package is, too."""
        if self.packaged:
            return ""
        return f" Its package is not installed either: `pip install {self.install}`."

    def lacks(self, file: Path | None, home: Path) -> str:
        """What is not here, in words; empty where it is worth loading.

        Args:
            file: its weights, where they were found.
            home: where they should be.
        """
        if self.weights and file is None:
            name = self.weights.names[0]
            return f"{f'a model pack such as {name}' if self.pack else name} is not in {home}"
        return "" if self.packaged else f"the package {self.install} is not installed"


def _of_facexlib() -> list[Path]:
    spec = importlib.util.find_spec("facexlib")
    return [Path(p) / "weights" for p in (spec and spec.submodule_search_locations) or ()]


NEEDS = {
    "mediapipe": Needs(
        "finds covered, turned and small faces, with 68 landmarks",
        weights=MEDIAPIPE,
    ),
    "facexlib": Needs(
        "finds small and turned faces, with five points",
        weights=RETINAFACE,
        package="facexlib",
        install="facexlib",
        own=_of_facexlib,
    ),
    "insightface": Needs(
        "finds small and turned faces, with five points",
        weights=INSIGHTFACE,
        pack=("det_*.onnx", "scrfd*.onnx"),
        pack_folders=("insightface", "models"),
        package="insightface",
        install="insightface onnxruntime",
        own=lambda: [Path.home() / ".insightface"],
    ),
    "skimage": Needs(
        "finds fewer faces, upright frontal ones, and no points in them",
        package="skimage",
        install="scikit-image",
        dense=False,
    ),
}
"""Best first: the order in which "auto" tries them.

MediaPipe finds most, needs no package, and may be used commercially. facexlib and insightface set
tilted faces upright by five points; of the two facexlib comes first, as insightface's weights are
for research only. skimage finds upright frontal faces. nano, which knows rendered faces only, is
not among them.
"""


DENSE = (
    "mediapipe (68 points), facexlib (98) or insightface (68) with their landmark weights, or nano "
    "(68) for rendered faces"
)
"""Who gives dense landmarks, for the end of a sentence."""


def roots_of(name: str, model_dir: str | Path | None = None) -> list[Path]:
    """Folders that are searched for the weights of an analyzer, first match first."""
    return model_roots(model_dir, NEEDS[name].own())


def find_weights(name: str, model_dir: str | Path | None = None) -> Path | None:
    """The file that tells that the weights of an analyzer are there; None without it."""
    needs = NEEDS[name]
    return find_file(roots_of(name, model_dir), needs.folders, needs.patterns)


def home_of(name: str, model_dir: str | Path | None = None) -> Path:
    """Where its weights should be put."""
    root, weights = (model_roots(model_dir) or [Path("models")])[0], NEEDS[name].weights
    return root / weights.folder if weights else root
