"""Look at rows that training held out, or at any table of later rows, as at logged ones."""

from pathlib import Path

import duckdb
import numpy as np

from treadle import drift, metrics, prepared
from treadle.bundle import Bundle
from treadle.errors import DataError, counted, nearest
from treadle.feedback import decision
from treadle.feedback_spec import Feedback
from treadle.monitoring import Evidence, Monitoring
from treadle.records import Metric, ModelVersion
from treadle.signature import arrays, encode_frame
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
        window = _window(connection, split.column if split.by == "time" else None, options)
        count = int(single(connection, "SELECT count(*) FROM data")[0])
        if count < MIN_ROWS:
            raise DataError(
                f"{counted(count, 'row')} in {window}, fewer than the {MIN_ROWS} that a "
                "verdict needs"
            )
        features = [*bundle.signature.names]
        known = [column for column in bundle.reference.columns if column.name in features]
        columns = drift.compare(connection, known, count)
        measured, was = _performance(connection, champion, bundle, metric)
    seen = Evidence(
        model=champion.name,
        version=champion.version,
        digest=champion.digest,
        window=window,
        rows=count,
        columns=columns,
        labelled=0 if measured is None else count,
        metric=measured,
        reference=was,
    )
    return decision.decide(seen, options)


def window_words(options: Feedback) -> str:
    """Say how far the spec looks back."""
    said = options.window
    if said is None:
        return "all rows"
    if said.endswith("rows"):
        return f"the last {options.window_rows:,} rows"
    return f"the last {said[:-1]} {'days' if said.endswith('d') else 'hours'}"


def _refuse_missing(wanted: list[str], found: list[str], model: str) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        near = nearest(missing[0], found)
        raise DataError(
            f"the later rows lack columns that {model} reads: {', '.join(missing)}{near}"
        )


def _window(connection: duckdb.DuckDBPyConnection, column: str | None, options: Feedback) -> str:
    """Create the view ``data``: the last rows, by their time or as many as the spec says, or all of
    them."""
    days, rows = options.window_days, options.window_rows
    if column is None or (days is None and rows is None):
        connection.execute("CREATE VIEW data AS SELECT * FROM rows")
        return "all rows that training didn't see"
    name = quoted(column)
    if days is not None:
        chosen = (
            f"WHERE {name}::TIMESTAMP > (SELECT max({name}::TIMESTAMP) FROM rows) "
            f"- INTERVAL {days * 24:.0f} HOUR"
        )
    else:
        chosen = f"ORDER BY {name}::TIMESTAMP DESC LIMIT {rows}"
    connection.execute(f"CREATE VIEW data AS SELECT * FROM rows {chosen}")
    return window_words(options)


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
