"""Whether the tensors of a file are those of a network: names, shapes, kinds of number, finite."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, listed, shorten
from .identify import describe_format, detect_format


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Copy `tensors` into `module`, which must match it key by key and shape by shape.

    Values are cast to the module's own dtype and device. The module is untouched on error.

    Raises:
        CheckpointError: as `check_fits`, or weights that are NaN or infinite.
    """
    check_fits(module, tensors, source=source)
    check_finite(tensors, source=source)
    module.load_state_dict(dict(tensors))


def check_fits(module: nn.Module, tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Refuse tensors that do not match a module's in names, shapes and kind of number.

    Raises:
        CheckpointError: listing what is missing, what is unexpected and which shapes differ.
    """
    expected = module.state_dict()
    missing = [k for k in expected if k not in tensors]
    unexpected = [k for k in tensors if k not in expected]
    both = {k: (v, tensors[k]) for k, v in expected.items() if k in tensors}
    shapes = [
        f"{shorten(k)} should be {tuple(v.shape)}, came {shorten(tuple(given.shape), 40)}"
        for k, (v, given) in both.items()
        if given.shape != v.shape
    ]
    kinds = [
        f"{shorten(k)} should be {_kind(v)}, came {str(given.dtype)[6:]}"
        for k, (v, given) in both.items()
        if not _kind_fits(v, given)
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(expected)} tensors missing ({listed(missing)})")
    if unexpected:
        problems.append(f"{len(unexpected)} unexpected ({listed(unexpected)})")
    if shapes:
        problems.append(f"{len(shapes)} of another shape ({listed(shapes)})")
    if kinds:
        problems.append(f"{len(kinds)} of another kind of number ({listed(kinds)})")
    if not problems:
        return
    raise CheckpointError(
        f"{source} does not fit {type(module).__name__}: {'; '.join(problems)}. "
        f"The file looks like {describe_format(detect_format(tensors))}."
    )


def _kind(tensor: Tensor) -> str:
    return "floating point" if tensor.is_floating_point() else "whole numbers"


def _kind_fits(expected: Tensor, given: Tensor) -> bool:
    """Weights are floating point. Counters may be: half precision is written for all alike."""
    if given.is_complex() or given.dtype == torch.bool:
        return False
    return given.is_floating_point() or not expected.is_floating_point()


def check_finite(tensors: Mapping[str, Tensor], *, source: str) -> None:
    """Raise CheckpointError, naming them, where weights are NaN or infinite."""
    refuse_broken(broken_in(tensors), len(tensors), source=source)


def broken_in(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinity."""
    return [k for k, v in tensors.items() if not _is_finite(v)]


def refuse_broken(broken: Collection[str], total: int, *, source: str) -> None:
    """Raise CheckpointError where `broken_in` found any among `total` tensors."""
    if broken:
        raise CheckpointError(
            f"{source} holds NaN or infinite weights in {len(broken)} of {total} tensors "
            f"({listed(broken)}). The training that made it diverged, or the file is damaged: "
            "use an earlier one, or get it again."
        )


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    if tensor.element_size() < 2:  # torch has few functions for numbers of 8 bits
        tensor = tensor.float()
    low, high = tensor.aminmax()  # NaN comes through, and nothing as large as the weights is made
    return bool(low.isfinite() and high.isfinite())
