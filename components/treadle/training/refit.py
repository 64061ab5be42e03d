"""Fit the winner on all training rows and export it as a bundle that is held against it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from treadle import bundle, prepared, segments
from treadle.encoding import NULL_CATEGORY
from treadle.errors import ModelError
from treadle.records import Parity, Recipe, Signature, Trial
from treadle.search import UNITS
from treadle.signature import arrays
from treadle.training import candidate, families, mlmodel, onnx_export
from treadle.training.families import Objective
from treadle.training.segments import Segmented
from treadle.transformers import build_transformer

PARITY_ROWS = 2_000
GOLDEN_ROWS = 8


def fit(
    best: Trial, directory: Path, rows: prepared.TrainingRows, objective: Objective, cores: int
) -> Pipeline:
    """Fit a trial's candidate on all training rows, transformer included."""
    units = best.units or UNITS
    transformer = build_transformer(Recipe.read(directory / prepared.RECIPE))
    matrix = transformer.fit_transform(rows.columns, rows.answers)
    estimator = families.build(best.family, objective, dict(best.parameters), units)
    families.grow(
        estimator, best.family, units, objective, matrix, rows.answers, rows.weights, cores
    )
    return Pipeline([("transformer", transformer), ("estimator", estimator)])


def write_bundle(
    pipeline: Pipeline,
    rows: prepared.TrainingRows,
    signature: Signature,
    directory: Path,
    out: Path,
    segmented: Segmented | None = None,
) -> Parity:
    """Write the bundle of a fitted pipeline to ``out``: ONNX if it is equal, else skops; with the
    models of segments, if there are any. Raises ModelError where those can't be."""
    out.mkdir(parents=True, exist_ok=True)
    (out / bundle.ONNX).write_bytes(onnx_export.export(pipeline, signature))
    signature.write(out / bundle.SIGNATURE)
    shutil.copyfile(directory / prepared.REFERENCE, out / bundle.REFERENCE)
    shutil.copyfile(directory / prepared.SCHEMA, out / bundle.SCHEMA)
    probes = probe_rows(rows.columns, signature)
    parity = _compare(pipeline, out, probes, rows.answers, signature)
    if not parity.passed:
        import skops.io as sio  # seldom needed, and long to import

        (out / bundle.ONNX).unlink()
        sio.dump(pipeline, out / bundle.SKOPS)
    if segmented:
        _write_segments(segmented, pipeline, signature, parity, out)
    why = _why_native(parity, segmented)
    (out / bundle.MLMODEL).write_text(mlmodel.render(signature, why), encoding="utf-8")
    _write_golden(out, probes, signature)
    return parity


def _why_native(parity: Parity, segmented: Segmented | None) -> str | None:
    """Say why the bundle has no graph, if it has none."""
    if segmented:
        columns = " and ".join(segmented.index.columns)
        return f"it holds a model for each {columns}, and Python chooses among their graphs"
    if parity.passed:
        return None
    labels = parity.equal_labels
    wrong = "" if labels in (None, 1.0) else f", and {1 - (labels or 0):.2%} of the labels"
    return (
        f"on {parity.rows:,} rows its ONNX graph differs from scikit-learn by up to "
        f"{parity.largest_difference:.3g} (allowed: {parity.tolerance:.3g}){wrong}; it runs in "
        "Python with scikit-learn alone"
    )


def _write_segments(
    segmented: Segmented, pipeline: Pipeline, signature: Signature, parity: Parity, out: Path
) -> None:
    """Put the pooled graph and those of the segments into one file."""
    if not parity.passed:
        raise ModelError(
            "training.segments needs a pooled model that ONNX can run as scikit-learn does, and "
            f"answers differ by {parity.largest_difference:.3g}: leave segments out, or name other "
            "training.families"
        )
    pooled = out / bundle.ONNX
    graphs = {
        **segmented.graphs,
        segments.POOLED: pooled.read_bytes(),
        segments.MATRIX: onnx_export.export_transformer(pipeline["transformer"], signature),
    }
    segments.write(out / bundle.SEGMENTS, segmented.index, graphs)
    pooled.unlink()


def probe_rows(columns: pd.DataFrame, signature: Signature) -> pd.DataFrame:
    """Return real rows spread over the table, and among them some with a null or an unseen
    category in each column in turn."""
    picked = np.unique(np.linspace(0, len(columns) - 1, PARITY_ROWS).astype(int))
    probes = columns.iloc[picked].reset_index(drop=True)
    for position, name in enumerate(signature.names):
        rows = slice(2 * position, 2 * position + 2)
        where = probes.index[rows]
        if probes[name].dtype == object or pd.api.types.is_string_dtype(probes[name]):
            odd: list[Any] = [NULL_CATEGORY, "never seen before"]
            probes.loc[where, name] = odd[: len(where)]
        else:
            probes.loc[where, name] = np.nan
    return probes


def _compare(
    pipeline: Pipeline,
    out: Path,
    probes: pd.DataFrame,
    answers: prepared.Answers,
    signature: Signature,
) -> Parity:
    """Hold the graph's answers against scikit-learn's."""
    exported = bundle.OnnxModel(out / bundle.ONNX).output(arrays(probes))
    native = candidate.predict(pipeline, probes, len(signature.classes))
    difference = float(np.max(np.abs(exported - native)))
    if signature.task.is_classification:
        equal = float(np.mean(exported.argmax(axis=1) == native.argmax(axis=1)))
        tolerance = 1e-3
    else:
        equal, tolerance = None, 1e-3 * float(np.std(answers))
    return Parity(
        rows=len(probes),
        largest_difference=difference,
        equal_labels=equal,
        tolerance=tolerance,
        passed=difference <= tolerance and equal in (None, 1.0),
    )


def _write_golden(out: Path, probes: pd.DataFrame, signature: Signature) -> None:
    """Keep a few real rows, the first with nulls, and the bundle's answers to them."""
    places = [0, *np.linspace(len(probes) // 2, len(probes) - 1, GOLDEN_ROWS - 1).astype(int)]
    columns = arrays(probes)
    rows = [bundle.decode_row(columns, int(place), signature) for place in places]
    golden = {"rows": rows, "answers": bundle.Bundle.at(out).predict_rows(rows)}
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (out / bundle.GOLDEN).write_text(text, encoding="utf-8")
