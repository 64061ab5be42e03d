"""Tables of measured figures in the documents, from the reference runs: ``make figures``.

A document has a place for a table, ``<!-- figures NAME -->`` to ``<!-- end -->``; a test sees that
what stands there is what the newest reference run says. Prose around it is people's.
"""

import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import results

from documentation import whole
from documentation.links import ROOT
from documentation.markdown import table

RESULTS = ROOT / "benchmarks" / "results"
_PLACE = re.compile(r"(<!-- figures ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> None:
    """Write every table anew."""
    for document in sorted((ROOT / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        if (new := filled(text)) != text:
            document.write_text(new, encoding="utf-8")
            print(f"wrote {document.relative_to(ROOT)}")


def filled(text: str) -> str:
    """Return a document with its tables as the reference runs have them."""
    return _PLACE.sub(lambda place: f"{place[1]}\n{TABLES[place[2]]()}\n{place[3]}", text)


def reference(benchmark: str) -> dict[str, Any]:
    """Return the newest reference run of a benchmark."""
    runs = sorted(RESULTS.glob(f"reference-{benchmark}-2*.json"))
    found: dict[str, Any] = json.loads(runs[-1].read_text(encoding="utf-8"))
    return found


def _measured(benchmark: str) -> str:
    """Return a run's figures, then its ratios to its peers, as far as it has them."""
    run = reference(benchmark)
    tables = []
    if figures := results.figures(run):
        rows = []
        for name, value, limit in figures:
            what, _, unit = name.rpartition(", ")
            of_it = "" if limit is None else f"{value / limit:.0%}"
            bound = "" if limit is None else f"{_number(limit)} {unit}"
            rows.append([what or unit, f"{_number(value)} {unit if what else ''}", bound, of_it])
        tables.append(table(["what", "measured", "limit", "of it"], rows))
    if ratios := results.ratios(run):
        rows = [
            [ratio.name.removesuffix(", s").removesuffix(", ms"), f"{ratio.ahead:.3g}",
             "" if ratio.wanted is None else f"{ratio.wanted:.3g}",
             "" if ratio.holds else "**missed**"]
            for ratio in ratios
        ]  # fmt: skip
        tables.append(table(["beside a peer", "times ahead", "limit", ""], rows))
    return "\n".join(tables) + _where(run)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _fleets() -> str:
    rows = [
        [fleet["routing"], f"{fleet['memory_gib']:g} GiB", _popularity(fleet["zipf"]),
         f"{fleet['servers']:,}", f"{fleet['missed']:.1%}", _ms(fleet["p50_ms"]),
         _ms(fleet["p99_ms"]), _dollars(fleet["dollars_a_day"])]
        for fleet in reference("scale")["fleets"]
    ]  # fmt: skip
    heads = ["a request goes to", "memory for models", "models are asked", "servers", "not loaded",
             "median", "p99", "a day"]  # fmt: skip
    return table(heads, rows)


def _following() -> str:
    run = reference("scale")["following"]
    rows = [
        ["one server asks MLflow once", f"{run['mlflow_asked_s']:.1f} s of MLflow's processor"],
        [f"{run['servers']} servers ask every second",
         f"{run['mlflow_cores_at_every_second']:.0f} cores of MLflow"],
        ["one server asks the embedded registry once", f"{run['embedded_asked_s']:.2f} s"],
    ]  # fmt: skip
    return table(["who is champion, of 100,000 models", "costs"], rows)


def _logs() -> str:
    rows = [
        [name.partition(", ")[0], name.partition(", ")[2], f"{files / 1e6:,.1f} million",
         _dollars(files * 5e-6)]
        for name, files in reference("scale")["log"].items()
    ]  # fmt: skip
    return table(
        ["a request goes to", "the log is stored", "files a day", "writing them, a day"], rows
    )


def _retraining() -> str:
    run = reference("scale")["retraining"]
    rows = [
        ["runs a day", f"{run['runs_a_day']:,.0f}"],
        ["processors, always busy", f"{run['cores']:.1f}"],
        ["Jobs at once", f"{run['jobs_at_once']:.0f}"],
        ["runs on Kubeflow Pipelines at once", f"{run['kfp_runs_at_once']:.0f}"],
        ["pods that Kubeflow Pipelines starts", f"{run['kfp_pods_a_second']:.1f} a second"],
    ]
    return table(["every model once a week", "comes to"], rows)


def _popularity(zipf: float) -> str:
    return "very unevenly" if zipf >= 1 else "less unevenly"


def _ms(value: float) -> str:
    return f"{value:.0f} ms" if value >= 10 else f"{value:.1f} ms"


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}"


def _where(run: dict[str, Any]) -> str:
    machine = run["machine"]
    return (f"\nReference run of {run['at'][:10]}: {machine['cores']} cores, "
            f"{machine['memory_gib']:.0f} GiB, Python {machine['python']}.\n")  # fmt: skip


MEASURED = (
    "main-job",
    "registry",
    "analysis",
    "tables",
    "tuning",
    "loop",
    "serving",
    "edge",
)
TABLES: dict[str, Callable[[], str]] = {
    **{name: partial(_measured, name) for name in MEASURED},
    "scale-fleets": _fleets,
    "scale-following": _following,
    "scale-logs": _logs,
    "scale-retraining": _retraining,
    "whole-path": lambda: whole.path(reference("whole")) + _where(reference("whole")),
    "whole-steps": lambda: whole.steps(reference("whole")),
    "whole-growth": lambda: whole.growth(reference("whole")),
}


if __name__ == "__main__":
    main()
