"""Which networks the perceptual and identity terms look through, as a config section."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from ...core.modules.identity import IdentityEncoder
from ...core.modules.vgg import VGG16, VGG19
from ..settings.config import Strict
from .perceptual import Dists, EdgeAwarePerceptual


class ExtractorConfig(Strict):
    """A frozen feature extractor."""

    kind: Literal["vgg16", "vgg19", "nano"] = Field(
        "vgg16",
        description="vgg16, vgg19: for photographs; nano: the identity encoder of rendered faces",
    )
    path: Path = Field(description="weight file: torchvision's VGG, or an identity encoder")

    def load(self) -> IdentityEncoder | VGG16 | VGG19:
        """The extractor in evaluation mode, without gradients for its weights."""
        if self.kind == "vgg16":
            return VGG16.from_file(self.path)[0]
        kind = IdentityEncoder if self.kind == "nano" else VGG19
        return kind.from_file(self.path)

    def load_dists(self) -> EdgeAwarePerceptual:
        """EA-DISTS over this extractor, with learned weights where the file has them."""
        if self.kind != "vgg16":
            return EdgeAwarePerceptual(Dists(self.load()))
        extractor, learned = VGG16.from_file(self.path)
        return EdgeAwarePerceptual(Dists(extractor, *(learned or ())))
