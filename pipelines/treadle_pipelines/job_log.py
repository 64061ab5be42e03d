"""A run inside a Kubernetes Job, and its log as the launcher elsewhere reads it: each event a line
of JSON, the summary in the last one."""

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

from treadle.errors import GateRefused, Interrupted, TreadleError

# Exit code of a fault that may pass by itself (EX_TEMPFAIL): the Job tries again, and goes on from
# what was finished. What is sure to fail again ends with the codes that people know.
MAY_PASS = 75


def run(path: Path) -> int:
    """Run the spec at ``path``, printing every event; return the exit code."""
    from treadle import runtime
    from treadle_pipelines import local, run_report, spec_file

    out = sys.stdout  # kfp's own is sent elsewhere meanwhile

    def show(event: dict[str, Any]) -> None:
        print(json.dumps(event, ensure_ascii=False, default=str), file=out, flush=True)

    try:
        spec = spec_file.load(path)
        done = local.run(spec, show)
        report = run_report.write(done, spec, runtime.settings().home)
        summary = run_report.summary(done, spec, report)
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
