"""Do what was decided: train anew, or roll back. Everything is written down before and after, so
that a monitor which is killed in between is taken up where it was: run again, it comes to the same
end, once."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from treadle import runtime
from treadle.deployment import promotion
from treadle.errors import TreadleError
from treadle.feedback import learning, ledger, log
from treadle.feedback.decision import hindrance
from treadle.feedback_spec import Feedback, Review
from treadle.lease import Lease
from treadle.monitoring import Entry, EntryKind, Learning, Outcome, Pending, State, Verdict
from treadle.records import ModelVersion
from treadle.retrying import retried
from treadle.spec import Spec
from treadle_pipelines.champions import announce

Say = Callable[[str], None]
Train = Callable[[Spec], dict[str, Any]]


@dataclass(frozen=True)
class Acting:
    """Who acts, under which lease, how a spec is trained (``local.run``'s summary), and what time
    it is."""

    who: str
    lease: Lease
    train: Train
    say: Say
    clock: Callable[[], datetime]


def act(name: str, entry: Entry, options: Feedback, acting: Acting) -> tuple[Entry, str]:
    """Do what the newest entry's decision asks for; return the newest entry then, and in words why
    nothing was done yet."""
    pending = entry.state.pending
    if pending is None:
        return entry, ""
    if pending.verdict is Verdict.ROLL_BACK:
        return _roll_back(name, entry, pending, options, acting), ""
    return _retrain(name, entry, pending, options, acting)


def _champion(name: str) -> ModelVersion:
    return retried(lambda: runtime.serving_champion_version(name))


def _done(
    name: str, entry: Entry, outcome: Outcome, reasons: list[str], version: int | None,
    acting: Acting, **state: object,
) -> Entry:  # fmt: skip
    acting.lease.check()
    left = entry.state.model_copy(update={"pending": None, **state})
    pending = entry.state.pending
    return retried(lambda: ledger.append(
        name, entry, EntryKind.DONE, acting.who, acting.clock(), left, runtime.object_store(),
        verdict=pending.verdict if pending else None, outcome=outcome, reasons=reasons,
        version=version,
    ))  # fmt: skip


def _roll_back(
    name: str, entry: Entry, pending: Pending, options: Feedback, acting: Acting
) -> Entry:
    champion = _champion(name)
    if champion.version == pending.back_to:  # a monitor that was killed had come so far
        retried(lambda: announce(name))
        return _done(name, entry, Outcome.ROLLED_BACK, entry.reasons, champion.version, acting)
    if champion.version != pending.version:
        return _overtaken(name, entry, champion, acting)
    if options.review is Review.REQUIRED:
        words = f'feedback.review is required: treadle rollback {name} --why "…"'
        return _done(name, entry, Outcome.NEEDS_PERSON, [words, *entry.reasons], None, acting)
    acting.lease.check()
    change = promotion.rollback(
        name, runtime.registry(), runtime.bundle, acting.who, entry.reasons[0]
    )
    retried(lambda: announce(name))
    acting.say(f"{name}: version {change.to_version} is the champion again")
    return _done(name, entry, Outcome.ROLLED_BACK, entry.reasons, change.to_version, acting)


def _overtaken(name: str, entry: Entry, champion: ModelVersion, acting: Acting) -> Entry:
    words = f"version {champion.version} has become the champion meanwhile: nothing was changed"
    return _done(name, entry, Outcome.OVERTAKEN, [words], champion.version, acting)


def _retrain(
    name: str, entry: Entry, pending: Pending, options: Feedback, acting: Acting
) -> tuple[Entry, str]:
    champion = _champion(name)
    if champion.version != pending.version:
        if pending.learning is not None and _is_of(champion, pending.learning):
            words = ["it was promoted before this monitor took over", *champion.decision.reasons]
            retried(lambda: announce(name))
            return _ended(name, entry, Outcome.PROMOTED, words, champion.version, acting), ""
        return _overtaken(name, entry, champion, acting), ""
    if pending.learning is None:
        why = hindrance(entry.state, options, acting.clock())
        if why is not None:
            return entry, f"to be retrained, but not now: {why}"
        found = _begin(name, entry, champion, acting)
        if isinstance(found, str):
            return entry, f"to be retrained, but not now: {found}"
        entry = found
    assert entry.state.pending is not None
    assert entry.state.pending.learning is not None
    return _trained(name, entry, entry.state.pending.learning, acting)


def _is_of(version: ModelVersion, learning_: Learning) -> bool:
    """Say whether a version came of this very retraining."""
    return bool(json.loads(version.lineage.spec) == json.loads(learning_.spec))


def _begin(name: str, entry: Entry, champion: ModelVersion, acting: Acting) -> Entry | str:
    """Write down what is learned from, before anything is: a monitor that takes over learns from
    the same."""
    store, now = runtime.object_store(), acting.clock()
    keys = log.keys_of(name, store)
    found = retried(lambda: learning.of(champion, keys, entry.state.faults, now, store))
    if isinstance(found, str):
        return found
    acting.lease.check()
    state = entry.state
    assert state.pending is not None
    begun = state.model_copy(
        update={
            "begun": [*state.begun, now],
            "pending": state.pending.model_copy(update={"learning": found}),
        }
    )
    what = (
        f"{found.added:,} labelled rows are new, the newest {found.held_out:,} are held out"
        if found.snapshot
        else "the source is read again"
    )
    return retried(lambda: ledger.append(
        name, entry, EntryKind.BEGUN, acting.who, now, begun, store, verdict=entry.verdict,
        reasons=[what],
    ))  # fmt: skip


def _trained(name: str, entry: Entry, found: Learning, acting: Acting) -> tuple[Entry, str]:
    acting.say(f"{name}: {entry.reasons[0]}; training begins")
    try:
        summary = acting.train(Spec.model_validate_json(found.spec))
    except TreadleError as error:
        # Of somebody else's change too: the next pass sees whether it stays.
        if error.may_pass:
            return entry, f"the retraining is taken up again next time: {error}"
        return _ended(name, entry, Outcome.FAILED, [str(error)], None, acting), ""
    outcome = Outcome.PROMOTED if summary["promoted"] else Outcome.KEPT
    if summary["awaits_approval"]:
        outcome = Outcome.AWAITS_APPROVAL
    acting.say(f"{name} version {summary['version']}: {outcome.value}")
    return (
        _ended(name, entry, outcome, list(summary["reasons"]), summary["version"], acting),
        "",
    )


def _ended(
    name: str, entry: Entry, outcome: Outcome, reasons: list[str], version: int | None,
    acting: Acting,
) -> Entry:  # fmt: skip
    state: State = entry.state
    return _done(
        name, entry, outcome, reasons, version, acting, ended=[*state.ended, acting.clock()]
    )
