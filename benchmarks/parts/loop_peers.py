"""Peers on the windows that the benchmark of the loop wrote (``stable-*``, ``faulty-*``, each with
the number of its ``reference-*``). Runs in the peer's own environment; prints JSON."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

CHUNK_ROWS = 500
_fitted: dict[int, Any] = {}
Rule = Callable[[pd.DataFrame, pd.DataFrame], dict[str, bool]]


def evidently(reference: pd.DataFrame, rows: pd.DataFrame) -> dict[str, bool]:
    """Evidently's drift preset as it comes: half of the columns drifted (its own rule for a data
    set), or any did."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    done = Report([DataDriftPreset()]).run(rows, reference).dict()
    counted = next(metric["value"] for metric in done["metrics"]
                   if "DriftedColumnsCount" in str(metric))  # fmt: skip
    return {"the preset's rule": counted["share"] >= 0.5, "any column": counted["count"] > 0}


def nannyml(reference: pd.DataFrame, rows: pd.DataFrame) -> dict[str, bool]:
    """NannyML's univariate drift as it comes: any column of any chunk alerts, or one column does in
    most chunks."""
    import nannyml as nml

    calculator = _fitted.get(id(reference))
    if calculator is None:
        columns = list(reference.columns)
        calculator = nml.UnivariateDriftCalculator(column_names=columns, chunk_size=CHUNK_ROWS)
        _fitted[id(reference)] = calculator.fit(reference)
    found = calculator.calculate(rows).filter(period="analysis").to_df()
    alerts = found[[name for name in found.columns if name[-1] == "alert"]].astype(bool)
    return {"any alert": bool(alerts.to_numpy().any()),
            "a column in most chunks": bool((alerts.mean() > 0.5).any())}  # fmt: skip


def told(folder: Path, alarm: Rule) -> dict[str, object]:
    """Return how many windows each rule alarms on."""
    references = {path.stem[-1]: pd.read_parquet(path) for path in folder.glob("reference-*")}
    began = time.perf_counter()
    found: dict[str, list[dict[str, bool]]] = {"stable": [], "faulty": []}
    for path in sorted(folder.glob("stable-*")) + sorted(folder.glob("faulty-*")):
        rows = pd.read_parquet(path)
        found[path.stem.split("-")[0]].append(alarm(references[path.stem[-1]], rows))
    seconds = (time.perf_counter() - began) / sum(map(len, found.values()))
    alarms = {
        rule: {"false alarms": sum(one[rule] for one in found["stable"]),
               "caught": sum(one[rule] for one in found["faulty"])}
        for rule in found["stable"][0]
    }  # fmt: skip
    return {"alarms": alarms, "seconds a window": round(seconds, 2)}


if __name__ == "__main__":
    print(
        json.dumps(
            told(Path(sys.argv[2]), {"evidently": evidently, "nannyml": nannyml}[sys.argv[1]])
        )
    )
