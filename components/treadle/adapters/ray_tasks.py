"""Many small pieces of work, as Ray tasks on this machine."""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from treadle.adapters.ray import RESTARTS, cause, local_ray

import ray  # after treadle.adapters.ray, which sets up its environment  # isort: skip

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(
    call: Callable[[Any, Item], Result],
    shared: Any,
    items: Sequence[Item],
    size_bytes: int,
    cores: int,
) -> Iterator[tuple[Item, Result | str]]:
    """Call ``call(shared, item)`` for each item, as many at a time as there are cores, and yield
    items with results as they come; in words where the worker was lost for good. ``shared``, of
    ``size_bytes``, goes into Ray's object store once."""
    with local_ray(size_bytes, cores):
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        task = ray.remote(call).options(num_cpus=1, max_retries=RESTARTS)
        there = ray.put(shared)
        waiting = list(reversed(items))
        running: dict[Any, Item] = {}
        while waiting or running:
            # One more than can run, so that no worker waits for us.
            while waiting and len(running) <= cores:
                item = waiting.pop()
                running[task.remote(there, item)] = item
            done, _ = ray.wait(list(running), timeout=1.0)
            for answer in done:
                item = running.pop(answer)
                try:
                    yield item, ray.get(answer)
                except ray.exceptions.RayError as error:
                    yield item, f"its worker was lost {1 + RESTARTS} times: {cause(error)}"
