"""The registry in MLflow, through its own client: what a server needs.

A version's record is the JSON of ``records.NewVersion`` in the tag RECORD; metrics, parameters and
files are logged to an MLflow run, so that MLflow's UI shows them.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.errors import RegistryError, nearest
from treadle.records import ModelVersion, NewVersion

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

# MLflow reports its use to its makers unless it is told not to, before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
RECORD = "treadle.record"
EXPERIMENT = "treadle"


class MlflowRegistry:
    """See ``ports.Registry``. ``artifacts`` is where MLflow keeps the files that it shows."""

    def __init__(self, uri: str, artifacts: str | None = None) -> None:
        self._uri = uri
        self._artifacts = artifacts

    @cached_property
    def _client(self) -> Any:
        # Imported on use: it takes longer than most of what is done with it.
        import logging

        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        with _in_words(self._uri):
            return MlflowClient(self._uri, self._uri)

    def names(self) -> Sequence[str]:
        """Return the names of all models, sorted."""
        with _in_words(self._uri):
            return sorted(model.name for model in _pages(self._client.search_registered_models))

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return every version of a model, newest first."""
        with _in_words(self._uri):
            aliases = self._aliases(name)
            quoted = name.replace("'", "")
            found = _pages(
                lambda **page: self._client.search_model_versions(f"name='{quoted}'", **page)
            )
            known = [_record(version, aliases) for version in found if RECORD in version.tags]
        if not known:
            raise unknown_model(name, self.names())
        return sorted(known, key=lambda version: -version.version)

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that carries ``alias``, or None."""
        if name not in self.names():
            return None
        with _in_words(self._uri):
            aliases = self._aliases(name)
            number = next((v for v, names in aliases.items() if alias in names), None)
            if number is None:
                return None
            return _record(self._client.get_model_version(name, str(number)), aliases)

    def _aliases(self, name: str) -> dict[int, list[str]]:
        found: dict[int, list[str]] = {}
        if name in self.names():
            model = self._client.get_registered_model(name)
            for alias, version in model.aliases.items():
                found.setdefault(int(version), []).append(alias)
        return found

    def register(self, new: NewVersion, files: Mapping[str, Path]) -> ModelVersion:
        """Add a version. It shows up last, whole, with its record."""
        with _in_words(self._uri):
            run_id = self._log_run(new, files)
            if new.name not in self.names():
                self._client.create_registered_model(new.name)
            version = self._client.create_model_version(
                new.name,
                new.source,
                run_id=run_id,
                tags=tags_of(new),
                description=f"{new.lineage.family}, {new.semver}",
            )
            return _record(version, {})

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; it is made where there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=self._artifacts))

    def _log_run(self, new: NewVersion, files: Mapping[str, Path]) -> str:
        from mlflow.entities import Metric, Param

        experiment_id = self.experiment(EXPERIMENT)
        run = self._client.create_run(experiment_id, run_name=f"{new.name} {new.semver}")
        run_id = str(run.info.run_id)
        now = int(datetime.now(UTC).timestamp() * 1000)
        parameters = {"family": new.lineage.family, **new.lineage.parameters}
        self._client.log_batch(
            run_id,
            metrics=[Metric(m.name, m.value, now, 0) for m in new.metrics],
            params=[Param(key, str(value)) for key, value in parameters.items()],
        )
        for name, path in files.items():
            self._client.log_text(run_id, path.read_text("utf-8"), name)
        self._client.set_terminated(run_id)
        return run_id

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point ``alias`` at a version."""
        with _in_words(self._uri):
            self._client.set_registered_model_alias(name, alias, str(version))

    def remove_alias(self, name: str, alias: str) -> None:
        """Take ``alias`` away."""
        with _in_words(self._uri):
            self._client.delete_registered_model_alias(name, alias)


def unknown_model(name: str, names: Sequence[str]) -> RegistryError:
    """Return the fault of asking for a model that isn't there."""
    known = (
        f" (there are: {', '.join(names[:20])})"
        if names
        else " (there are none yet: treadle run SPEC makes one)"
    )
    return RegistryError(f"there is no model {name!r}{nearest(name, names) or known}")


def _record(version: "MlflowVersion", aliases: Mapping[int, list[str]]) -> ModelVersion:
    number = int(version.version)
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return versioned(version.tags[RECORD], number, created, aliases.get(number, []))


def tags_of(new: NewVersion) -> dict[str, str]:
    """Return a version's tags: its whole record, and what people search for."""
    return {
        RECORD: new.model_dump_json(),
        "treadle.digest": new.digest,
        "treadle.semver": new.semver,
        "treadle.snapshot": new.lineage.snapshot.digest,
    }


def versioned(
    record: str, version: int, created_at: datetime, aliases: Sequence[str]
) -> ModelVersion:
    """Return the version behind a RECORD tag."""
    new = NewVersion.model_validate_json(record)
    return ModelVersion(
        **dict(new), version=version, created_at=created_at, aliases=sorted(aliases)
    )


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


@contextmanager
def _in_words(uri: str) -> Iterator[None]:
    """Translate MLflow's and the database's faults."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RegistryError(f"the registry at {uri} refused: {_first_line(error)}") from error
    except OSError as error:
        raise RegistryError(f"the registry at {uri} can't be reached: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
