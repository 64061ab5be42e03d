"""Change a model's champion: promotion, and rollback to the former one. Each change is an entry of
the model's history, with who made it and why."""

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from treadle.bundle import Bundle
from treadle.champions import champions, retired
from treadle.errors import GateRefused, Overtaken, RegistryError
from treadle.ports import Registry
from treadle.records import Change, ChangeKind, ModelVersion
from treadle.spec import Approval

# Opens the bundle of that digest, and only where it is whole and signed as it must be.
Fetch = Callable[[str], Bundle]
CHAMPION, CHALLENGER = "champion", "challenger"
# A change whose alias hasn't followed is believed to be under way for so long; then it was broken
# off.
UNDER_WAY = timedelta(seconds=60)


def promote(
    version: ModelVersion,
    registry: Registry,
    fetch: Fetch,
    who: str,
    why: str,
    *,
    kind: ChangeKind = ChangeKind.PROMOTED,
    override: bool = False,
) -> Change | None:
    """Make a version the champion; None where it is already. Its bundle is proved first.

    Raises GateRefused where the gate said no to it and a person doesn't ``override`` that, or
    where the spec asks for approval and ``kind`` is none; ModelError where the bundle is missing,
    altered or not signed as it must be; Overtaken where the champion changed meanwhile.
    """
    name, number = version.name, version.version
    history = settled(registry, name, who)
    if number == (history[-1].to_version if history else None):
        return None
    if number in retired(history):
        raise RegistryError(f"{name} version {number} is retired: treadle history {name} says why")
    if not version.decision.passed and not override:
        raise GateRefused(
            f"the gate said no to {name} version {number}: "
            f"{'; '.join(version.decision.reasons)} (--override makes it the champion on your word)"
        )
    if needs_approval(version) and kind is not ChangeKind.APPROVED:
        raise GateRefused(
            f"{name} asks for approval (approval in its spec): "
            f'treadle approve {name} {number} --why "…"'
        )
    fetch(version.digest).prove()
    return _write(registry, name, history, kind, version, who, why)


def needs_approval(version: ModelVersion) -> bool:
    """Say whether the version's spec asks for a person's approval."""
    return bool(json.loads(version.lineage.spec).get("approval") == Approval.REQUIRED)


def retire(version: ModelVersion, registry: Registry, who: str, why: str) -> Change | None:
    """Put a version away for good: it can't become the champion any more. None where it is put
    away already. Raises RegistryError for the champion."""
    name, number = version.name, version.version
    history = settled(registry, name, who)
    current = history[-1].to_version if history else None
    if number == current:
        raise RegistryError(
            f"{name} version {number} is the champion: treadle rollback {name}, or promote "
            "another, before it is retired"
        )
    if number in retired(history):
        return None
    champion = registry.aliased(name, CHAMPION)
    done = _write(registry, name, history, ChangeKind.RETIRED, champion, who, why, number)
    challenger = registry.aliased(name, CHALLENGER)
    if challenger and challenger.version == number:
        registry.remove_alias(name, CHALLENGER)
    return done


def rollback(name: str, registry: Registry, fetch: Fetch, who: str, why: str) -> Change:
    """Restore the former champion, from the bundle that is there. A second rollback goes one
    further back.

    Raises RegistryError where there was none, ModelError where its bundle is missing or altered.
    """
    history = settled(registry, name, who)
    former = champions(history)[:-1]
    if not former:
        raise RegistryError(
            f"{name} has no former champion to go back to: treadle models {name} shows its "
            f"versions, treadle promote {name} VERSION makes one of them the champion"
        )
    version = next(v for v in registry.versions(name) if v.version == former[-1])
    fetch(version.digest).prove()
    return _write(registry, name, history, ChangeKind.ROLLED_BACK, version, who, why)


def change(
    registry: Registry,
    name: str,
    kind: ChangeKind,
    former: ModelVersion | None,
    to: ModelVersion | None,
    who: str,
    why: str,
) -> Change | None:
    """Make ``to`` the champion in place of ``former`` (None: there is none); None where it is
    already. Raises Overtaken where the champion is another than ``former`` by now."""
    history = settled(registry, name, who)
    current = history[-1].to_version if history else None
    if current == (to and to.version):
        return None
    if current != (former and former.version):
        raise Overtaken(
            f"the champion of {name} was changed by {history[-1].who} meanwhile: it is version "
            f"{current or 'none'} now. Nothing else was changed"
        )
    return _write(registry, name, history, kind, to, who, why)


def settled(registry: Registry, name: str, who: str) -> list[Change]:
    """Return the history, which ends with the present champion. Where that is another than was
    written down, it is written down first."""
    history = list(registry.history(name))
    current = registry.aliased(name, CHAMPION)
    last = history[-1] if history else None
    said = last.to_version if last else None
    if said == (current and current.version):
        return history
    if last and datetime.now(UTC) - last.at < UNDER_WAY:
        raise Overtaken(
            f"{last.who} is changing the champion of {name} right now: nothing else was changed; "
            f"wait a minute, look at treadle history {name}, and say again what you want"
        )
    why = "a change was broken off, or somebody set the alias elsewhere"
    noticed = _write(registry, name, history, ChangeKind.NOTICED, current, who, why)
    return [*history, noticed]


def _write(
    registry: Registry,
    name: str,
    history: Sequence[Change],
    kind: ChangeKind,
    to: ModelVersion | None,
    who: str,
    why: str,
    put_away: int | None = None,
) -> Change:
    """Append the change to the history that was decided by. Where that has grown since, Overtaken
    is raised and nothing is changed."""
    entry = Change(
        id=uuid.uuid4().hex,
        kind=kind,
        from_version=history[-1].to_version if history else None,
        to_version=to.version if to else None,
        digest=to.digest if to else None,
        who=who,
        why=why,
        at=datetime.now(UTC),
        retired=put_away,
    )
    registry.change_champion(name, entry, len(history))
    return entry
