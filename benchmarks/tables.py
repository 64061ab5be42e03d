"""Treadle's reading, checking and comparing of tables beside the tools one would take instead.

    make bench-tables                   under 10 minutes
    make bench-tables ARGUMENTS="--full --only snapshot --huge-gb 4"

Ends with one line a figure, ``ratio <measure> vs <peer>: <number>``, and keeps the same as JSON.
"""

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from bench import Bench
from results import keep

PARTS = ("checks", "snapshot")


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
        bench = Bench(scratch, options.full, options.huge_gb)
        ratios = [
            ratio.told()
            for part in options.only or PARTS
            for ratio in importlib.import_module(f"parts.{part}").measure(bench)
        ]
    found = {"full": options.full, "failed": bench.failed}
    kept = keep("tables", {**found, "ratios": [ratio.plain() for ratio in ratios]})
    print(f"kept as {kept}", file=sys.stderr)
    for ratio in ratios:
        print(ratio)
    return int(not all(ratio.holds for ratio in ratios))


if __name__ == "__main__":
    sys.exit(main())
