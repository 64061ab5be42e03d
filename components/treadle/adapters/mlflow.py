"""The registry in MLflow, through its own client: what a server needs.

A version's record is the JSON of ``records.NewVersion`` in the tag RECORD; metrics, parameters and
files are logged to an MLflow run, so that MLflow's UI shows them.

A model's history is the parameters of a run of its own, which the model's tag HISTORY names:
MLflow never lets a parameter be changed, in any of its databases, so an entry's number can be taken
once. That is what makes a promotion over HTTP safe: the entry is written first, and who can't
write it has been overtaken. Then the alias follows; a process that dies in between leaves the
former champion in place, and the next change notices.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.errors import Overtaken, RegistryError, nearest
from treadle.records import Change, ModelVersion, NewVersion, Query, Training, Trial

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

# MLflow reports its use to its makers unless it is told not to, before it is imported.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Its client would try for four minutes. This is 15 s, in which a server that was restarted is back.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
# One that takes a request and never answers: by itself its client waits two minutes each time.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
RECORD = "treadle.record"
# MLflow's own words: of a run under another, and of what an experiment is for. Without the latter
# its UI takes ours for one of language models, and opens it at their traces.
PARENT = "mlflow.parentRunId"
KIND = {"mlflow.experimentKind": "custom_model_development"}
EXPERIMENT = "treadle"
HISTORY = "treadle.history"
SNAPSHOT = "treadle.snapshot"
OWNER, TEXT = "treadle.owner", "treadle.text"
MOST_TEXT = 5000
# What MLflow's filter language takes between quotes without a question.
_PLAIN = re.compile(r"[\w .:/-]*", re.ASCII)
# What the system said, somewhere in what urllib3 said of it.
_ERRNO = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
CHAMPION, CHALLENGER = "champion", "challenger"
_PAGE = 1000
_UNKNOWN = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}


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
            models = _pages(self._client.search_registered_models)
            return sorted(model.name for model in models if _is_ours(model))

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        """Return the aliases of every model, a thousand models a question."""
        with _in_words(self._uri):
            models = _pages(self._client.search_registered_models)
            return {
                model.name: {alias: int(version) for alias, version in model.aliases.items()}
                for model in models
                if _is_ours(model)
            }

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return every version of a model, newest first."""
        quoted = name.replace("'", "")
        known = self._search(f"name='{quoted}'")
        if not known:
            raise unknown_model(name, self.names())
        return sorted(known, key=lambda version: -version.version)

    def of_snapshot(self, digest: str) -> Sequence[ModelVersion]:
        """Return every version made from a snapshot, by name, newest first."""
        quoted = digest.replace("'", "")
        found = self._search(f"tags.`{SNAPSHOT}`='{quoted}'")
        return sorted(found, key=lambda version: (version.name, -version.version))

    def find(self, wanted: Query, limit: int, offset: int = 0) -> Sequence[ModelVersion]:
        """Return up to ``limit`` versions for which all of ``wanted`` holds. MLflow narrows them
        down by tags and words; metrics it doesn't know of versions, so they are looked at here."""
        found = self._search(
            " AND ".join(_clauses(wanted)), lambda version: _holds(wanted, version)
        )
        within = [version for version in found if wanted.alias in (None, *version.aliases)]
        ordered = sorted(within, key=lambda version: (version.name, -version.version))
        return ordered[offset : offset + limit]

    def _search(
        self, wanted: str, holds: Callable[["MlflowVersion"], bool] = lambda _: True
    ) -> list[ModelVersion]:
        with _in_words(self._uri):
            pages = _pages(partial(self._client.search_model_versions, wanted))
            found = [version for version in pages if RECORD in version.tags and holds(version)]
            # A search's versions come without their aliases.
            models = {name: self._model(name) for name in {version.name for version in found}}
            return [_record(version, _carried(models[version.name], version)) for version in found]

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version that carries ``alias``, or None."""
        from mlflow.exceptions import MlflowException

        with _in_words(self._uri):
            try:
                found = self._client.get_model_version_by_alias(name, alias)
            except MlflowException as error:
                if error.error_code in _UNKNOWN:
                    return None
                raise
        return _record(found, found.aliases) if RECORD in found.tags else None

    def register(
        self,
        new: NewVersion,
        files: Mapping[str, Path],
        number: int | None = None,
        training: Training | None = None,
    ) -> ModelVersion:
        """Add a version. It shows up last, whole, with its record."""
        with _in_words(self._uri):
            run_id = self._log_run(new, files, seconds_of(training))
            if training:
                self._log_trials(run_id, training)
            self._make_model(new.name)
            if number is not None:
                self._use_numbers_before(number, new)
            version = self._client.create_model_version(
                new.name,
                new.source,
                run_id=run_id,
                tags=tags_of(new),
                description=f"{new.lineage.family}, {new.semver}",
            )
            return _record(version, [])

    def _use_numbers_before(self, number: int, new: NewVersion) -> None:
        """Make and delete versions, without a record, until ``number`` is the next: MLflow counts,
        and never gives a number twice."""
        others = self._client.search_model_versions(f"name='{new.name}'", max_results=_PAGE)
        last = max((int(version.version) for version in others), default=0)
        while last < number - 1:
            made = self._client.create_model_version(new.name, new.source)
            self._client.delete_model_version(new.name, made.version)
            last = int(made.version)

    def _make_model(self, name: str) -> None:
        """Make sure that the model is there, with a history. Only one of two that make it at once
        succeeds; the other's history is dropped."""
        from mlflow.exceptions import MlflowException

        if self._model(name) is not None:
            return
        run_id = self._begin_history(name)
        try:
            self._client.create_registered_model(name, tags={HISTORY: run_id})
        except MlflowException as error:
            self._client.delete_run(run_id)
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _model(self, name: str) -> Any:
        """Return MLflow's registered model, or None."""
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code in _UNKNOWN:
                return None
            raise

    def _begin_history(self, name: str) -> str:
        run = self._client.create_run(self.experiment(EXPERIMENT), run_name=f"{name}: history")
        self._client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def history(self, name: str) -> Sequence[Change]:
        """Return the changes of a model's champion, oldest first."""
        with _in_words(self._uri):
            model = self._model(name)
            if model is None:
                raise unknown_model(name, self.names())
            run_id = model.tags.get(HISTORY)
            return self._entries(run_id) if run_id else []

    def _entries(self, run_id: str) -> list[Change]:
        return entries(self._client.get_run(run_id).data.params)

    def change_champion(self, name: str, change: Change, position: int) -> None:
        """Append ``change`` to the history, then point the aliases where it says."""
        from mlflow.exceptions import MlflowException

        with _in_words(self._uri):
            if change.to_version is not None:
                self._client.get_model_version(name, str(change.to_version))  # raises if unknown
            run_id = self._client.get_registered_model(name).tags.get(HISTORY)
            if run_id is None:  # a model that somebody made with MLflow's own tools
                run_id = self._begin_history(name)
                self._client.set_registered_model_tag(name, HISTORY, run_id)
            try:
                self._client.log_param(run_id, entry_key(position), change.model_dump_json())
            except MlflowException as error:
                if len(self._entries(run_id)) > position:
                    raise overtaken(name, self._entries(run_id)[position]) from error
                raise
            self._follow(name, run_id)

    def _follow(self, name: str, run_id: str) -> None:
        """Point the aliases where the last entry says. It is looked at again afterwards: whoever
        was slow here must not undo what came later."""
        last = None
        while last != (latest := self._entries(run_id)[-1]):
            last = latest
            if latest.to_version is None:
                self._client.delete_registered_model_alias(name, CHAMPION)
                continue
            number = str(latest.to_version)
            self._client.set_registered_model_alias(name, CHAMPION, number)
            aliases = self._client.get_registered_model(name).aliases
            if str(aliases.get(CHALLENGER)) == number:
                self._client.delete_registered_model_alias(name, CHALLENGER)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment; it is made where there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, self._artifacts, tags=KIND))

    def _log_run(self, new: NewVersion, files: Mapping[str, Path], seconds: float) -> str:
        from mlflow.entities import Metric, Param

        experiment_id = self.experiment(EXPERIMENT)
        now = _now_ms()
        run = self._client.create_run(
            experiment_id, begun(now, seconds), run_tags(new), f"{new.name} {new.semver}"
        )
        run_id = str(run.info.run_id)
        parameters = {"family": new.lineage.family, **new.lineage.parameters}
        self._client.log_batch(
            run_id,
            metrics=[Metric(m.name, m.value, now, 0) for m in new.metrics],
            params=[Param(key, str(value)) for key, value in parameters.items()],
        )
        for name, path in files.items():
            self._client.log_text(run_id, path.read_text("utf-8"), name)
        self._client.set_terminated(run_id, end_time=now)
        return run_id

    def _log_trials(self, parent: str, training: Training) -> None:
        from mlflow.entities import Metric, Param

        experiment_id = self.experiment(EXPERIMENT)
        now = _now_ms()
        for trial in training.trials:
            run = self._client.create_run(
                experiment_id, begun(now, trial.seconds), {PARENT: parent}, trial_title(trial)
            )
            run_id = str(run.info.run_id)
            self._client.log_batch(
                run_id,
                metrics=[
                    Metric(training.metric, training.value(score), now, units)
                    for units, score in trial.curve
                ],
                params=[Param(key, value) for key, value in trial_parameters(trial).items()],
            )
            self._client.set_terminated(run_id, trial_status(trial), now)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point ``alias`` at a version."""
        with _in_words(self._uri):
            self._client.set_registered_model_alias(name, alias, str(version))

    def remove_alias(self, name: str, alias: str) -> None:
        """Take ``alias`` away."""
        with _in_words(self._uri):
            self._client.delete_registered_model_alias(name, alias)


def _now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def seconds_of(training: Training | None) -> float:
    """Return how long training took; 0 where nobody knows any more."""
    return training.search_seconds + training.refit_seconds if training else 0.0


def begun(ended_ms: int, seconds: float) -> int:
    """Return when a run began that took ``seconds``: MLflow shows the difference."""
    return ended_ms - round(seconds * 1000)


def run_tags(new: NewVersion) -> dict[str, str]:
    """Return what MLflow's UI shows of a version's run: who, by what code, what for."""
    lineage = new.lineage
    shown = {
        "mlflow.user": lineage.who,
        "mlflow.source.name": lineage.code,
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": lineage.commit or "",
        "mlflow.note.content": json.loads(lineage.spec).get("description", ""),
    }
    return {key: value for key, value in shown.items() if value}


def trial_title(trial: Trial) -> str:
    """Return the name of a trial's run."""
    return f"trial {trial.number}: {trial.family}"


