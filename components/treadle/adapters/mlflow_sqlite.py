"""The embedded registry: MLflow's own SQLite database, without MLflow's client.

Importing that client and its store takes 3 s, more than a whole command or step may take beside
its work, and each of its calls is a transaction of its own. Here a version is registered in one
transaction: it is there whole or not at all. MLflow makes the database (``mlflow_database``); the
tables and columns used are checked each time, and where MLflow has changed them, its client does
the work instead. What is written here is what that client would write: a test reads it back
through MLflow.
"""

import os
import shutil
import sqlite3
import time
import uuid
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from treadle.adapters import mlflow_database
from treadle.adapters import mlflow_tables as tables
from treadle.adapters.mlflow import (
    CHALLENGER,
    CHAMPION,
    RECORD,
    SNAPSHOT,
    MlflowRegistry,
    entries,
    entry_key,
    overtaken,
    seconds_of,
    unknown_model,
    versioned,
)
from treadle.adapters.mlflow_tables import WORKSPACE
from treadle.errors import EnvironmentFault, RegistryError
from treadle.ports import Registry
from treadle.records import Change, ModelVersion, NewVersion, Query, Training

_VERSIONS = """
SELECT t.value, v.version, v.creation_time,
       (SELECT group_concat(a.alias) FROM registered_model_aliases a
        WHERE a.workspace = v.workspace AND a.name = v.name AND a.version = v.version)
FROM model_versions v CROSS JOIN model_version_tags t
  ON t.workspace = v.workspace AND t.name = v.name AND t.version = v.version AND t.key = ?
WHERE v.workspace = 'default' AND v.current_stage != 'Deleted_Internal'
"""
_BUSY_S = 30.0
_MOST_IDLE = 8


