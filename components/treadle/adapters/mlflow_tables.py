"""What is written into MLflow's own tables, row by row: what its client would write."""

import math
import sqlite3
import uuid
from collections.abc import Mapping, Sequence

from treadle.adapters.mlflow import (
    EXPERIMENT,
    HISTORY,
    PARENT,
    TEXT,
    begun,
    run_tags,
    tags_of,
    trial_parameters,
    trial_status,
    trial_title,
)
from treadle.records import NewVersion, Query, Training

# All that is written or read; a column that MLflow added is fine as long as it may be left out.
COLUMNS = {
    "runs": {
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status",
        "start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri",
        "experiment_id",
    },
    "metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "latest_metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
    "experiments": {"experiment_id", "name"},
    "registered_model_tags": {"key", "value", "name", "workspace"},
    "registered_models": {"name", "creation_time", "last_updated_time", "workspace"},
    "model_versions": {
        "name", "version", "creation_time", "last_updated_time", "description", "current_stage",
        "source", "run_id", "status", "storage_location", "workspace",
    },
    "model_version_tags": {"key", "value", "name", "version", "workspace"},
    "registered_model_aliases": {"alias", "version", "name", "workspace"},
}  # fmt: skip
WORKSPACE = "default"


def is_known(connection: sqlite3.Connection) -> bool:
    """Say whether the tables have the columns we use, and want no others of us."""
    for table, columns in COLUMNS.items():
        found = connection.execute(f"PRAGMA table_info({table})").fetchall()
        names = {column[1] for column in found}
        wanted = {column[1] for column in found if column[3] and column[4] is None}
        if not columns <= names or not wanted <= columns:
            return False
    return True


def clauses(wanted: Query) -> tuple[str, list[object]]:
    """Return a query as SQL over model_versions ``v``, with its values."""
    found: list[str] = []
    values: list[object] = []

    def both(clause: str, *bound: object) -> None:
        found.append(f"AND {clause}")
        values.extend(bound)

    tagged = "(v.name, v.version) IN (SELECT name, version FROM model_version_tags"
    for key, value in wanted.tags.items():
        both(f"{tagged} WHERE workspace = ? AND key = ? AND value = ?)", WORKSPACE, key, value)
    for word in wanted.words:
        # Kept in lower case: SQLite itself knows no other letters than English ones.
        both(
            f"{tagged} WHERE workspace = ? AND key = ? AND instr(value, ?))",
            WORKSPACE, TEXT, word.casefold(),
        )  # fmt: skip
    for bound in wanted.bounds:
        both(
            "EXISTS (SELECT 1 FROM latest_metrics m WHERE m.run_uuid = v.run_id AND m.key = ? "
            f"AND NOT m.is_nan AND m.value {bound.sign} ?)",
            bound.metric, bound.value,
        )  # fmt: skip
    if wanted.alias is not None:
        both(
            "(v.name, v.version) IN (SELECT name, version FROM registered_model_aliases "
            "WHERE workspace = ? AND alias = ?)",
            WORKSPACE, wanted.alias,
        )  # fmt: skip
    return " ".join(found), values


def insert_run(
    connection: sqlite3.Connection,
    run_id: str,
    new: NewVersion,
    artifacts: str,
    now: int,
    seconds: float,
) -> None:
    """Log metrics and parameters as a run, which is where MLflow's UI shows them."""
    title = f"{new.name} {new.semver}"
    _insert_bare_run(connection, run_id, title, artifacts, (begun(now, seconds), now))
    for key, text in run_tags(new).items():
        insert(connection, "tags", {"key": key, "value": text, "run_uuid": run_id})
    for metric in new.metrics:
        _insert_metric(connection, run_id, metric.name, [(0, metric.value)], now)
    for key, value in {"family": new.lineage.family, **new.lineage.parameters}.items():
        insert(connection, "params", {"key": key, "value": str(value), "run_uuid": run_id})


