"""Sources of face photographs and the batches made of them."""

from .batches import Batches

__all__ = ["Batches"]
