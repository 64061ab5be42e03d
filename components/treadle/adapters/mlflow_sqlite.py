"""The embedded registry: MLflow's own SQLite database.

Writing goes through MLflow's client. Reading goes straight to the file, because importing that
client takes longer than a command-line answer may; it reads four columns of four tables whose
shape is checked first, and hands over to the client where MLflow has changed them.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.adapters.mlflow import RECORD, MlflowRegistry, unknown_model, versioned
from treadle.errors import RegistryError
from treadle.ports import Registry
from treadle.records import ModelVersion

_READ = {
    "registered_models": {"name"},
    "model_versions": {"name", "version", "creation_time", "current_stage"},
    "model_version_tags": {"name", "version", "key", "value"},
    "registered_model_aliases": {"name", "alias", "version"},
}
_VERSIONS = """
SELECT t.value, v.version, v.creation_time,
       (SELECT group_concat(a.alias) FROM registered_model_aliases a
        WHERE a.name = v.name AND a.version = v.version)
FROM model_versions v JOIN model_version_tags t
  ON t.name = v.name AND t.version = v.version AND t.key = ?
WHERE v.name = ? AND v.current_stage != 'Deleted_Internal'
"""


class SqliteMlflowRegistry(MlflowRegistry):
    """See ``ports.Registry``. ``database`` need not exist yet: then there are no models."""

    def __init__(self, database: Path, artifacts: Path) -> None:
        super().__init__(f"sqlite:///{database}", artifacts.as_uri())
        self._database = database

    def names(self) -> Sequence[str]:
        """Return the names of all models, sorted."""
        with self._reading() as connection:
            if connection is None:
                return super().names() if self._database.exists() else []
            return [
                n for (n,) in connection.execute("SELECT name FROM registered_models ORDER BY 1")
            ]

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return every version of a model, newest first."""
        with self._reading() as connection:
            if connection is None and self._database.exists():
                return super().versions(name)
            rows = [] if connection is None else connection.execute(
                _VERSIONS + " ORDER BY v.version DESC", (RECORD, name)
            ).fetchall()  # fmt: skip
        if not rows:
            raise unknown_model(name, self.names())
        return [_version(row) for row in rows]

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that carries ``alias``, or None."""
        with self._reading() as connection:
            if connection is None:
                return super().aliased(name, alias) if self._database.exists() else None
            row = connection.execute(
                _VERSIONS + " AND v.version = (SELECT version FROM registered_model_aliases "
                "WHERE name = v.name AND alias = ?)",
                (RECORD, name, alias),
            ).fetchone()
        return None if row is None else _version(row)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Yield a read-only connection, or None where the file or the known tables aren't there."""
        if not self._database.exists():
            yield None
            return
        try:
            address = f"file:{self._database}?mode=ro"
            with closing(sqlite3.connect(address, uri=True, timeout=10)) as connection:
                yield connection if _is_known(connection) else None
        except sqlite3.Error as error:
            raise RegistryError(f"the registry {self._database} can't be read: {error}") from error


def _is_known(connection: sqlite3.Connection) -> bool:
    for table, columns in _READ.items():
        found = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        if not columns <= found:
            return False
    return True


def _version(row: tuple[Any, ...]) -> ModelVersion:
    record, number, created_ms, aliases = row
    created = datetime.fromtimestamp(created_ms / 1000, UTC)
    return versioned(record, number, created, aliases.split(",") if aliases else [])


if TYPE_CHECKING:
    _: Registry = SqliteMlflowRegistry(Path(), Path())
