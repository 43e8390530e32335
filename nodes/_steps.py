"""Long work seen by the host: progress, and an ear for the stop button."""

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from ._host import host


def steps(parts: Sequence[Tensor]) -> Iterator[Tensor]:
    """Hand out `parts` one by one; the host's progress bar counts what is in them."""
    report = reporter(sum(len(part) for part in parts))
    for part in parts:
        yield part
        report(len(part))


def reporter(total: int) -> Callable[[int], None]:
    """A function to be called with the number of faces or pictures just finished."""
    bar = host.progress(total)

    def finished(n: int) -> None:
        bar.update(n)
        host.check_interrupt()

    return finished
