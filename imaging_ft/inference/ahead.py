"""Work on items in threads, a little ahead of whoever takes the results."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from imaging_ft.types import T

R = TypeVar("R")


def ahead(function: Callable[[T], R], items: Iterable[T], *, workers: int, most: int) -> Iterator[R]:
    """Yield function(item) for each item, in order, with at most `most` begun or waiting: there may be millions.

    Where whoever takes the results ends early, what has not begun is left undone.
    """
    waiting: deque[Future[R]] = deque()
    with ThreadPoolExecutor(max_workers=workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
