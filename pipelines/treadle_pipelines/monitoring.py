"""``treadle monitor``: one pass over the models at work. Each is looked at, storms are told from
news, and what was decided is written down and shown."""

import os
import socket
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from treadle import lease, runtime
from treadle.errors import RegistryError, TreadleError
from treadle.feedback import decision, ledger, monitor
from treadle.feedback.monitor import Turn
from treadle.feedback_spec import Feedback
from treadle.lease import Lease
from treadle.monitoring import FLEET_KEY, Entry, Fleet, FleetRow, Verdict
from treadle.records import ModelVersion, Query
from treadle.retrying import retried
from treadle.spec import Spec
from treadle_pipelines import notices
from treadle_pipelines.acting import Acting, act
from treadle_pipelines.fleet import write_page, write_page_of

MOST_MODELS = 1_000_000
# A turn is for a good part waiting: for the store, the registry, the disk. More at once would hold
# more windows in memory.
MODELS_AT_ONCE = 4
Say = Callable[[str], None]
Each = TypeVar("Each")
Found = TypeVar("Found")


def who() -> str:
    """Return who monitors."""
    return f"monitor on {socket.gethostname()}, process {os.getpid()}"


@dataclass(frozen=True)
class Pass:
    """One pass: since when, by which options other than the specs' own, who acts (None: it is a
    look that changes nothing), and up to which entry of each model's record the pass before came.
    """

    now: datetime
    options: Feedback | None
    acting: Acting | None
    known: Mapping[str, int]


def run(name: str | None, options: Feedback | None, look_only: bool, say: Say) -> Fleet:
    """Look at a model, or at all of them; write down what was decided, and do it. Where another
    monitor is at work, look and change nothing."""
    store, now = runtime.object_store(), datetime.now(UTC)
    retried(lambda: _champions(name))  # an unknown name, a registry that is away
    before = retried(known_fleet)
    with ExitStack() as stack:
        acting = None if look_only else _acting(stack, say)
        lines = before.rows if before else []
        known = {row.model: row.position for row in lines if row.position is not None}
        this = Pass(now, options, acting, known)
        entries, broken = _resumed(retried(lambda: _champions(name)), this)
        versions = retried(lambda: _champions(name))
        left = {row.model for row in broken}
        turns, faults = _look([v for v in versions if v.name not in left], entries, this)
        rows = [*(_decided(turn, this) for turn in _storms(turns)), *faults, *broken]
        found = _fleet(before, rows, versions if name is None else None, now)
        if acting is not None:
            acting.lease.check()
            retried(lambda: store.put_bytes(FLEET_KEY, found.model_dump_json().encode()))
            notices.send_pending(say)
        shared = acting is not None
        write_page(found, shared)
        _at_once(lambda turn: write_page_of(turn, shared), turns)
    return found.model_copy(update={"rows": rows})


def _acting(stack: ExitStack, say: Say) -> Acting | None:
    """Take the lease for as long as the pass lasts; None where another monitor holds it."""
    held = retried(lambda: lease.take("monitor", who(), runtime.object_store()))
    if not isinstance(held, Lease):
        say(f"{held} is at work: this is a look that changes nothing")
        return None
    stack.enter_context(lease.kept(held))
    return Acting(who(), held, _train, say, lambda: datetime.now(UTC))


def _train(spec: Spec) -> dict[str, Any]:
    """Run the training pipeline as a person would; return its summary."""
    from rich.console import Console

    from treadle_pipelines import local, run_report
    from treadle_pipelines.display import shown

    with shown(Console(stderr=True)) as show:
        done = local.run(spec, show)
    path = run_report.write(done, spec, runtime.settings().home)
    return run_report.summary(done, spec, path)


def _resumed(
    versions: list[ModelVersion], this: Pass
) -> tuple[dict[str, Entry | None], list[FleetRow]]:
    """Return the newest entry of each model; what a monitor that was killed had begun is brought to
    its end first. Beside them the models whose record can't be read or brought to its end."""
    store = runtime.object_store()

    def newest(version: ModelVersion) -> Entry | FleetRow | None:
        try:
            hint = this.known.get(version.name)
            return retried(lambda: ledger.latest(version.name, hint, store))
        except TreadleError as error:
            return _faulty(version, error)

    found: dict[str, Entry | None] = {}
    faults: list[FleetRow] = []
    for version, entry in zip(versions, _at_once(newest, versions), strict=True):
        try:
            if isinstance(entry, Entry) and this.acting is not None:
                entry = _brought_to_end(version, entry, this.options, this.acting)
        except TreadleError as error:
            entry = _faulty(version, error)
        if isinstance(entry, FleetRow):
            faults.append(entry)
        else:
            found[version.name] = entry
    return found, faults


def _brought_to_end(
    version: ModelVersion, entry: Entry, options: Feedback | None, acting: Acting
) -> Entry:
    """Do what had been begun."""
    pending = entry.state.pending
    if pending is None or (pending.learning is None and pending.back_to is None):
        return entry
    return act(version.name, entry, options or monitor.options_of(version)[0], acting)[0]


