"""The embedded registry: MLflow's own SQLite database, without MLflow's client.

Importing that client and its store takes 3 s, more than a whole command or step may take beside
its work, and each of its calls is a transaction of its own. Here a version is registered in one
transaction: it is there whole or not at all. MLflow makes the database (``mlflow_database``); the
tables and columns used are checked each time, and where MLflow has changed them, its client does
the work instead. What is written here is what that client would write: a test reads it back
through MLflow.
"""

import math
import shutil
import sqlite3
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.adapters import mlflow_database
from treadle.adapters.mlflow import (
    EXPERIMENT,
    RECORD,
    MlflowRegistry,
    tags_of,
    unknown_model,
    versioned,
)
from treadle.errors import EnvironmentFault, RegistryError
from treadle.ports import Registry
from treadle.records import ModelVersion, NewVersion

# All that is written or read; a column that MLflow added is fine as long as it may be left out.
_COLUMNS = {
    "runs": {
        "run_uuid", "name", "source_type", "source_name", "entry_point_name", "user_id", "status",
        "start_time", "end_time", "source_version", "lifecycle_stage", "artifact_uri",
        "experiment_id",
    },
    "metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "latest_metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"},
    "params": {"key", "value", "run_uuid"},
    "tags": {"key", "value", "run_uuid"},
    "registered_models": {"name", "creation_time", "last_updated_time", "workspace"},
    "model_versions": {
        "name", "version", "creation_time", "last_updated_time", "description", "current_stage",
        "source", "run_id", "status", "storage_location", "workspace",
    },
    "model_version_tags": {"key", "value", "name", "version", "workspace"},
    "registered_model_aliases": {"alias", "version", "name", "workspace"},
}  # fmt: skip
_WORKSPACE = "default"
_VERSIONS = """
SELECT t.value, v.version, v.creation_time,
       (SELECT group_concat(a.alias) FROM registered_model_aliases a
        WHERE a.name = v.name AND a.version = v.version)
FROM model_versions v JOIN model_version_tags t
  ON t.name = v.name AND t.version = v.version AND t.key = ?
WHERE v.name = ? AND v.current_stage != 'Deleted_Internal'
"""
_BUSY_S = 30.0


class SqliteMlflowRegistry(MlflowRegistry):
    """See ``ports.Registry``. ``database`` need not exist yet: then there are no models."""

    def __init__(self, database: Path, artifacts: Path) -> None:
        super().__init__(f"sqlite:///{database}", artifacts.as_uri())
        self._database = database
        self._files = artifacts

    def names(self) -> Sequence[str]:
        """Return the names of all models, sorted."""
        with self._connected() as connection:
            if connection is None:
                return super().names() if self._database.exists() else []
            rows = connection.execute("SELECT name FROM registered_models ORDER BY name")
            return [name for (name,) in rows]

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return every version of a model, newest first."""
        with self._connected() as connection:
            if connection is None and self._database.exists():
                return super().versions(name)
            query = f"{_VERSIONS} ORDER BY v.version DESC"
            rows = connection.execute(query, (RECORD, name)).fetchall() if connection else []
        if not rows:
            raise unknown_model(name, self.names())
        return [_version(row) for row in rows]

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that carries ``alias``, or None."""
        with self._connected() as connection:
            if connection is None:
                return super().aliased(name, alias) if self._database.exists() else None
            row = connection.execute(
                f"{_VERSIONS} AND v.version = (SELECT version FROM registered_model_aliases "
                "WHERE name = v.name AND alias = ?)",
                (RECORD, name, alias),
            ).fetchone()
        return None if row is None else _version(row)

    def register(self, new: NewVersion, files: Mapping[str, Path]) -> ModelVersion:
        """Add a version, in one transaction."""
        mlflow_database.create(self._database, self._files)
        run_id = uuid.uuid4().hex
        shown = self._files / run_id / "artifacts"
        try:
            with self._writing() as connection:
                if connection is None:
                    return super().register(new, files)
                shown.mkdir(parents=True)
                for name, path in files.items():
                    shutil.copyfile(path, shown / name)
                now = _now_ms()
                _insert_run(connection, run_id, new, shown.as_uri(), now)
                version = _insert_version(connection, run_id, new, now)
        except BaseException:
            shutil.rmtree(self._files / run_id, ignore_errors=True)
            raise
        return versioned(new.model_dump_json(), version, _time(now), [])

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point ``alias`` at a version."""
        with self._writing() as connection:
            if connection is None:
                super().set_alias(name, alias, version)
                return
            there = connection.execute(
                "SELECT 1 FROM model_versions WHERE name = ? AND version = ?", (name, version)
            ).fetchone()
            if there is None:
                raise RegistryError(f"the registry refused: {name} has no version {version}")
            row = {"alias": alias, "version": version, "name": name, "workspace": _WORKSPACE}
            _insert(connection, "registered_model_aliases", row, "INSERT OR REPLACE")

    def remove_alias(self, name: str, alias: str) -> None:
        """Take ``alias`` away."""
        with self._writing() as connection:
            if connection is None:
                super().remove_alias(name, alias)
                return
            connection.execute(
                "DELETE FROM registered_model_aliases WHERE name = ? AND alias = ?", (name, alias)
            )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection in a transaction that is kept whole or not at all."""
        with self._connected("rw") as connection:
            if connection is None:
                yield None
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def _connected(self, mode: str = "ro") -> Iterator[sqlite3.Connection | None]:
        """Yield a connection, or None where the file or the known columns aren't there."""
        if not self._database.exists():
            yield None
            return
        try:
            address = f"{self._database.absolute().as_uri()}?mode={mode}"
            with closing(
                sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)
            ) as connection:
                yield connection if _is_known(connection) else None
        except sqlite3.Error as error:
            if "disk is full" in str(error):
                words = "the disk is full: free some space, or name another place with --home"
                raise EnvironmentFault(f"{self._database}: {words}") from error
            done = "read" if mode == "ro" else "written"
            raise RegistryError(
                f"the registry {self._database} can't be {done}: {error}"
            ) from error