class _Idle:
    """Connections that nobody uses just now: opening one costs milliseconds, in which SQLite reads
    how MLflow's tables are made."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._connections: list[tuple[tuple[int, ...], sqlite3.Connection]] = []
        weakref.finalize(self, _close, self._connections)

    @contextmanager
    def connection(self, database: Path) -> Iterator[sqlite3.Connection]:
        """Yield a connection for one caller. It is kept for the next, unless something broke."""
        # Another file may have taken the database's place; a forked process needs its own.
        found = database.stat()
        place = (os.getpid(), found.st_dev, found.st_ino)
        connection = self._taken(place) or _opened(database)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        with self._lock:
            if len(self._connections) < _MOST_IDLE:
                self._connections.append((place, connection))
                return
        connection.close()

    def _taken(self, place: tuple[int, ...]) -> sqlite3.Connection | None:
        while True:
            with self._lock:
                if not self._connections:
                    return None
                idle, connection = self._connections.pop()
            if idle == place:
                return connection
            if idle[0] == place[0]:
                connection.close()


def _close(connections: list[tuple[tuple[int, ...], sqlite3.Connection]]) -> None:
    for (process, *_), connection in connections:
        if process == os.getpid():
            connection.close()


def _opened(database: Path) -> sqlite3.Connection:
    # For writing, readers too: after a process was killed in a transaction, SQLite must undo what
    # it left before anyone can read. Where the file is read-only, so is the connection.
    address = f"{database.absolute().as_uri()}?mode=rw"
    return sqlite3.connect(
        address, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
    )


class SqliteMlflowRegistry(MlflowRegistry):
    """See ``ports.Registry``. ``database`` need not exist yet: then there are no models."""

    def __init__(self, database: Path, artifacts: Path) -> None:
        super().__init__(f"sqlite:///{database}", artifacts.as_uri())
        self._database = database
        self._files = artifacts
        self._idle = _Idle()
        self._known: dict[int, bool] = {}

    def names(self) -> Sequence[str]:
        """Return the names of all models, sorted."""
        with self._connected() as connection:
            if connection is None:
                return super().names() if self._database.exists() else []
            rows = connection.execute(
                "SELECT DISTINCT name FROM model_version_tags WHERE workspace = ? AND key = ? "
                "ORDER BY name",
                (WORKSPACE, RECORD),
            )
            return [name for (name,) in rows]

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        """Return the aliases of every model, in one query."""
        with self._connected() as connection:
            if connection is None:
                return super().aliases() if self._database.exists() else {}
            rows = connection.execute(
                "SELECT m.name, a.alias, a.version FROM registered_models m "
                "LEFT JOIN registered_model_aliases a ON a.name = m.name"
            ).fetchall()
        found: dict[str, dict[str, int]] = {}
        for name, alias, version in rows:
            found.setdefault(name, {}).update({} if alias is None else {alias: int(version)})
        return found

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return every version of a model, newest first."""
        with self._connected() as connection:
            if connection is None and self._database.exists():
                return super().versions(name)
            query = f"{_VERSIONS} AND v.name = ? ORDER BY v.version DESC"
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
                f"{_VERSIONS} AND v.name = ? AND v.version = (SELECT version FROM "
                "registered_model_aliases WHERE workspace = ? AND name = ? AND alias = ?)",
                (RECORD, name, WORKSPACE, name, alias),
            ).fetchone()
        return None if row is None else _version(row)

    def find(self, wanted: Query, limit: int, offset: int = 0) -> Sequence[ModelVersion]:
        """Return up to ``limit`` versions for which all of ``wanted`` holds."""
        with self._connected() as connection:
            if connection is None:
                exists = self._database.exists()
                return super().find(wanted, limit, offset) if exists else []
            clauses, values = tables.clauses(wanted)
            # The page first: sorting every match with its record would move a lot of text.
            page = (
                "SELECT v.rowid FROM model_versions v WHERE v.workspace = ? AND EXISTS (SELECT 1 "
                "FROM model_version_tags r WHERE r.workspace = v.workspace AND r.key = ? AND "
                f"r.name = v.name AND r.version = v.version) {clauses} "
                "ORDER BY v.name, v.version DESC LIMIT ? OFFSET ?"
            )
            rows = connection.execute(
                f"{_VERSIONS} AND v.rowid IN ({page}) ORDER BY v.name, v.version DESC",
                (RECORD, WORKSPACE, RECORD, *values, limit, offset),
            ).fetchall()
        return [_version(row) for row in rows]

    def of_snapshot(self, digest: str) -> Sequence[ModelVersion]:
        """Return every version made from a snapshot, by name, newest first."""
        with self._connected() as connection:
            if connection is None:
                return super().of_snapshot(digest) if self._database.exists() else []
            rows = connection.execute(
                f"{_VERSIONS} AND (v.name, v.version) IN (SELECT name, version FROM "
                "model_version_tags WHERE workspace = ? AND key = ? AND value = ?) "
                "ORDER BY v.name, v.version DESC",
                (RECORD, WORKSPACE, SNAPSHOT, digest),
            ).fetchall()
        return [_version(row) for row in rows]

    def register(
        self,
        new: NewVersion,
        files: Mapping[str, Path],
        number: int | None = None,
        training: Training | None = None,
    ) -> ModelVersion:
        """Add a version, in one transaction."""
        mlflow_database.create(self._database, self._files)
        run_id = uuid.uuid4().hex
        shown = self._files / run_id / "artifacts"
        try:
            with self._writing() as connection:
                if connection is None:
                    return super().register(new, files, number, training)
                shown.mkdir(parents=True)
                for name, path in files.items():
                    (shown / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(path, shown / name)
                now = _now_ms()
                tables.insert_model(connection, new.name, self._files.as_uri(), now)
                tables.insert_run(
                    connection, run_id, new, shown.as_uri(), now, seconds_of(training)
                )
                if training:
                    tables.insert_trials(connection, run_id, training, self._files.as_uri(), now)
                version = tables.insert_version(connection, run_id, new, now, number)
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
            _point(connection, name, alias, version)

    def remove_alias(self, name: str, alias: str) -> None:
        """Take ``alias`` away."""
        with self._writing() as connection:
            if connection is None:
                super().remove_alias(name, alias)
                return
            _unpoint(connection, name, alias)

    def history(self, name: str) -> Sequence[Change]:
        """Return the changes of a model's champion, oldest first."""
        with self._connected() as connection:
            if connection is None and self._database.exists():
                return super().history(name)
            found = _history(connection, name) if connection else []
        if not found and name not in self.names():
            raise unknown_model(name, self.names())
        return found

    def change_champion(self, name: str, change: Change, position: int) -> None:
        """Append ``change`` to the history and point the aliases, in one transaction."""
        with self._writing() as connection:
            if connection is None:
                super().change_champion(name, change, position)
                return
            tables.insert_model(connection, name, self._files.as_uri(), _now_ms())
            former = _history(connection, name)
            if len(former) > position:
                raise overtaken(name, former[position])
            entry = {"key": entry_key(position), "value": change.model_dump_json()}
            run_id = tables.history_run(connection, name)
            tables.insert(connection, "params", {**entry, "run_uuid": run_id})
            if change.to_version is None:
                _unpoint(connection, name, CHAMPION)
            else:
                _point(connection, name, CHAMPION, change.to_version)
                _unpoint(connection, name, CHALLENGER, change.to_version)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a connection in a transaction that is kept whole or not at all."""
        with self._connected("written") as connection:
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
    def _connected(self, done: str = "read") -> Iterator[sqlite3.Connection | None]:
        """Yield a connection, or None where the file or the known columns aren't there."""
        if not self._database.exists():
            yield None
            return
        try:
            with self._idle.connection(self._database) as connection:
                yield connection if self._is_known(connection) else None
        except sqlite3.Error as error:
            if "disk is full" in str(error):
                words = "the disk is full: free some space, or name another place with --home"
                raise EnvironmentFault(f"{self._database}: {words}") from error
            raise RegistryError(
                f"the registry {self._database} can't be {done}: {_in_words(error)}"
            ) from error

    def _is_known(self, connection: sqlite3.Connection) -> bool:
        """Look at the tables again whenever somebody has changed how they are made."""
        (made,) = connection.execute("PRAGMA schema_version").fetchone()
        if made not in self._known:
            self._known[made] = tables.is_known(connection)
        return self._known[made]


def _point(connection: sqlite3.Connection, name: str, alias: str, version: int) -> None:
    there = connection.execute(
        "SELECT 1 FROM model_versions WHERE workspace = ? AND name = ? AND version = ? "
        "AND current_stage != 'Deleted_Internal'",
        (WORKSPACE, name, version),
    ).fetchone()
    if there is None:
        raise RegistryError(f"the registry refused: {name} has no version {version}")
    row = {"alias": alias, "version": version, "name": name, "workspace": WORKSPACE}
    tables.insert(connection, "registered_model_aliases", row, "INSERT OR REPLACE")


def _unpoint(
    connection: sqlite3.Connection, name: str, alias: str, version: int | None = None
) -> None:
    """Take an alias away; only from ``version``, where one is given."""
    connection.execute(
        "DELETE FROM registered_model_aliases WHERE workspace = ? AND name = ? AND alias = ? "
        "AND version = coalesce(?, version)",
        (WORKSPACE, name, alias, version),
    )


def _history(connection: sqlite3.Connection, name: str) -> list[Change]:
    run_id = tables.history_run(connection, name)
    rows = connection.execute("SELECT key, value FROM params WHERE run_uuid = ?", (run_id,))
    return entries(dict(rows.fetchall()))


def _in_words(error: sqlite3.Error) -> str:
    words = str(error)
    if "locked" in words:
        return (f"another process has kept it locked for {_BUSY_S:.0f} s; nothing was changed: try "
                "again, or end what holds it")  # fmt: skip
    if "readonly" in words:
        return "it is read-only: make the file and its directory writable; nothing was changed"
    return words


def _version(row: tuple[Any, ...]) -> ModelVersion:
    record, number, created_ms, aliases = row
    return versioned(record, number, _time(created_ms), aliases.split(",") if aliases else [])


def _now_ms() -> int:
    return int(time.time() * 1000)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


if TYPE_CHECKING:
    _: Registry = SqliteMlflowRegistry(Path(), Path())
