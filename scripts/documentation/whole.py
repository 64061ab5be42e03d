"""The tables of ``make bench-whole`` in the documents: the path, the steps, growth."""

from collections.abc import Callable
from statistics import median
from typing import Any

from documentation.markdown import table

Run = dict[str, Any]
_PATH: dict[str, tuple[Callable[[Run], float], str]] = {
    "raw tables to an answer": (lambda walk: walk["run_s"] + walk["answer_s"], "{:.1f} s"),
    "the pipeline alone": (lambda walk: walk["run_s"], "{:.1f} s"),
    "its processor time": (lambda walk: walk["run_cpu_s"], "{:.1f} s"),
    "its memory, all processes (PSS)": (lambda walk: walk["run_mib"], "{:,.0f} MiB"),
    "the server's start to its first answer": (lambda walk: walk["answer_s"], "{:.1f} s"),
    "the server's memory": (lambda walk: walk["server_mib"], "{:,.0f} MiB"),
    "error on held-out rows (RMSE)": (lambda walk: walk["rmse"], "{:.2f}"),
}


def path(run: Run) -> str:
    """Return medians by way, and how far apart the runs were."""
    ways = run["path"]
    rows = [
        [what, *(_spread([of(walk) for walk in walks], worded) for walks in ways.values())]
        for what, (of, worded) in _PATH.items()
    ]
    return table(["", *ways], rows)


def _spread(values: list[float], worded: str) -> str:
    low, middle, high = (worded.format(f(values)) for f in (min, median, max))
    return middle if low == high else f"{middle} ({low.split()[0]} to {high.split()[0]})"


def steps(run: Run) -> str:
    """Return what a step costs in each frame."""
    words = {"nothing": "nothing", "imports": "imports pandas and scikit-learn"}
    names = list(run["steps"]["nothing"])
    rows = [
        [words[load], *(f"{told[name]['ms']:.1f} ms" if name in told else "" for name in names)]
        for load, told in run["steps"].items()
    ]
    return table(["a step that does", *names], rows)


def growth(run: Run) -> str:
    """Return the least and the largest size with their times, and the exponents."""
    rows = [
        [name, _time(grown, 0), _time(grown, -1), f"{grown['exponent']:.2f}",
         f"{grown['exponent_steady']:.2f}"]
        for name, grown in run["growth"].items()
    ]  # fmt: skip
    return table(["", "least", "most", "exponent", "of the larger sizes"], rows)


def _time(grown: Run, place: int) -> str:
    size, seconds = grown["sizes"][place], grown["seconds"][place]
    took = f"{1000 * seconds:.2g} ms" if seconds < 0.1 else f"{seconds:.3g} s"
    return f"{size:,} {grown['of'][: -1 if size == 1 else None]}: {took}"