def _faulty(version: ModelVersion, error: TreadleError) -> FleetRow:
    return FleetRow(model=version.name, version=version.version, fault=str(error))


def _champions(name: str | None) -> list[ModelVersion]:
    if name is not None:
        return [runtime.serving_champion_version(name)]
    return list(runtime.registry().find(Query(alias="champion"), MOST_MODELS))


def known_fleet() -> Fleet | None:
    """Return the table of the pass before; None where there is none that can be read."""
    store = runtime.object_store()
    if not store.exists(FLEET_KEY):
        return None
    try:
        return Fleet.model_validate_json(store.get_bytes(FLEET_KEY))
    except ValidationError:
        return None  # another release's: it is made anew from the records


def _look(
    versions: list[ModelVersion], entries: Mapping[str, Entry | None], this: Pass
) -> tuple[list[Turn], list[FleetRow]]:
    """Give each model its turn; one that can't be looked at holds up no other."""

    def looked(version: ModelVersion) -> Turn | FleetRow:
        try:
            return retried(lambda: _turn(version, entries.get(version.name), this))
        except TreadleError as error:
            return _faulty(version, error)

    found = _at_once(looked, versions)
    turns = [each for each in found if isinstance(each, Turn)]
    return turns, [each for each in found if isinstance(each, FleetRow)]


def _at_once(do: Callable[[Each], Found], all_of: Iterable[Each]) -> list[Found]:
    """Return what ``do`` makes of each, a few at once."""
    with ThreadPoolExecutor(MODELS_AT_ONCE) as pool:
        return list(pool.map(do, all_of))


def _turn(version: ModelVersion, former: Entry | None, this: Pass) -> Turn:
    registry = runtime.registry()

    def numbered(number: int) -> ModelVersion | None:
        known = registry.versions(version.name)
        return next((each for each in known if each.version == number), None)

    return monitor.turn(
        version, registry.history(version.name), numbered, former, this.options, runtime.bundle,
        this.now, runtime.object_store(),
    )  # fmt: skip


def _storms(turns: list[Turn]) -> list[Turn]:
    """Tell one fault upstream, which moves many models at once, from news."""
    looks = [turn.found for turn in turns if turn.found is not None]
    wants = sum(found.verdict is Verdict.RETRAIN for found in looks)
    shares = {turn.options.storm_share for turn in turns}
    columns = {share: decision.storm(looks, share) for share in shares}
    calm = []
    for turn in turns:
        column = columns[turn.options.storm_share]
        if column is None or turn.found is None or turn.found.verdict is not Verdict.RETRAIN:
            calm.append(turn)
            continue
        calm.append(monitor.calmed(turn, decision.calmed(turn.found, column, wants)))
    return calm


def _decided(turn: Turn, this: Pass) -> FleetRow:
    """Write down what was decided about a model and do it, if this monitor may."""
    entry, note = turn.former, turn.note
    if this.acting is None:
        return monitor.seen_row(turn)
    try:
        if turn.found is not None:
            this.acting.lease.check()
            entry = retried(partial(monitor.record, turn, who(), this.now, runtime.object_store()))
        if entry is not None and entry.state.pending is not None:
            entry, waits = act(turn.version.name, entry, turn.options, this.acting)
            note = waits or note
        if entry is not None:
            notices.tell(turn.version.name, this.known.get(turn.version.name, -1) + 1, entry)
    except TreadleError as error:
        return monitor.row(turn, None).model_copy(update={"fault": str(error)})
    found = monitor.row(turn, entry)
    champion = retried(partial(runtime.serving_champion_version, turn.version.name))
    return found.model_copy(update={"note": note, "version": champion.version})


def _fleet(
    before: Fleet | None, rows: list[FleetRow], all_of: list[ModelVersion] | None, now: datetime
) -> Fleet:
    """Return the table with these models' lines anew; models that are gone leave it when all were
    looked at."""
    lines = {row.model: row for row in before.rows} if before else {}
    for row in rows:
        known = lines.get(row.model)
        lines[row.model] = row if row.fault is None or known is None else known.model_copy(
            update={"fault": row.fault}
        )  # fmt: skip
    there = None if all_of is None else {version.name for version in all_of}
    kept = [row for name, row in sorted(lines.items()) if there is None or name in there]
    return Fleet(at=now, rows=kept)


def accept(name: str, who_: str, why: str) -> str:
    """Take an incident for how things are now; say what was done."""
    store = runtime.object_store()
    version = runtime.serving_champion_version(name)
    former = ledger.latest(name, None, store)
    done = monitor.accept(version, former, who_, why, datetime.now(UTC), store)
    if done is None:
        raise RegistryError(
            f"{name} has no incident that could be accepted: treadle history {name}"
        )
    return f"{name}: the next look compares with what was an incident until now"


def exit_code(fleet: Fleet) -> int:
    """Return 3 where something needs a person, 1 where a model can't be looked at."""
    if any(row.needs_person for row in fleet.rows):
        return 3
    return 1 if any(row.fault for row in fleet.rows) else 0
