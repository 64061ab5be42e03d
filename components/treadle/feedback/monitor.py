"""One model's turn in a pass of the monitor: look, if there is anything new to look at, and write
down what was decided. What is to be done about it is the caller's."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from treadle import champions, labels, predictions
from treadle.bundle import Bundle
from treadle.feedback import ledger, log, look, reference
from treadle.feedback.decision import decide
from treadle.feedback.held_out import window_words
from treadle.feedback.look import Champion, Window
from treadle.feedback_spec import Feedback
from treadle.monitoring import (
    Counted,
    Entry,
    EntryKind,
    Evidence,
    FleetRow,
    Monitoring,
    Pending,
    State,
    Verdict,
)
from treadle.ports import ObjectStore
from treadle.records import Change, ModelVersion
from treadle.spec import MetricName

MOST_TREND = 30
MOST_FAULTS = 200
_KEPT = timedelta(days=8)
Fetch = Callable[[str], Bundle]


@dataclass(frozen=True)
class Turn:
    """A model's turn: its champion, the newest entry of its record, and what was seen now, if there
    was anything new. ``state`` is what the next entry carries."""

    version: ModelVersion
    options: Feedback
    former: Entry | None
    state: State
    found: Monitoring | None = None
    note: str = ""


def options_of(version: ModelVersion) -> tuple[Feedback, str]:
    """Return what a version's spec says of the loop, and its metric; what another release wrote and
    this one can't read counts as not said."""
    spec = json.loads(version.lineage.spec)
    try:
        options = Feedback.model_validate(spec.get("feedback", {}))
        metric = str(spec.get("training", {}).get("metric", MetricName.AUTO.value))
    except ValidationError:
        return Feedback(), MetricName.AUTO.value
    return options, metric


def turn(
    version: ModelVersion,
    history: Sequence[Change],
    predecessor: Callable[[int], ModelVersion | None],
    former: Entry | None,
    options: Feedback | None,
    fetch: Fetch,
    now: datetime,
    store: ObjectStore,
) -> Turn:
    """Look at a model. ``predecessor`` returns the version of a number, ``former`` is the newest
    entry of its record, ``options`` are others than its spec's."""
    said, metric = options_of(version)
    options = options or said
    state = _carried(former, version)
    keys = log.keys_of(version.name, store)
    deliveries = sum(1 for _ in labels.keys(version.name, None, store))
    fresh = [key for key in keys if f"/{version.digest}-" in key and _is_new(key, state)]
    if not fresh and deliveries == state.labels:
        return Turn(version, options, former, state, note="nothing new")
    bundle = fetch(version.digest)
    was = reference.of(version, bundle, metric, store)
    champion = Champion(version, bundle, was, metric, _former(history, predecessor, fetch))
    window = _window(options, state)
    logged = look.read(champion, keys, window, now, store)
    new = int(logged.is_new.sum())
    if new < options.min_rows:
        if deliveries == state.labels:
            note = f"{new:,} new rows: at {options.min_rows:,} it is looked at"
            return Turn(version, options, former, state, note=note)
        logged = logged.looked_at()
    seen, cells = look.look(champion, logged, window, window_words(options), store)
    found = decide(seen, options)
    after = _after(state, found, cells if seen.rows else {}, keys, deliveries, now)
    return Turn(version, options, former, after, found)


def _carried(former: Entry | None, version: ModelVersion) -> State:
    """Return the state that the newest entry carries; counts of another champion are over other
    cells."""
    if former is None:
        return State(digest=version.digest)
    if former.state.digest == version.digest:
        return former.state
    return former.state.model_copy(
        update={"digest": version.digest, "cells": {}, "unaccepted": {}, "trend": []}
    )


def _is_new(key: str, state: State) -> bool:
    if state.new_from is None:
        return True
    return log.hour_in(key) >= state.new_from and key not in state.files


def _former(
    history: Sequence[Change],
    predecessor: Callable[[int], ModelVersion | None],
    fetch: Fetch,
) -> tuple[int, Bundle] | None:
    number = champions.predecessor(history)
    version = None if number is None else predecessor(number)
    return None if version is None else (version.version, fetch(version.digest))


def _window(options: Feedback, state: State) -> Window:
    return Window(
        rows=min(options.window_rows or log.MOST_ROWS, log.MOST_ROWS),
        days=options.window_days,
        seen=set(state.files),
        new_from=state.new_from,
        cells=state.cells,
        faults=state.faults,
    )