def trial_parameters(trial: Trial) -> dict[str, str]:
    """Return a trial's parameters as MLflow keeps them."""
    return {key: str(value) for key, value in {"family": trial.family, **trial.parameters}.items()}


def trial_status(trial: Trial) -> str:
    """Return how a trial's run ended, in MLflow's words."""
    return "FAILED" if trial.fault else "KILLED" if trial.stopped_early else "FINISHED"


def unknown_model(name: str, names: Sequence[str]) -> RegistryError:
    """Return the fault of asking for a model that isn't there."""
    known = (
        f" (there are: {', '.join(names[:20])})"
        if names
        else " (there are none yet: treadle run SPEC makes one)"
    )
    return RegistryError(f"there is no model {name!r}{nearest(name, names) or known}")


def overtaken(name: str, change: Change) -> Overtaken:
    """Return the fault of a change that came second."""
    return Overtaken(
        f"the champion of {name} was changed by {change.who} at the same time: it is "
        f"{_number(change.to_version)} now. Nothing else was changed; look at treadle history "
        f"{name}, and say again what you want"
    )


def _number(version: int | None) -> str:
    return "none" if version is None else f"version {version}"


def entry_key(position: int) -> str:
    """Return the parameter that holds an entry of the history."""
    return f"{position:06d}"