def _is_known(connection: sqlite3.Connection) -> bool:
    """Say whether the tables have the columns we use, and want no others of us."""
    for table, columns in _COLUMNS.items():
        found = connection.execute(f"PRAGMA table_info({table})").fetchall()
        names = {column[1] for column in found}
        wanted = {column[1] for column in found if column[3] and column[4] is None}
        if not columns <= names or not wanted <= columns:
            return False
    return True


def _insert_run(
    connection: sqlite3.Connection, run_id: str, new: NewVersion, artifacts: str, now: int
) -> None:
    """Log metrics and parameters as a run, which is where MLflow's UI shows them."""
    (experiment,) = connection.execute(
        "SELECT experiment_id FROM experiments WHERE name = ?", (EXPERIMENT,)
    ).fetchone()
    title = f"{new.name} {new.semver}"
    run = {
        "run_uuid": run_id, "name": title, "source_type": "UNKNOWN", "source_name": "",
        "entry_point_name": "", "user_id": "unknown", "status": "FINISHED", "start_time": now,
        "end_time": now, "source_version": "", "lifecycle_stage": "active",
        "artifact_uri": artifacts, "experiment_id": experiment,
    }  # fmt: skip
    _insert(connection, "runs", run)
    _insert(connection, "tags", {"key": "mlflow.runName", "value": title, "run_uuid": run_id})
    for metric in new.metrics:
        # MLflow's own way of keeping a nan.
        nan = math.isnan(metric.value)
        row = {
            "key": metric.name, "value": 0.0 if nan else metric.value, "timestamp": now, "step": 0,
            "is_nan": nan, "run_uuid": run_id,
        }  # fmt: skip
        _insert(connection, "metrics", row)
        _insert(connection, "latest_metrics", row)
    for key, value in {"family": new.lineage.family, **new.lineage.parameters}.items():
        _insert(connection, "params", {"key": key, "value": str(value), "run_uuid": run_id})


def _insert_version(connection: sqlite3.Connection, run_id: str, new: NewVersion, now: int) -> int:
    model = {"name": new.name, "workspace": _WORKSPACE}
    times: dict[str, object] = {"creation_time": now, "last_updated_time": now}
    _insert(connection, "registered_models", {**model, **times}, "INSERT OR IGNORE")
    connection.execute(
        "UPDATE registered_models SET last_updated_time = ? WHERE name = ?", (now, new.name)
    )
    (last,) = connection.execute(
        "SELECT coalesce(max(version), 0) FROM model_versions WHERE name = ?", (new.name,)
    ).fetchone()
    version = int(last) + 1
    row = {
        "version": version, "description": f"{new.lineage.family}, {new.semver}",
        "current_stage": "None", "source": new.source, "run_id": run_id, "status": "READY",
        "storage_location": new.source,
    }  # fmt: skip
    _insert(connection, "model_versions", {**model, **times, **row})
    for key, value in tags_of(new).items():
        tag = {"key": key, "value": value, "version": version}
        _insert(connection, "model_version_tags", {**model, **tag})
    return version


def _insert(
    connection: sqlite3.Connection, table: str, row: Mapping[str, object], verb: str = "INSERT"
) -> None:
    names, places = ", ".join(row), ", ".join("?" * len(row))
    connection.execute(f"{verb} INTO {table} ({names}) VALUES ({places})", tuple(row.values()))


def _version(row: tuple[Any, ...]) -> ModelVersion:
    record, number, created_ms, aliases = row
    return versioned(record, number, _time(created_ms), aliases.split(",") if aliases else [])


def _now_ms() -> int:
    return int(time.time() * 1000)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


if TYPE_CHECKING:
    _: Registry = SqliteMlflowRegistry(Path(), Path())
