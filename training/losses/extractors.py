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
        if self.kind == "nano":
            return IdentityEncoder.from_file(self.path)
        if self.kind == "vgg19":
            return VGG19.from_file(self.path)
        return VGG16.from_file(self.path)[0]

    def load_dists(self) -> EdgeAwarePerceptual:
        """EA-DISTS over this extractor, with learned weights where the file has them."""
        if self.kind == "nano":
            return EdgeAwarePerceptual(Dists(IdentityEncoder.from_file(self.path)))
        if self.kind == "vgg19":
            return EdgeAwarePerceptual(Dists(VGG19.from_file(self.path)))
        extractor, learned = VGG16.from_file(self.path)
        return EdgeAwarePerceptual(Dists(extractor, *(learned or ())))
