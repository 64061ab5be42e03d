"""Treadle's reading, checking and comparing of tables beside the tools one would take instead.

    make bench-tables                   under 10 minutes
    make bench-tables ARGUMENTS="--full --only snapshot --huge-gb 4"

Ends with one line a figure, ``ratio <measure> vs <peer>: <number>``, and keeps the same as JSON.
"""

import argparse
import dataclasses
import importlib
import sys
import tempfile
from pathlib import Path

from bench import HERE, Bench, Ratio, Run
from results import keep

PARTS = sorted(
    path.stem for path in (HERE / "parts").glob("*.py") if not path.stem.startswith("loop_")
)


def main() -> int:
    """Measure every part, print its ratios, keep them; 1 where one misses its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the large sizes too")
    parser.add_argument("--huge-gb", type=float, default=10.0, metavar="GB",
                        help="size of the largest CSV of --full (default: 10)")  # fmt: skip
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--scratch", type=Path, help="keep generated data here, for the next run")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as temporary:
        scratch = options.scratch or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        ratios = [
            _told(ratio)
            for part in options.only or PARTS
            for ratio in importlib.import_module(f"parts.{part}").measure(
                Bench(scratch, options.full, options.huge_gb)
            )
        ]
    kept = keep("tables", {"full": options.full, "ratios": [_plain(ratio) for ratio in ratios]})
    print(f"kept as {kept}", file=sys.stderr)
    for ratio in ratios:
        print(ratio)
    return int(not all(ratio.holds for ratio in ratios))


def _told(ratio: Ratio) -> Ratio:
    """Show a figure as soon as it is there, with what it comes from."""
    sign = "at least" if ratio.higher else "at most"
    limit = "" if ratio.limit is None else f"{sign} {ratio.limit:g}; "
    verdict = "" if ratio.holds else "MISSED, "
    words = f"{ratio}  ({verdict}{limit}ours {_run(ratio.ours)}, "
    print(f"{words}theirs {_run(ratio.theirs)})", file=sys.stderr, flush=True)
    return ratio


def _run(run: Run | None) -> str:
    return f"{run.seconds:.2f} s ({run.cpu_s:.2f} s CPU), {run.peak_mib:.0f} MiB" if run else "?"


def _plain(ratio: Ratio) -> dict[str, object]:
    return {**dataclasses.asdict(ratio), "holds": ratio.holds}


if __name__ == "__main__":
    sys.exit(main())
