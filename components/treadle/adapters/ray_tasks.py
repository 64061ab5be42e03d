"""Many small pieces of work, as Ray tasks: on this machine, or on the cluster that this process is
a job of."""

import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from treadle.adapters.ray import RESTARTS, cause, local_ray

import ray  # after treadle.adapters.ray, which sets up its environment  # isort: skip

Item = TypeVar("Item")
Result = TypeVar("Result")
Call = Callable[[Any, Item], Result]
Found = tuple[Item, Result | str]
# So many wait for each worker: none of them waits for us, who may be at work ourselves.
AHEAD = 2


def spread(
    call: Call[Item, Result], shared: Any, items: Sequence[Item], size_bytes: int, cores: int
) -> Generator[Found[Item, Result]]:
    """Call ``call(shared, item)`` for each item on this machine's cores, and yield items with
    results as they come; in words where the worker was lost for good. ``shared``, of
    ``size_bytes``, goes into Ray's object store once.

    This process does its part: it has imported all that is needed, and works while Ray starts.
    """
    waiting = list(reversed(items))
    with _starting(size_bytes, max(1, cores - 1)) as ray_is_there:
        while waiting and not ray_is_there.done():
            item = waiting.pop()
            yield item, call(shared, item)
        if not waiting:
            return
        ray_is_there.result()
        tasks = _Tasks(call, shared, max(1, cores - 1))
        while waiting or tasks.running:
            tasks.feed(waiting)
            works_along = bool(waiting) and cores > 1
            yield from tasks.finished(wait=not works_along)
            if works_along:
                item = waiting.pop()
                yield item, call(shared, item)


def spread_there(
    call: Call[Item, Result], shared: Any, items: Sequence[Item], cores: int
) -> Generator[Found[Item, Result]]:
    """Do the same with ``cores`` of the cluster that this process has joined; its own node may not
    be one that takes work."""
    waiting = list(reversed(items))
    tasks = _Tasks(call, shared, cores)
    while waiting or tasks.running:
        tasks.feed(waiting)
        yield from tasks.finished(wait=True)


@contextmanager
def _starting(size_bytes: int, workers: int) -> Iterator["Future[str]"]:
    """Start Ray beside what the block does; it is stopped when the block is left."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as beside:
        yield beside.submit(stack.enter_context, local_ray(size_bytes, workers))


class _Tasks:
    """The tasks under way."""

    def __init__(self, call: Call[Any, Any], shared: Any, workers: int) -> None:
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        self._task = ray.remote(call).options(num_cpus=1, max_retries=RESTARTS)
        self._there = ray.put(shared)
        self._most = AHEAD * workers
        self.running: dict[Any, Any] = {}

    def feed(self, waiting: list[Any]) -> None:
        """Take as many items from the end of ``waiting`` as there is room for."""
        while waiting and len(self.running) < self._most:
            item = waiting.pop()
            self.running[self._task.remote(self._there, item)] = item

    def finished(self, wait: bool) -> Iterator[tuple[Any, Any]]:
        """Yield what has come; or else ``wait`` a second for something to come."""
        most = 1 if wait else len(self.running)
        done, _ = ray.wait(list(self.running), num_returns=most, timeout=1.0 if wait else 0.0)
        for answer in done:
            item = self.running.pop(answer)
            try:
                yield item, ray.get(answer)
            except ray.exceptions.RayError as error:
                yield item, f"its worker was lost {1 + RESTARTS} times: {cause(error)}"
