"""Look at later rows through the champion's eyes and decide: healthy, watch or retrain."""

from pathlib import Path

import duckdb
import numpy as np

from treadle import drift, metrics, prepared
from treadle.bundle import Bundle
from treadle.errors import DataError, nearest
from treadle.records import (
    ColumnDrift,
    Metric,
    ModelVersion,
    Monitoring,
    Verdict,
)
from treadle.signature import arrays, encode_frame
from treadle.spec import Feedback
from treadle.sql import connected, quoted, single

BOOTSTRAP = 200
MIN_ROWS = 30


def run(
    champion: ModelVersion, bundle: Bundle, rows: Path, options: Feedback, metric: str
) -> Monitoring:
    """Monitor the champion on the Parquet file ``rows``: rows that it was not trained on, with or
    without their answers. Raises DataError where too few are in the window."""
    split = champion.lineage.split
    with connected() as connection:
        found = connection.read_parquet(str(rows))
        _refuse_missing(bundle.signature.names, found.columns, champion.name)
        found.create_view("rows")
        window = _window(connection, split.column if split.by == "time" else None, options.window)
        count = int(single(connection, "SELECT count(*) FROM data")[0])
        if count < MIN_ROWS:
            raise DataError(
                f"{count} rows in {window}, fewer than the {MIN_ROWS} that a verdict needs"
            )
        features = [*bundle.signature.names]
        known = [column for column in bundle.reference.columns if column.name in features]
        columns = drift.compare(connection, known, count)
        measured, was = _performance(connection, champion, bundle, metric)
    verdict, reasons = decide(columns, measured, was, options)
    return Monitoring(
        verdict=verdict,
        reasons=reasons,
        rows=count,
        window=window,
        columns=columns,
        metric=measured,
        reference=was,
    )


def _refuse_missing(wanted: list[str], found: list[str], model: str) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        near = nearest(missing[0], found)
        raise DataError(
            f"the later rows lack columns that {model} reads: {', '.join(missing)}{near}"
        )


def _window(connection: duckdb.DuckDBPyConnection, column: str | None, window: str | None) -> str:
    """Create the view ``data``: the last so many days of the rows, or all of them."""
    if column is None or window is None:
        connection.execute("CREATE VIEW data AS SELECT * FROM rows")
        return "all rows that training didn't see"
    days, name = int(window.removesuffix("d")), quoted(column)
    connection.execute(
        f"CREATE VIEW data AS SELECT * FROM rows WHERE {name}::TIMESTAMP > "
        f"(SELECT max({name}::TIMESTAMP) FROM rows) - INTERVAL {days} DAY"
    )
    return f"the last {days} days"


def _performance(
    connection: duckdb.DuckDBPyConnection,
    champion: ModelVersion,
    bundle: Bundle,
    name: str,
) -> tuple[Metric | None, Metric | None]:
    """Return the metric on the window, where it has answers, and as it was at registration."""
    signature = bundle.signature
    wanted = metrics.measure(signature.task, name)
    was = next((m for m in champion.metrics if m.name == wanted.name), None)
    frame = connection.sql("SELECT * FROM data").to_df()
    if signature.target not in frame.columns:
        return None, was
    answers = prepared.encode_target(frame[signature.target], signature)
    unknown = answers == prepared.UNKNOWN_CLASS
    usable = ~(unknown if signature.task.is_classification else np.isnan(answers))
    if usable.sum() < MIN_ROWS:
        return None, was
    output = bundle.model.output(arrays(encode_frame(frame[usable], signature)))
    return metrics.with_interval(wanted, answers[usable], output, BOOTSTRAP, 0), was


def decide(
    columns: list[ColumnDrift], measured: Metric | None, was: Metric | None, options: Feedback
) -> tuple[Verdict, list[str]]:
    """Return the verdict and its reasons. Performance goes before drift: inputs that moved under a
    model that is as good as before are worth a look, not a retraining."""
    moved = [c for c in columns if c.significant and c.distance >= options.drift_at]
    stirred = [c for c in columns if c.significant and options.watch_at <= c.distance]
    reasons = [f"{c.column} moved by {c.distance:.2f}: {c.words}" for c in (moved or stirred)[:5]]
    if measured is not None and was is not None:
        sign = -1 if was.higher_is_better else 1
        allowed = options.retrain_at * abs(was.value)
        bound = measured.high if was.higher_is_better else measured.low
        words = f"{was.name} is {measured.value:.4g} in this window, was {was.value:.4g}"
        if sign * (bound - was.value) > allowed:
            worse = f"{words}: worse by more than {options.retrain_at:.0%} beyond doubt"
            return Verdict.RETRAIN, [worse, *reasons]
        calm = f"{words}: not worse by {options.retrain_at:.0%} beyond doubt"
        return (Verdict.WATCH if moved else Verdict.HEALTHY), [calm, *reasons]
    if moved:
        return Verdict.RETRAIN, ["there are no answers to measure the model by", *reasons]
    if stirred:
        return Verdict.WATCH, reasons
    return Verdict.HEALTHY, ["no column moved far enough to matter"]
