"""What every step has in common: it is timed, its faults become words, and it ends when the
launcher does.

``with step("validate") as run:`` is the frame of each component's body.
"""

import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treadle import progress
from treadle.errors import TreadleError, from_os_error

LAUNCHER_VARIABLE = "TREADLE_LAUNCHER_PID"
INTERRUPTED = 130


@dataclass
class StepRun:
    """A step under way; what it puts into ``results`` reaches the launcher."""

    stage: str
    results: dict[str, object] = field(default_factory=dict)

    def result(self, **values: object) -> None:
        """Tell the launcher something (JSON-friendly values)."""
        self.results.update(values)


@contextmanager
def step(stage: str) -> Iterator[StepRun]:
    """Frame a step's work: time it, and end the process with the fault's words and exit code."""
    _end_with_launcher()
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, _interrupt)
    run = StepRun(stage)
    imports = _ImportClock()
    started = time.monotonic()
    progress.emit("started", stage=stage, process_started=_process_started())
    try:
        with imports:
            yield run
    except (TreadleError, OSError) as error:
        known = error if isinstance(error, TreadleError) else from_os_error(error)
        if known is None:
            _unexpected(stage, error)
            raise
        progress.emit("failed", stage=stage, error=str(known), exit_code=known.exit_code)
        print(f"{stage}: {known}", file=sys.stderr, flush=True)
        sys.exit(known.exit_code)
    except MemoryError:
        words = "out of memory: give it a smaller table or a bigger machine"
        progress.emit("failed", stage=stage, error=words, exit_code=1)
        sys.exit(1)
    except Exception as error:
        _unexpected(stage, error)
        raise
    except KeyboardInterrupt:
        progress.emit("failed", stage=stage, error="interrupted", exit_code=INTERRUPTED)
        sys.exit(INTERRUPTED)
    progress.emit(
        "finished",
        stage=stage,
        work_s=time.monotonic() - started,
        import_s=imports.seconds,
        results=run.results,
    )


def _unexpected(stage: str, error: Exception) -> None:
    """Tell of a fault that nobody foresaw; the traceback follows in the step's log."""
    words = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    words += " (a fault in Treadle, or one it has no words for yet)"
    progress.emit("failed", stage=stage, error=words, exit_code=1)


class _ImportClock:
    """Adds up the time that imports take in the main thread, so that they count as what a step
    costs beyond its work."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        self._import = builtins.__import__

    def __enter__(self) -> None:
        main = threading.main_thread()

        def timed(*arguments: Any, **named: Any) -> Any:
            if self._depth or threading.current_thread() is not main:
                return self._import(*arguments, **named)
            self._depth += 1
            begun = time.perf_counter()
            try:
                return self._import(*arguments, **named)
            finally:
                self._depth -= 1
                self.seconds += time.perf_counter() - begun

        builtins.__import__ = timed

    def __exit__(self, *fault: object) -> None:
        builtins.__import__ = self._import


def _process_started() -> float:
    """When this process began, in epoch seconds: what lies before the work is overhead."""
    stat = Path("/proc/self/stat")
    if not stat.exists():
        import psutil

        return psutil.Process().create_time()
    # psutil adds the boot time, which Linux gives in whole seconds; the age is exact.
    ticks = int(stat.read_text().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def _interrupt(_signal: int, _frame: object) -> None:
    """Interrupt the step once: a second signal must not cut its tidying up short."""
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    raise KeyboardInterrupt


def _end_with_launcher() -> None:
    """Interrupt this step if the launcher that waits for it is gone."""
    launcher = os.environ.get(LAUNCHER_VARIABLE)
    if not launcher or not Path(f"/proc/{launcher}").exists():
        return  # on a cluster, in a container, or on a system without /proc

    def watch() -> None:
        while Path(f"/proc/{launcher}").exists():
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=watch, daemon=True, name="launcher-watch").start()