def entries(parameters: Mapping[str, str]) -> list[Change]:
    """Return the history that a run's parameters hold, in order."""
    return [Change.model_validate_json(parameters[key]) for key in sorted(parameters)]


def _is_ours(model: Any) -> bool:
    """Say whether a registered model has versions, and they are Treadle's."""
    return any(RECORD in version.tags for version in model.latest_versions)


def _carried(model: Any, version: "MlflowVersion") -> list[str]:
    """Return the aliases that a version carries."""
    aliases = {} if model is None else model.aliases
    return [alias for alias, number in aliases.items() if int(number) == int(version.version)]


def _record(version: "MlflowVersion", aliases: Sequence[str]) -> ModelVersion:
    created = datetime.fromtimestamp(version.creation_timestamp / 1000, UTC)
    return versioned(version.tags[RECORD], int(version.version), created, aliases)


def _clauses(wanted: Query) -> list[str]:
    """Put into MLflow's filter language what it can say; ``_holds`` looks at all of it again."""
    plain = {key: value for key, value in wanted.tags.items() if _PLAIN.fullmatch(key + value)}
    words = [word.casefold() for word in wanted.words if _PLAIN.fullmatch(word)]
    return [
        *(f"tags.`{key}` = '{value}'" for key, value in plain.items()),
        *(f"tags.`{TEXT}` LIKE '%{word}%'" for word in words),
    ]


