"""A run inside a Kubernetes Job, and its log as the launcher elsewhere reads it: each event a line
of JSON, the summary in the last one."""

import contextlib
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from treadle.errors import GateRefused, Interrupted, TreadleError

# Exit code of a fault that may pass by itself (EX_TEMPFAIL): the Job tries again, and goes on from
# what was finished. What is sure to fail again ends with the codes that people know.
MAY_PASS = 75
# What stays in a home that lasts: the last runs, for their caches, and what was fetched lately.
KEEP_RUNS, KEEP_FETCHED_S = 5, 7 * 24 * 3600


def run(path: Path) -> int:
    """Run the spec at ``path``, printing every event; return the exit code."""
    from treadle import runtime
    from treadle_pipelines import local, run_report, spec_file

    out = sys.stdout  # kfp's own is sent elsewhere meanwhile

    def show(event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False, default=str), file=out, flush=True)

    try:
        spec = spec_file.load(path)
        home = runtime.settings().home
        tidy(home)
        done = local.run(spec, show)
        report = run_report.write(done, spec, home)
        key = report_key(done.run_id)
        runtime.object_store().put_file(key, report)
        summary = run_report.summary(done, spec, report)
        summary["report"] = runtime.object_store().uri(key)
    except KeyboardInterrupt:
        return Interrupted.exit_code  # the pod is ended: the next one goes on
    except TreadleError as error:
        code = MAY_PASS if error.may_pass else error.exit_code
        show({"kind": "ended", "error": str(error), "exit_code": code})
        return code
    show({"kind": "ended", "summary": summary})
    return 0 if summary["promoted"] else GateRefused.exit_code


def parse(line: str) -> dict[str, Any] | None:
    """Return the event in a line of the log, or None for one that is something else."""
    with contextlib.suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict) and "kind" in event:
            return event
    return None


def report_key(run_id: str) -> str:
    """Return the object store's key of a run's report."""
    return f"runs/{run_id}/report.html"


def tidy(home: Path) -> None:
    """Remove what former runs left in the home, but for the last ones: a step whose outcome is gone
    from the cache runs again."""
    for folder in (home / "steps", home / "runs"):
        runs = [path for path in folder.glob("*") if path.is_dir()]
        runs.sort(key=lambda path: path.stat().st_mtime)
        for old in runs[:-KEEP_RUNS]:
            shutil.rmtree(old, ignore_errors=True)
    for fetched in (home / "cache" / "s3").glob("*"):
        if time.time() - fetched.stat().st_mtime > KEEP_FETCHED_S:
            shutil.rmtree(fetched, ignore_errors=True)
