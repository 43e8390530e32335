"""What comes next made by another thread, while this one works on what came before."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterator[T], count: int) -> Generator[T, None, None]:
    """The same items in the same order, up to `count` of them made before they are asked for.

    Decoders let other threads run, and so do the models: a frame is ready when the one before it
    is restored. All items are made by one thread, one after the other; what it raises is raised
    here in the item's place. Closed early, it waits for the item that is being made, so that
    whatever `items` reads from can be closed next.

    Args:
        items: given up to that thread.
        count: how many are held beside those that the caller holds, 1 or more.
    """
    waiting: deque[Any] = deque()
    with ThreadPoolExecutor(1, "ahead") as thread:
        try:
            waiting += [thread.submit(next, items, _END) for _ in range(count)]
            while (item := waiting.popleft().result()) is not _END:
                waiting.append(thread.submit(next, items, _END))
                yield item
        finally:
            for coming in waiting:
                coming.cancel()
