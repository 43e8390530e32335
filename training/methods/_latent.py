"""What recipes that train on the latents of a frozen VAE have in common."""

from torch import Tensor

from ..recipe import EXPORT_ONLY, Batch, Recipe


class LatentRecipe(Recipe):
    """A recipe whose frozen network `codec` is a `_backbone.Codec`."""

    changeable = (*EXPORT_ONLY, "weights.*")

    def _encode(self, batch: Batch, key: str, *, sample: bool) -> Tensor:
        """z_0 of the pictures batch[key]; the posterior comes from the cache if it can."""
        codec = self.nets["codec"]

        def moments(pictures: Tensor) -> Tensor:
            return codec.moments(pictures * 2 - 1)

        known = self.remembered("moments", "codec", batch, key, moments)
        return codec.latents(known, sample=sample)

    def _decode(self, z_0: Tensor) -> Tensor:
        """Pictures about [0, 1], not clamped."""
        return (self.nets["codec"].decode(z_0) + 1) / 2
