"""What a person does to a model's champion: promote, roll back, look at its history."""

import getpass
import json
import re
from collections.abc import Iterator

from pydantic_core import to_json

from treadle import runtime
from treadle.deployment import announcement, promotion
from treadle.errors import SpecError
from treadle.feedback import ledger
from treadle.monitoring import Entry, EntryKind, Verdict
from treadle.records import Change, ChangeKind
from treadle_pipelines.listing import columns, local_time

MOST_WORDS = 1000


def promote(
    name: str,
    words: str,
    who: str | None,
    why: str,
    override: bool,
    as_json: bool,
    kind: ChangeKind = ChangeKind.PROMOTED,
) -> str:
    """Make a version the champion; say what was done."""
    version = runtime.version(name, words)
    done = promotion.promote(
        version, runtime.registry(), runtime.bundle, who_of(who), why_of(why), kind=kind,
        override=override,
    )  # fmt: skip
    announce(name)
    if done is None and not as_json:
        return f"{name} version {version.version} ({version.semver}) is the champion already"
    return _told(name, done, as_json)


def retire(name: str, words: str, who: str | None, why: str, as_json: bool) -> str:
    """Put a version away for good; say what was done."""
    version = runtime.version(name, words)
    done = promotion.retire(version, runtime.registry(), who_of(who), why_of(why))
    if as_json:
        return _as_json(name, done)
    already = "" if done else " already"
    return f"{name} version {version.version} ({version.semver}) is retired{already}"


def rollback(name: str, who: str | None, why: str, as_json: bool) -> str:
    """Restore the former champion; say what was done."""
    done = promotion.rollback(name, runtime.registry(), runtime.bundle, who_of(who), why_of(why))
    announce(name)
    return _told(name, done, as_json)


def announce(name: str) -> None:
    """Tell those who follow the champion without a registry who it is now."""
    announcement.announce(
        name, runtime.registry(), runtime.object_store(), runtime.bundle, runtime.signing_key()
    )


def _told(name: str, done: Change | None, as_json: bool) -> str:
    if as_json or done is None:
        return _as_json(name, done)
    words = f"{name} version {done.to_version} is the champion"
    if done.from_version is None:
        return words
    words += f", before it was version {done.from_version}"
    is_back = done.kind is ChangeKind.ROLLED_BACK
    return words if is_back else f"{words}\nback to that: treadle rollback {name}"


def _as_json(name: str, done: Change | None) -> str:
    change = done.model_dump(mode="json") if done else None
    return json.dumps({"model": name, "change": change}, ensure_ascii=False)


def history(name: str, as_json: bool) -> str:
    """Return a line a change of the champion, and a line a decision of the loop that isn't the one
    before once more; newest first."""
    changes = runtime.registry().history(name)
    decisions = list(ledger.entries(name, runtime.object_store()))
    if as_json:
        found = {
            "changes": [change.model_dump(mode="json") for change in changes],
            "decisions": [entry.model_dump(mode="json", exclude={"state"}) for entry in decisions],
        }
        return to_json({"model": name, **found}, inf_nan_mode="null").decode()
    if not changes:
        return f"{name} never had a champion: the gate has let no version through yet"
    rows = [
        *((change.at, _change(change)) for change in changes),
        *((entry.at, _decision(entry)) for entry in _told_once(decisions)),
    ]
    newest_first = sorted(rows, key=lambda row: row[0], reverse=True)
    return columns(
        [["WHEN", "WHAT", "FROM", "TO", "WHO", "WHY"], *(row for _, row in newest_first)]
    )


def _change(change: Change) -> list[str]:
    return [
        local_time(change.at), _what(change), _number(change.from_version),
        _number(change.to_version), change.who, change.why or "no reason given",
    ]  # fmt: skip


def _decision(entry: Entry) -> list[str]:
    about = entry.evidence.version if entry.evidence else None
    what = entry.outcome or (entry.kind if entry.kind is EntryKind.BEGUN else entry.verdict)
    why = entry.reasons[0] if entry.reasons else ""
    return [
        local_time(entry.at), (what or entry.kind).value, str(about or ""),
        str(entry.version or ""), entry.who, why,
    ]  # fmt: skip


def _told_once(decisions: list[Entry]) -> Iterator[Entry]:
    """Leave out looks that found what the look before had found."""
    former = None
    for entry in decisions:
        about = entry.evidence.version if entry.evidence else None
        said = (entry.kind, entry.verdict, entry.outcome, about, _cause(entry))
        if entry.kind is not EntryKind.DECIDED or said != former:
            yield entry
        former = said


def _cause(entry: Entry) -> str:
    """Return what an incident is of, its figures left out."""
    first = entry.reasons[0] if entry.reasons and entry.verdict is Verdict.INCIDENT else ""
    return re.split(r"\d", first, maxsplit=1)[0]


def _what(change: Change) -> str:
    return change.kind.value if change.retired is None else f"{change.retired} retired"


def _number(version: int | None) -> str:
    return "none" if version is None else str(version)


def who_of(given: str | None) -> str:
    """Return who wants it: what was said, or the login name."""
    if given is not None and not given.strip():
        raise SpecError("--who is empty: say who wants it")
    try:
        return given.strip()[:MOST_WORDS] if given else getpass.getuser()
    except (KeyError, OSError, ImportError) as error:
        raise SpecError("this user has no login name: say with --who who wants it") from error


def why_of(given: str) -> str:
    """Return the reason in one line."""
    if len(given) > MOST_WORDS:
        raise SpecError(f"--why has {len(given):,} characters: {MOST_WORDS:,} are the most")
    return " ".join(given.split())
