"""One attempt at a piece of work, bounded in time, wherever it is made."""

import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from treadle.records import Report
from treadle.search import Job, Scored

Result = TypeVar("Result")


class _TimeUp(BaseException):
    """Not an Exception: what a library catches must not swallow it."""


@dataclass(frozen=True)
class Done(Generic[Result]):
    """What came of a piece of work, or in words what went wrong; ``final``: not worth another
    attempt."""

    result: Result | None
    seconds: float
    fault: str | None = None
    final: bool = False


def bounded(limit_s: float, work: Callable[[], Result]) -> Done[Result]:
    """Call ``work``; end it when the time is up."""
    started = time.monotonic()
    result, fault, final = None, None, False
    try:
        with _time_limit(limit_s):
            result = work()
    except _TimeUp:
        fault, final = f"nothing reported within {limit_s:.0f} s: it was ended", True
    except Exception as error:
        fault = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return Done(result, time.monotonic() - started, fault, final)


def attempt(job: Job, limit_s: float, grow: Callable[[], Scored]) -> Report:
    """Call ``grow`` and report the scores that it returns, or what went wrong."""
    done = bounded(limit_s, grow)
    return Report(
        candidate=job.candidate,
        units=job.units,
        score=done.result.score if done.result else None,
        promise=done.result.promise if done.result else None,
        seconds=done.seconds,
        fault=done.fault,
        final=done.final,
    )


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _TimeUp in the block when the time is up. Works in the main thread only, and there as
    soon as the interpreter gets a word in, which every family grants between two trees or steps."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_signal: int, _frame: object) -> None:
        raise _TimeUp

    former = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


@contextmanager
def life_limit(seconds: float) -> Iterator[None]:
    """End this process when the time is up, even where the interpreter gets no word in: for a
    worker whose loss its owner bears."""
    with Path(os.devnull).open("w") as nobody:
        faulthandler.dump_traceback_later(seconds, exit=True, file=nobody)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