def _after(
    state: State,
    found: Monitoring,
    cells: dict[str, Counted],
    keys: Sequence[str],
    deliveries: int,
    now: datetime,
) -> State:
    """Return the state after a look."""
    seen = found.evidence
    update: dict[str, object] = {
        "labels": deliveries,
        "begun": [at for at in state.begun if now - at < _KEPT],
        "ended": [at for at in state.ended if now - at < _KEPT],
        "pending": None,
    }
    if seen.metric is not None:
        update["trend"] = [*state.trend, seen.metric.value][-MOST_TREND:]
    if seen.rows:
        # A server whose clock is ahead doesn't hide what the others write.
        newest = min(log.hour_in(keys[-1]), predictions.hour_of(now)) - timedelta(hours=1)
        update |= {
            "new_from": newest,
            "files": [key for key in keys if log.hour_in(key) >= newest],
            "drifts": [*state.drifts, furthest(seen)][-MOST_TREND:],
        }
        if found.verdict is Verdict.INCIDENT:
            assert seen.since is not None and seen.until is not None
            update |= {
                "unaccepted": cells,
                "faults": [*state.faults, (seen.since, seen.until)][-MOST_FAULTS:],
                "in_a_row": state.in_a_row + 1,
            }
        else:
            update |= {"cells": cells, "unaccepted": {}, "in_a_row": 0}
    return state.model_copy(update=update)


def furthest(seen: Evidence) -> float:
    """Return the largest drift that can be believed."""
    return max((each.distance for each in seen.columns if each.significant), default=0.0)


def record(it: Turn, who: str, now: datetime, store: ObjectStore) -> Entry:
    """Write down what was decided. Raises Overtaken where another monitor decided meanwhile."""
    assert it.found is not None
    position = 0 if it.former is None else it.former.position + 1
    pending = None
    if it.found.verdict in (Verdict.RETRAIN, Verdict.ROLL_BACK):
        against = it.found.evidence.against
        pending = Pending(
            decision=position,
            verdict=it.found.verdict,
            version=it.version.version,
            back_to=against.version if against else None,
        )
    return ledger.append(
        it.version.name, it.former, EntryKind.DECIDED, who, now,
        it.state.model_copy(update={"pending": pending}), store,
        verdict=it.found.verdict, reasons=it.found.reasons, evidence=it.found.evidence,
    )  # fmt: skip


def calmed(it: Turn, found: Monitoring) -> Turn:
    """Return a turn whose verdict is an incident after all: its counts aren't what the next look
    compares with."""
    seen, cells = found.evidence, it.state.cells
    if not seen.rows or seen.since is None or seen.until is None:
        return replace(it, found=found)
    before = {} if it.former is None else _carried(it.former, it.version).cells
    faults = [*it.state.faults, (seen.since, seen.until)][-MOST_FAULTS:]
    update = {"cells": before, "unaccepted": cells, "faults": faults, "in_a_row": 1}
    return replace(it, found=found, state=it.state.model_copy(update=update))


def accept(
    version: ModelVersion,
    former: Entry | None,
    who: str,
    why: str,
    now: datetime,
    store: ObjectStore,
) -> Entry | None:
    """Write down that what was taken for an incident is how things are now: the next look compares
    with it, and its rows may be learned from. None where there is no incident."""  # fmt: skip
    if former is None or not former.state.unaccepted:
        return None
    state = former.state
    accepted = state.model_copy(
        update={
            "cells": state.unaccepted,
            "unaccepted": {},
            "in_a_row": 0,
            "faults": _before(state),
        }
    )
    return ledger.append(
        version.name, former, EntryKind.ACCEPTED, who, now, accepted, store, reasons=[why]
    )


def _before(state: State) -> list[tuple[datetime, datetime]]:
    """Return the faults but those of the incident that lasts: the last ones in a row."""
    return state.faults[: -state.in_a_row] if state.in_a_row else state.faults


def seen_row(it: Turn) -> FleetRow:
    """Return a model's line as this look sees it, which wasn't written down."""
    if it.found is None:
        return row(it, None)
    seen = it.found.evidence
    return row(it, None).model_copy(
        update={
            "verdict": it.found.verdict,
            "reasons": it.found.reasons,
            "outcome": None,
            "rows": seen.rows,
            "metric": seen.metric,
            "reference": seen.reference,
            "furthest": furthest(seen),
            "needs_person": it.found.verdict is Verdict.INCIDENT,
        }
    )


def row(it: Turn, entry: Entry | None) -> FleetRow:
    """Return a model's line in the fleet's table, as of the newest entry."""
    entry = entry or it.former
    whole = FleetRow(model=it.version.name, version=it.version.version, note=it.note)
    if entry is None:
        return whole
    seen = entry.evidence or (it.found.evidence if it.found else None)
    told = {
        "verdict": entry.verdict,
        "reasons": entry.reasons,
        "outcome": entry.outcome,
        "at": entry.at,
        "rows": seen.rows if seen else 0,
        "metric": seen.metric if seen else None,
        "reference": seen.reference if seen else None,
        "furthest": furthest(seen) if seen else None,
        "trend": entry.state.trend or entry.state.drifts,
        "position": entry.position,
        "needs_person": entry.needs_person,
    }
    return whole.model_copy(update=told)
