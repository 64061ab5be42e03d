"""Every benchmark one after another, and one page that shows what each came to.

    make bench                              some 50 minutes on two quiet cores
    make bench ARGUMENTS="--only registry"  one part (again)
    make bench ARGUMENTS="--page"           only the page, from the newest runs

A benchmark is a program in this directory that keeps its findings by ``results.keep``. The page is
``results/index.html``. What is guarded are ratios, and not seconds: Treadle and its peer run side
by side, so that the peer is the yardstick of the same machine in the same minutes. A ratio that is
worse than in the reference run by more than SLACK is named, and the exit code is 1, as it is where
a part misses a limit of its own.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import page
from results import RESULTS, ratios

HERE = Path(__file__).parent
SLACK = 1.5
_KEEPS = re.compile(r"""\bkeep\(\s*["']([a-z-]+)["']""")


def main() -> int:
    """Run, show, guard."""
    known = programs()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(known), action="append", help="this part alone")
    parser.add_argument("--page", action="store_true", help="run nothing")
    options = parser.parse_args()
    chosen = [] if options.page else options.only or list(known)
    missed = [name for name in chosen if not run(name, known[name])]
    runs = {name: found for name in known if (found := newest(name)) is not None}
    path = page.write({name: (found, ratios(found)) for name, found in runs.items()})
    print(f"open {path}")
    worse = [words for name in chosen if name in runs for words in regressions(name, runs[name])]
    for words in worse:
        print(f"worse than the reference: {words}")
    for name in missed:
        print(f"{name} misses a limit, or failed: see above")
    return int(bool(missed or worse))


def programs() -> dict[str, Path]:
    """Return the benchmarks by the names under which they keep what they find."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        if path.name not in ("all.py", "results.py", "page.py"):
            for name in _KEEPS.findall(path.read_text(encoding="utf-8")):
                found[name] = path
    return found


def run(name: str, program: Path) -> bool:
    """Run a benchmark to its end; say whether it held its limits."""
    started = time.monotonic()
    print(f"== {name}", flush=True)
    code = subprocess.run([sys.executable, str(program)], cwd=HERE.parent).returncode
    print(f"== {name}: {time.monotonic() - started:.0f} s, exit code {code}", flush=True)
    return code == 0


def newest(name: str, kind: str = "") -> dict[str, Any] | None:
    """Return a benchmark's newest run, or its newest reference."""
    pattern = f"{kind}{name}-2*.json" if kind else f"*{name}-2*.json"
    own = re.compile(rf"(?:reference-)?{re.escape(name)}-2\d{{3}}-")
    runs = [json.loads(p.read_text("utf-8")) for p in RESULTS.glob(pattern) if own.match(p.name)]
    return max(runs, key=lambda each: str(each["at"]), default=None)


def regressions(name: str, found: dict[str, Any]) -> list[str]:
    """Return in words which ratios are worse than in the reference."""
    reference = newest(name, "reference-")
    before = {} if reference is None else {ratio.name: ratio for ratio in ratios(reference)}
    return [
        f"{ratio.name}: {ratio.number:.2f}, was {before[ratio.name].number:.2f}"
        for ratio in ratios(found)
        if ratio.name in before and ratio.ahead * SLACK < before[ratio.name].ahead
    ]


if __name__ == "__main__":
    sys.exit(main())
