"""Raw tables to a served prediction, beside Metaflow and Kedro with MLflow and FastAPI; what a step
costs beyond its work, beside plain kfp.local, Metaflow, Prefect and Kedro; how time grows with rows
and with models.

    make bench-whole                               under 10 minutes
    make bench-whole ARGUMENTS="--full --only growth"

Ends with one line a figure, ``ratio <measure> vs <peer>: <number>`` (Treadle's over the peer's:
below 1 it is ahead), and keeps the same as JSON. There are no limits: it tells how things are.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import Bench, Ratio
from parts import whole_growth, whole_path, whole_steps
from results import keep

PARTS = ("path", "steps", "growth")


def main() -> int:
    """Measure every part, print its figures, keep them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the large sizes too")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    options = parser.parse_args()
    parts = options.only or PARTS
    found: dict[str, Any] = {"full": options.full}
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        bench = Bench(Path(scratch), options.full)
        if "path" in parts:
            ratios += [ratio.told() for ratio in whole_path.measure(bench, found)]
        if "steps" in parts:
            ratios += [ratio.told() for ratio in whole_steps.measure(bench, found)]
        if "growth" in parts:
            found["growth"] = whole_growth.measure(bench)
            found["figures"] = whole_growth.figures(found["growth"])
    found |= {"failed": bench.failed, "ratios": [ratio.plain() for ratio in ratios]}
    print(f"kept as {keep('whole', found)}", file=sys.stderr)
    for name, value in found.get("figures", {}).items():
        print(f"{name}: {value:.3g}")
    for ratio in ratios:
        print(ratio)
    return 0


if __name__ == "__main__":
    sys.exit(main())
