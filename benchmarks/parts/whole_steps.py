"""What a step costs beyond its work: a row of steps that do nothing, or import pandas and
scikit-learn and do nothing, in Treadle's frame, plain kfp.local, Metaflow, Prefect and Kedro.

Timed is a run with MORE steps less a run with one, over MORE: what a run costs whatever its steps,
as Prefect's server, isn't in it. Treadle, kfp.local and Metaflow give each step a process of its
own; Prefect and Kedro run functions in the process that is there, which import once.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import Bench, Ratio, Side, times_slower, work

MORE, TIMES = 8, 3
LOADS = {"nothing": "", "imports": "pandas,sklearn.ensemble"}
WORDS = {"nothing": "a step that does nothing", "imports": "a step that imports scikit-learn"}
PROCESSES = {"kfp.local, plain": ("kfp", None), "Metaflow": ("metaflow", "metaflow")}
# What is imported here was imported by the step before.
FUNCTIONS = {"Prefect": ("prefect", "prefect"), "Kedro": ("kedro", "kedro")}
PEERS = {"nothing": PROCESSES | FUNCTIONS, "imports": PROCESSES}


def measure(bench: Bench, found: dict[str, Any]) -> Iterator[Ratio]:
    """Race all for each of the LOADS; keep what a step takes, in ms."""
    for load in LOADS:
        sides = {"Treadle": Side("whole_steps", "treadle", (load,), times=TIMES)}
        for name, (program, environment) in PEERS[load].items():
            sides[name] = Side("whole_steps", program, (load,), environment, TIMES)
        runs = bench.race(sides)
        found.setdefault("steps", {})[load] = {
            name: {"ms": 1000 * run.seconds, "cpu_ms": 1000 * run.cpu_s,
                   "spread_ms": [1000 * each for each in run.spread_s or ()]}
            for name, run in runs.items()
        }  # fmt: skip
        ours = runs.pop("Treadle")
        for name, theirs in runs.items():
            yield times_slower(WORDS[load], ours, name, theirs, None)


def _told(run: Callable[[int], object]) -> None:
    """Time a run with one step and one with MORE further ones; say what one of these took."""
    run(1)
    taken = []
    for steps in (1, 1 + MORE):
        cpu_s, began = _cpu_s(), time.perf_counter()
        run(steps)
        taken.append((time.perf_counter() - began, _cpu_s() - cpu_s))
    (one_s, one_cpu_s), (many_s, many_cpu_s) = taken
    print()
    print(json.dumps({"seconds": max(many_s - one_s, 1e-6) / MORE,
                      "cpu_s": max(many_cpu_s - one_cpu_s, 0) / MORE}))  # fmt: skip


def _cpu_s() -> float:
    """Return the processor time of this process and of all that it started and that ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def treadle(load: str) -> None:
    """Steps in Treadle's frame, run by kfp.local as the launcher has it: with its cache."""
    from kfp import dsl

    from treadle.progress import EVENTS_VARIABLE
    from treadle.step import LAUNCHER_VARIABLE

    @dsl.component(base_image="treadle", install_kfp_package=False)
    def framed(number: int, load: str) -> int:
        from treadle.step import step

        with step("ingest") as run:
            import importlib

            for name in filter(None, load.split(",")):
                importlib.import_module(name)
            run.result(number=number)
        return number

    with TemporaryDirectory(prefix="treadle-bench-") as scratch:
        os.environ |= {EVENTS_VARIABLE: f"{scratch}/events.jsonl",
                       LAUNCHER_VARIABLE: str(os.getpid())}  # fmt: skip
        _kfp_local(framed, load, Path(scratch), enable_caching=True)


def kfp(load: str) -> None:
    """Steps of plain kfp.local, each a process without an environment of its own."""
    from kfp import dsl

    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def plain(number: int, load: str) -> int:
        import importlib

        for name in filter(None, load.split(",")):
            importlib.import_module(name)
        return number

    with TemporaryDirectory(prefix="treadle-bench-") as scratch:
        _kfp_local(plain, load, Path(scratch), enable_caching=False)


