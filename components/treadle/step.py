"""What every step has in common: it is timed, its faults become words, and it ends when the
launcher does.

``with step("validate") as run:`` is the frame of each component's body.
"""

import builtins
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from treadle import last_words, progress
from treadle.errors import TreadleError, from_os_error
from treadle.progress import EventKind

# Imports make many objects that stay; looking among them for garbage costs a fifth of their time.
gc.set_threshold(200_000, 50, 100)

LAUNCHER_VARIABLE = "TREADLE_LAUNCHER_PID"
INTERRUPTED = 130
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, a closed terminal


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
    for end in _ENDS:
        signal.signal(end, _interrupt)
    run = StepRun(stage)
    imports = _ImportClock()
    started = time.monotonic()
    try:
        progress.emit("started", stage=stage, process_started=_process_started())
        with imports:
            yield run
        progress.emit(
            "finished",
            stage=stage,
            work_s=time.monotonic() - started,
            import_s=imports.seconds,
            results=run.results,
        )
    except (TreadleError, OSError) as error:
        known = error if isinstance(error, TreadleError) else from_os_error(error)
        if known is None:
            _unexpected(stage, error)
            raise
        _failed(stage, str(known), known.exit_code, known.may_pass)
    except MemoryError:
        _failed(stage, "out of memory: give it a smaller table or a bigger machine", 1)
    except Exception as error:
        _unexpected(stage, error)
        raise
    except KeyboardInterrupt:
        _failed(stage, "interrupted", INTERRUPTED)


def _failed(stage: str, words: str, exit_code: int, may_pass: bool = False) -> NoReturn:
    """End the process with a fault's words, in its log and for the launcher."""
    _tell("failed", stage=stage, error=words, exit_code=exit_code, may_pass=may_pass)
    last_words.leave(f"{stage}: {words}", exit_code)
    print(f"{stage}: {words}", file=sys.stderr, flush=True)
    sys.exit(exit_code)


def _tell(kind: EventKind, **fields: object) -> None:
    """Emit an event of the end: a disk that is full must not hide the fault itself."""
    with suppress(OSError):
        progress.emit(kind, **fields)


def _unexpected(stage: str, error: Exception) -> None:
    """Tell of a fault that nobody foresaw; the traceback follows in the step's log."""
    words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    words += " (a fault in Treadle, or one it has no words for yet)"
    _tell("failed", stage=stage, error=words, exit_code=1, may_pass=False)
    last_words.leave(f"{stage}: {words}", 1)


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
    for end in _ENDS:
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