def _holds(wanted: Query, version: "MlflowVersion") -> bool:
    text = version.tags.get(TEXT, "")
    if not all(word.casefold() in text for word in wanted.words):
        return False
    if any(version.tags.get(key) != value for key, value in wanted.tags.items()):
        return False
    if not wanted.bounds:
        return True
    metrics = {
        m.name: m.value for m in NewVersion.model_validate_json(version.tags[RECORD]).metrics
    }
    return all(b.metric in metrics and b.holds(metrics[b.metric]) for b in wanted.bounds)


def tags_of(new: NewVersion) -> dict[str, str]:
    """Return a version's tags: its whole record, and what people search for."""
    spec = json.loads(new.lineage.spec)
    about = [new.name, spec.get("description", ""), spec.get("owner", ""), new.signature.target]
    text = " ".join([*about, new.lineage.family, *new.signature.names]).casefold()
    return {
        **spec.get("tags", {}),
        OWNER: spec.get("owner", ""),
        TEXT: text[:MOST_TEXT],
        RECORD: new.model_dump_json(),
        "treadle.digest": new.digest,
        "treadle.semver": new.semver,
        SNAPSHOT: new.lineage.snapshot.digest,
    }


def versioned(
    record: str, version: int, created_at: datetime, aliases: Sequence[str]
) -> ModelVersion:
    """Return the version behind a RECORD tag."""
    new = NewVersion.model_validate_json(record)
    first = new.registered_at or created_at
    return ModelVersion(**dict(new), version=version, created_at=first, aliases=sorted(aliases))


def _pages(search: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(max_results=_PAGE, page_token=token)
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
        if "Max retries exceeded" in str(error):
            why = _ERRNO.search(str(error))
            words = why.group(1) if why else "no answer in time"
            raise RegistryError(
                f"the registry at {uri} can't be reached ({words}): start it, or mend "
                "TREADLE_MLFLOW_URI"
            ) from error
        raise RegistryError(f"the registry at {uri} refused: {_first_line(error)}") from error
    except OSError as error:
        raise RegistryError(f"the registry at {uri} can't be reached: {error}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]
