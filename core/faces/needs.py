"""What each face analyzer for photographs needs before it is worth loading, and where that lies."""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files.known import MEDIAPIPE
from ..files.search import find_file, model_roots


@dataclass(frozen=True)
class Needs:
    """The weights and the package of an analyzer."""

    about: str
    """What its user gets."""
    file: str = ""
    """Its weights, as people call them; empty where it needs none."""
    patterns: tuple[str, ...] = ()
    """Names of the file that tells that they are there."""
    home: str = ""
    """Folder of a models folder to put them into."""
    folders: tuple[str, ...] = ()
    """Folders in which they are searched."""
    package: str = ""
    """What it imports; empty where that is nothing of its own."""
    install: str = ""
    """What pip is told to install."""
    own: Callable[[], Iterable[Path]] = tuple
    """Where its package keeps weights."""
    dense: bool = True
    """Whether it gives dense landmarks where all its weights are there."""

    @property
    def packaged(self) -> bool:
        """Whether its package is installed; nothing is imported."""
        if self.package in sys.modules:  # whose specification may be none
            return sys.modules[self.package] is not None
        return not self.package or importlib.util.find_spec(self.package) is not None

    def lacks(self, file: Path | None, home: Path) -> str:
        """What is not here, in words; empty where it is worth loading.

        Args:
            file: its weights, where they were found.
            home: where they should be.
        """
        if self.file and file is None:
            return f"{self.file} is not in {home}"
        return "" if self.packaged else f"the package {self.install} is not installed"


def _of_facexlib() -> list[Path]:
    spec = importlib.util.find_spec("facexlib")
    return [Path(p) / "weights" for p in (spec and spec.submodule_search_locations) or ()]


NEEDS = {
    "mediapipe": Needs(
        "finds covered, turned and small faces, with 68 landmarks",
        file=MEDIAPIPE.names[0],
        patterns=MEDIAPIPE.names,
        home=MEDIAPIPE.folder,
        folders=MEDIAPIPE.folders,
    ),
    "facexlib": Needs(
        "finds small and turned faces, with five points",
        file="detection_Resnet50_Final.pth",
        patterns=("detection_Resnet50_Final.pth",),
        home="facedetection",
        folders=("facexlib", "facedetection", "facewright"),
        package="facexlib",
        install="facexlib",
        own=_of_facexlib,
    ),
    "insightface": Needs(
        "finds small and turned faces, with five points",
        file="a model pack such as buffalo_l",
        patterns=("det_*.onnx", "scrfd*.onnx"),
        home="insightface/models",
        folders=("insightface", "models"),
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


def roots_of(name: str, model_dir: str | Path | None = None) -> list[Path]:
    """Folders that are searched for the weights of an analyzer, first match first."""
    return model_roots(model_dir, NEEDS[name].own())


def find_weights(name: str, model_dir: str | Path | None = None) -> Path | None:
    """The file that tells that the weights of an analyzer are there; None without it."""
    needs = NEEDS[name]
    return find_file(roots_of(name, model_dir), needs.folders, needs.patterns)


def home_of(name: str, model_dir: str | Path | None = None) -> Path:
    """Where its weights should be put."""
    roots = model_roots(model_dir) or [Path("models")]
    return roots[0] / NEEDS[name].home
