"""An album of one person: aligned photographs and what recognisers and landmarkers said of them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Person:
    """n >= 1 photographs of one person, FFHQ-aligned."""

    name: str
    crops: Tensor
    """(n, 3, s, s) in [0, 1] float32."""
    embeddings: Tensor
    """(n, d) float32 of length 1, of the recogniser named by `recogniser`."""
    landmarks: Tensor
    """(n, k, 2) float32 in pixels of the crops; k is 68 (iBUG) or 98 (WFLW)."""
    quality: Tensor
    """(n,) float32 in [0, 1]: how much a photograph tells, by size and sharpness."""
    recogniser: str
    """`Recogniser.id` of who made the embeddings."""
    sources: tuple[str, ...]
    """Where each photograph came from, for people: a file's name or "photo 3"; no paths."""

    def __len__(self) -> int:
        return len(self.crops)