def _kfp_local(component: Any, load: str, scratch: Path, enable_caching: bool) -> None:
    from kfp import dsl, local

    local.init(
        runner=local.SubprocessRunner(use_venv=False), pipeline_root=str(scratch / "root"),
        workspace_root=str(scratch / "workspace"), enable_caching=enable_caching,
        cache_root=str(scratch / "cache"),
    )  # fmt: skip
    runs = iter(range(100))

    def run(steps: int) -> None:
        first = 1000 * next(runs)

        @dsl.pipeline(name="steps")  # type: ignore[untyped-decorator]
        def row() -> None:
            before = None
            for number in range(first, first + steps):
                # Another number, or the cache would have it.
                task = component(number=number, load=LOADS[load])
                before = task.after(before) if before else task

        with (scratch / "log").open("a") as log, contextlib.redirect_stdout(log):
            row()

    _told(run)


_FLOW = """
from metaflow import FlowSpec, step

class Steps(FlowSpec):
    @step
    def start(self):
        self.number = 0
        self.next(self.step_1)
{steps}
    @step
    def end(self):
        pass

if __name__ == "__main__":
    Steps()
"""
_STEP = """
    @step
    def step_{number}(self):
        {imports}
        self.number = {number}
        self.next(self.{after})
"""


def metaflow(load: str) -> None:
    """A flow's steps, each a process."""
    imports = f"import {LOADS[load]}" if LOADS[load] else "pass"
    with TemporaryDirectory(prefix="treadle-bench-") as scratch:
        os.environ |= {"METAFLOW_DATASTORE_SYSROOT_LOCAL": scratch, "USERNAME": "bench",
                       "DO_NOT_TRACK": "1"}  # fmt: skip

        def run(steps: int) -> None:
            after = [f"step_{number}" for number in range(2, steps + 1)] + ["end"]
            written = [
                _STEP.format(number=number, imports=imports, after=name)
                for number, name in enumerate(after, 1)
            ]
            path = Path(scratch, f"flow_{steps}.py")
            path.write_text(_FLOW.format(steps="".join(written)))
            subprocess.run([sys.executable, path.name, "run"], cwd=scratch, check=True,
                           stdout=subprocess.DEVNULL)  # fmt: skip

        _told(run)


def prefect(load: str) -> None:
    """A flow's tasks, functions in one process that tell a server of their own how they get on."""
    with TemporaryDirectory(prefix="treadle-bench-", ignore_cleanup_errors=True) as scratch:
        os.environ |= {"PREFECT_HOME": scratch, "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
                       "DO_NOT_TRACK": "1"}  # fmt: skip
        from prefect import flow, task

        nothing = task(_import, name="nothing")

        @flow
        def row(steps: int) -> None:
            for number in range(steps):
                nothing(number, LOADS[load])

        _told(row)


def kedro(load: str) -> None:
    """A pipeline's nodes, functions in one process."""
    from kedro.io import DataCatalog, MemoryDataset
    from kedro.pipeline import Node, Pipeline
    from kedro.runner import SequentialRunner

    def run(steps: int) -> None:
        nodes = [
            Node(lambda before: _import(before, LOADS[load]), f"out_{number}", f"out_{number + 1}",
                 name=f"step_{number}")
            for number in range(steps)
        ]  # fmt: skip
        SequentialRunner().run(Pipeline(nodes), DataCatalog({"out_0": MemoryDataset(0)}))

    _told(run)


def _import(number: int, modules: str) -> int:
    """What a step does."""
    import importlib

    for name in filter(None, modules.split(",")):
        importlib.import_module(name)
    return number


if __name__ == "__main__":
    work({each.__name__: each for each in (treadle, kfp, metaflow, prefect, kedro)})
