"""What the processes of a run have to agree on. With one process nothing is asked of anybody."""

from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

T = TypeVar("T")


def gathered(accelerator: Accelerator, value: Any) -> list:
    """Every process's value, in their order."""
    return gather_object([value]) if accelerator.num_processes > 1 else [value]


def agreed(accelerator: Accelerator, value: T) -> T:
    """The main process's value: processes must leave the loop at the same step."""
    if accelerator.num_processes == 1:
        return value
    return broadcast_object_list([value])[0]


def mean_over(accelerator: Accelerator, values: dict[str, float]) -> dict[str, float]:
    """Every entry's mean over the processes that have it."""
    every = gathered(accelerator, values)
    keys = dict.fromkeys(key for one in every for key in one)
    found = {key: [one[key] for one in every if key in one] for key in keys}
    return {key: sum(numbers) / len(numbers) for key, numbers in found.items()}
