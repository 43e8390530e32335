"""What frozen networks say about pictures that come back, computed once and kept on disk."""

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ...core.checkpoint import save_safetensors
from ...core.people.recogniser import fingerprint

log = logging.getLogger(__name__)


def picture_digest(picture: Tensor) -> str:
    """Hexadecimal digits that equal pictures (3, h, w) share, wherever they lie."""
    return hashlib.blake2b(picture.contiguous().numpy().data, digest_size=16).hexdigest()


class FrozenCache:
    """Files `<what>-<network>/<xx>/<digest>.safetensors`, one for each picture.

    The network's own fingerprint is part of the path, so another VAE finds nothing of this one.
    Floating point is stored in half precision. A file that cannot be read is made anew; where none
    can be written, training goes on without.

    Args:
        folder: shared by any number of runs and processes.
        precision: name of the precision the networks run in.
    """

    def __init__(self, folder: Path, precision: str) -> None:
        self.folder, self.precision = folder, precision
        self.writable = True
        self._names: dict[tuple[str, nn.Module], str] = {}

    def get(
        self,
        what: str,
        net: nn.Module,
        pictures: Tensor,
        digests: Sequence[str | None],
        compute: Callable[[Tensor], Tensor],
    ) -> Tensor:
        """`compute(pictures)`, (b, ...), from disk for those that have been here before.

        Args:
            what: name of the result.
            net: frozen network that `compute` asks.
            pictures: (b, 3, h, w).
            digests: of each picture, see `picture_digest`; None for one that will not come again.
        """
        folder = self._folder(what, net)
        found: dict[int, Tensor] = {}
        for i, digest in enumerate(digests):
            kept = self._read(folder / digest[:2] / f"{digest}.safetensors") if digest else None
            if kept is not None:
                found[i] = kept
        missing = [i for i in range(len(digests)) if i not in found]
        if missing:
            for i, value in zip(missing, compute(pictures[missing]), strict=True):
                found[i] = value
                if digest := digests[i]:
                    self._write(folder / digest[:2] / f"{digest}.safetensors", value)
        dtype = torch.float32 if found[0].is_floating_point() else found[0].dtype
        return torch.stack([found[i].to(pictures.device, dtype) for i in range(len(digests))])

    def _folder(self, what: str, net: nn.Module) -> Path:
        if (what, net) not in self._names:
            self._names[what, net] = f"{what}-{fingerprint(net)}-{self.precision}"
        return self.folder / self._names[what, net]

    def _read(self, path: Path) -> Tensor | None:
        try:
            return load_file(path)["value"]
        except (OSError, SafetensorError, KeyError):
            return None

    def _write(self, path: Path, value: Tensor) -> None:
        if not self.writable:
            return
        stored = value.half() if value.is_floating_point() else value
        try:
            save_safetensors(path, {"value": stored})
        except OSError as error:
            self.writable = False
            log.warning("The cache %s takes no more (%s); training goes on.", self.folder, error)
