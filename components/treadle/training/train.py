"""Search, refit the winner on all training rows, export it as a bundle."""

import json
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import skops.io as sio
from sklearn.base import clone
from sklearn.pipeline import Pipeline

from treadle import bundle, prepared
from treadle.metrics import measure
from treadle.records import Parity, Signature, Training, Trial
from treadle.search import UNITS, SearchProblem
from treadle.signature import NULL_CATEGORY, Column
from treadle.spec import TrainingOptions
from treadle.training import candidate, mlmodel, onnx_export
from treadle.training.families import FAMILIES, final_estimator

PARITY_ROWS = 2_000
GOLDEN_ROWS = 8
Search = Callable[[SearchProblem], list[Trial]]


def run(
    name: str, directory: Path, options: TrainingOptions, search: Search, out: Path, cores: int
) -> tuple[Training, Parity]:
    """Train on the prepared ``directory`` and write the bundle to ``out``."""
    signature = Signature.read(directory / prepared.SIGNATURE)
    wanted = measure(signature.task, options.metric)
    problem = SearchProblem(
        name=name,
        spaces={family.value: FAMILIES[family].space for family in options.families},
        first={family.value: FAMILIES[family].first for family in options.families},
        grow=partial(
            candidate.grow, signature.task, len(signature.classes), options.metric, options.seed
        ),
        data=directory,
        trials=options.trials,
        budget_s=options.budget_s,
        seed=options.seed,
    )
    started = time.monotonic()
    trials = search(problem)
    searched = time.monotonic() - started
    best = choose(trials)
    started = time.monotonic()
    columns, answers = prepared.load_training(directory)
    pipeline = _refit(best, directory, columns, answers, signature, options.seed, cores)
    training = Training(
        metric=wanted.name.value,
        trials=trials,
        best=best,
        search_seconds=searched,
        refit_seconds=time.monotonic() - started,
        fit_rows=len(columns),
    )
    parity = _write_bundle(pipeline, columns, answers, signature, directory, out)
    return training, parity


def choose(trials: list[Trial]) -> Trial:
    """Return the trial with the best score at its last report; the earlier one where two tie.

    Trials that ran to the end go first: a score after a third of the rounds says less.
    """
    reported = [trial for trial in trials if trial.score is not None and not np.isnan(trial.score)]
    finished = [trial for trial in reported if not trial.stopped_early] or reported
    return max(finished, key=lambda trial: (trial.score or 0.0, -trial.number))


def _refit(
    best: Trial,
    directory: Path,
    columns: pd.DataFrame,
    answers: prepared.Answers,
    signature: Signature,
    seed: int,
    cores: int,
) -> Pipeline:
    units = best.curve[-1][0] if best.curve else UNITS
    estimator = final_estimator(
        best.family, signature.task, dict(best.parameters), units, seed, cores
    )
    transformer = sio.load(directory / prepared.TRANSFORMER, trusted=bundle.TRUSTED)
    pipeline = Pipeline([("transformer", clone(transformer)), ("estimator", estimator)])
    return pipeline.fit(columns, answers)


def _write_bundle(
    pipeline: Pipeline,
    columns: pd.DataFrame,
    answers: prepared.Answers,
    signature: Signature,
    directory: Path,
    out: Path,
) -> Parity:
    out.mkdir(parents=True, exist_ok=True)
    (out / bundle.ONNX).write_bytes(onnx_export.export(pipeline, signature))
    signature.write(out / bundle.SIGNATURE)
    shutil.copyfile(directory / prepared.REFERENCE, out / bundle.REFERENCE)
    probes = probe_rows(columns, signature)
    parity = _compare(pipeline, out, probes, answers, signature)
    if not parity.passed:
        (out / bundle.ONNX).unlink()
        sio.dump(pipeline, out / bundle.SKOPS)
    (out / bundle.MLMODEL).write_text(mlmodel.render(signature, parity.passed), encoding="utf-8")
    _write_golden(out, probes, signature)
    return parity


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
    exported = bundle.OnnxModel(out / bundle.ONNX, signature).output(_columns(probes))
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
    columns = _columns(probes)
    rows = [bundle.decode_row(columns, int(place), signature) for place in places]
    golden = {"rows": rows, "answers": bundle.Bundle(out).predict_rows(rows)}
    text = json.dumps(golden, ensure_ascii=False, indent=1)
    (out / bundle.GOLDEN).write_text(text, encoding="utf-8")


def _columns(frame: pd.DataFrame) -> dict[str, Column]:
    return {str(name): frame[name].to_numpy() for name in frame.columns}
