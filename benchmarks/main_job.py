"""What the main job costs: a clone, `make run`, and the small commands, against their limits.

    make bench-main

Clones the repository into a scratch directory, so that everything happens as on a fresh machine
but for the package cache. Memory is the sum of PSS over all processes of the run, sampled twice a
second: RSS would count shared pages several times.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
from results import keep

ROOT = Path(__file__).parents[1]
# From the project's first goals, on 2 cores with a warm package cache.
LIMITS = {
    "make run on a fresh clone, s": 360.0,
    "the pipeline itself, s": 240.0,
    "peak memory, GiB": 4.0,
    "most overhead of a step, s": 2.0,
    "treadle --help, s": 0.3,
    "treadle models, s": 1.5,
}


def main() -> int:
    """Measure, print a line a figure, keep the JSON; 1 where a limit is broken."""
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        clone = Path(scratch) / "treadle"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        figures, steps = measure(clone)
    for name, value in figures.items():
        limit = LIMITS[name]
        print(f"{name}: {value:.2f} (limit {limit:g}, {value / limit:.0%} of it)")
    for step in steps:
        print(f"  {step['stage']:<11} work {step['work_s']:6.2f} s, beyond it "
              f"{step['overhead_s']:.2f} s")  # fmt: skip
    kept = keep("main-job", {"figures": figures, "limits": LIMITS, "steps": steps})
    print(f"kept as {kept}")
    return int(any(value > LIMITS[name] for name, value in figures.items()))


def measure(clone: Path) -> tuple[dict[str, float], list[dict[str, float]]]:
    """Run the main job in ``clone``; return its figures and what each step cost."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    started = time.monotonic()
    process = subprocess.Popen(
        ["make", "run"], cwd=clone, env=environment, stdout=subprocess.DEVNULL
    )
    peak = Peak(process.pid)
    code = process.wait()
    seconds = time.monotonic() - started
    peak.stop()
    if code:
        sys.exit(f"make run ended with {code}")
    (report,) = (clone / ".treadle" / "reports").glob("*.json")
    run = json.loads(report.read_text(encoding="utf-8"))
    treadle = str(clone / ".venv/bin/treadle")
    figures = {
        "make run on a fresh clone, s": seconds,
        "the pipeline itself, s": run["seconds"],
        "peak memory, GiB": peak.bytes / 2**30,
        "most overhead of a step, s": max(step["overhead_s"] for step in run["steps"]),
        "treadle --help, s": median_s([treadle, "--help"], clone),
        "treadle models, s": median_s([treadle, "models"], clone),
    }
    return figures, run["steps"]


def median_s(command: list[str], directory: Path, times: int = 7) -> float:
    """Return the median wall time of a command."""
    taken = []
    for _ in range(times):
        started = time.monotonic()
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
        taken.append(time.monotonic() - started)
    return statistics.median(taken)


class Peak:
    """Watches the memory of a process and all it starts."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._process = psutil.Process(pid)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.5):
            self.bytes = max(self.bytes, self._now())

    def _now(self) -> int:
        total = 0
        try:
            processes = [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return 0
        for process in processes:
            try:
                total += process.memory_full_info().pss
            except psutil.Error:
                continue
        return total

    def stop(self) -> None:
        """Stop watching."""
        self._done.set()
        self._thread.join()


if __name__ == "__main__":
    sys.exit(main())
