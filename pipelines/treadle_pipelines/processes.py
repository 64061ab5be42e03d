"""The processes of a run: find them and end them, Ray's included."""

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import psutil


def end(
    variable: str, value: str, family: Iterable[psutil.Process] = (), patience_s: float = 8.0
) -> None:
    """Ask every process whose environment says ``variable=value``, its descendants and ``family``
    to end; after ``patience_s`` make them. What Ray left behind is removed."""

    def of_run() -> set[psutil.Process]:
        found = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid != os.getpid() and process.environ().get(variable) == value:
                    # Ray's agents write their titles over their environment.
                    found |= {process, *descendants(process)}
        return found

    left = of_run() | set(family)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT if sys.platform != "win32" else signal.SIGTERM)
    _, stubborn = psutil.wait_procs(left, timeout=patience_s)
    killed = {*stubborn, *of_run()}
    for process in killed:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(killed, timeout=2)
    sweep_ray()


def descendants(process: psutil.Process | None = None) -> list[psutil.Process]:
    """Return all descendants of a process, of this one for None."""
    try:
        return (process or psutil.Process()).children(recursive=True)
    except psutil.Error:
        return []


def sweep_ray() -> None:
    """Remove the directories of Ray sessions that have ended: a step that was killed, or whose
    terminal was closed, couldn't remove its own, or not all of it."""
    alive = ""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive += " ".join(process.cmdline())
    for directory in Path("/tmp").glob("treadle-ray-*_*"):  # noqa: S108 - where adapters.ray has it
        maker = directory.name.removeprefix("treadle-ray-").partition("_")[0]
        if str(directory) not in alive and not _runs(maker):
            shutil.rmtree(directory, ignore_errors=True)


def _runs(number: str) -> bool:
    try:
        return psutil.Process(int(number)).status() != psutil.STATUS_ZOMBIE
    except (ValueError, psutil.Error):
        return False