def insert_trials(
    connection: sqlite3.Connection, parent: str, training: Training, artifacts: str, now: int
) -> None:
    """Log every trial as a run under ``parent``, its curve a value a step."""
    for trial in training.trials:
        run_id = uuid.uuid4().hex
        place = f"{artifacts}/{run_id}/artifacts"
        times = (begun(now, trial.seconds), now)
        _insert_bare_run(connection, run_id, trial_title(trial), place, times, trial_status(trial))
        insert(connection, "tags", {"key": PARENT, "value": parent, "run_uuid": run_id})
        curve = [(units, training.value(score)) for units, score in trial.curve]
        _insert_metric(connection, run_id, training.metric, curve, now)
        for key, value in trial_parameters(trial).items():
            insert(connection, "params", {"key": key, "value": value, "run_uuid": run_id})


def _insert_metric(
    connection: sqlite3.Connection,
    run_id: str,
    name: str,
    steps: Sequence[tuple[int, float]],
    now: int,
) -> None:
    """Log a metric's values by step; the last is the latest."""
    for position, (step, value) in enumerate(steps):
        # MLflow's own way of keeping a nan.
        nan = math.isnan(value)
        row = {
            "key": name, "value": 0.0 if nan else value, "timestamp": now, "step": step,
            "is_nan": nan, "run_uuid": run_id,
        }  # fmt: skip
        insert(connection, "metrics", row)
        if position == len(steps) - 1:
            insert(connection, "latest_metrics", row)


def insert_model(connection: sqlite3.Connection, name: str, artifacts: str, now: int) -> None:
    """Make sure that the model is there, changed just now."""
    model = {"name": name, "workspace": WORKSPACE}
    times = {"creation_time": now, "last_updated_time": now}
    insert(connection, "registered_models", {**model, **times}, "INSERT OR IGNORE")
    connection.execute(
        "UPDATE registered_models SET last_updated_time = ? WHERE name = ?", (now, name)
    )
    if history_run(connection, name) is None:
        run_id = uuid.uuid4().hex
        place = f"{artifacts}/{run_id}/artifacts"
        _insert_bare_run(connection, run_id, f"{name}: history", place, (now, now))
        tag = {"key": HISTORY, "value": run_id}
        insert(connection, "registered_model_tags", {**model, **tag})


def history_run(connection: sqlite3.Connection, name: str) -> str | None:
    """Return the run whose parameters are the model's history."""
    row = connection.execute(
        "SELECT value FROM registered_model_tags WHERE workspace = ? AND key = ? AND name = ?",
        (WORKSPACE, HISTORY, name),
    ).fetchone()
    return None if row is None else str(row[0])


def _insert_bare_run(
    connection: sqlite3.Connection,
    run_id: str,
    title: str,
    artifacts: str,
    times: tuple[int, int],
    status: str = "FINISHED",
) -> None:
    started, ended = times
    (experiment,) = connection.execute(
        "SELECT experiment_id FROM experiments WHERE name = ?", (EXPERIMENT,)
    ).fetchone()
    run = {
        "run_uuid": run_id, "name": title, "source_type": "UNKNOWN", "source_name": "",
        "entry_point_name": "", "user_id": "unknown", "status": status, "start_time": started,
        "end_time": ended, "source_version": "", "lifecycle_stage": "active",
        "artifact_uri": artifacts, "experiment_id": experiment,
    }  # fmt: skip
    insert(connection, "runs", run)
    insert(connection, "tags", {"key": "mlflow.runName", "value": title, "run_uuid": run_id})


def insert_version(
    connection: sqlite3.Connection, run_id: str, new: NewVersion, now: int, number: int | None
) -> int:
    """Add a version under the next number, or the given higher one; return it."""
    model = {"name": new.name, "workspace": WORKSPACE}
    times = {"creation_time": now, "last_updated_time": now}
    (last,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM model_versions WHERE name = ?", (new.name,)
    ).fetchone()
    version = max(int(last) + 1, number or 0)
    row = {
        "version": version, "description": f"{new.lineage.family}, {new.semver}",
        "current_stage": "None", "source": new.source, "run_id": run_id, "status": "READY",
        "storage_location": new.source,
    }  # fmt: skip
    insert(connection, "model_versions", {**model, **times, **row})
    for key, value in tags_of(new).items():
        tag = {"key": key, "value": value, "version": version}
        insert(connection, "model_version_tags", {**model, **tag})
    return version


def insert(
    connection: sqlite3.Connection, table: str, row: Mapping[str, object], verb: str = "INSERT"
) -> None:
    """Insert a row: column to value."""
    names, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"{verb} INTO {table} ({names}) VALUES ({places})", tuple(row.values()))
