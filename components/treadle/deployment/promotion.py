"""Change a model's champion: promotion, and rollback to the former one. Each change is an entry of
the model's history, with who made it and why."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from treadle.bundle import Bundle
from treadle.errors import GateRefused, Overtaken, RegistryError
from treadle.ports import ObjectStore, Registry
from treadle.records import Change, ChangeKind, ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
# A change whose alias hasn't followed is believed to be under way for so long; then it was broken
# off.
UNDER_WAY = timedelta(seconds=60)


def promote(
    version: ModelVersion,
    registry: Registry,
    store: ObjectStore,
    who: str,
    why: str,
    *,
    override: bool = False,
) -> Change | None:
    """Make a version the champion; None where it is already. Its bundle is proved first.

    Raises GateRefused where the gate said no to it and a person doesn't ``override`` that,
    ModelError where the bundle is missing or altered, Overtaken where the champion changed
    meanwhile.
    """
    if not version.decision.passed and not override:
        raise GateRefused(
            f"the gate said no to {version.name} version {version.version}: "
            f"{'; '.join(version.decision.reasons)} (--override makes it the champion on your word)"
        )
    Bundle.fetch(version.digest, store).prove()
    return change(registry, version.name, ChangeKind.PROMOTED, version, who, why)


def rollback(name: str, registry: Registry, store: ObjectStore, who: str, why: str) -> Change:
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
    Bundle.fetch(version.digest, store).prove()
    return _write(registry, name, history, ChangeKind.ROLLED_BACK, version, who, why)


def change(
    registry: Registry, name: str, kind: ChangeKind, to: ModelVersion | None, who: str, why: str
) -> Change | None:
    """Make ``to`` the champion (None: there is none then); None where it is already."""
    history = settled(registry, name, who)
    current = history[-1].to_version if history else None
    if current == (to and to.version):
        return None
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
    )
    registry.change_champion(name, entry, len(history))
    return entry


def champions(history: Sequence[Change]) -> list[int]:
    """Return the champions that a rollback can go back through, the present one last: a rollback
    takes away what it leaves."""
    stack: list[int] = []
    for entry in history:
        if entry.to_version is None:
            stack = stack[:-1]
            continue
        if entry.kind is not ChangeKind.PROMOTED and entry.to_version in stack:
            last = len(stack) - 1 - stack[::-1].index(entry.to_version)
            stack = stack[: last + 1]
        else:
            stack.append(entry.to_version)
    return stack
