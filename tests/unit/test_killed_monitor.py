"""A monitor that is killed, at each of its writes in turn: run again it comes to the same end,
once."""

import copy
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import AtWork, rows_of, trained

from treadle import runtime
from treadle.adapters.filesystem import DirectoryStore
from treadle.config import Settings
from treadle.deployment import promotion
from treadle.feedback import ledger
from treadle.monitoring import Outcome
from treadle_pipelines import monitoring

MOST_WRITES = 100


class Killed(BaseException):
    """What a kill looks like from inside."""


class Life:
    """What a process writes before it is killed: ``writes`` to the store and the registry, and from
    then on nothing."""

    def __init__(self, writes: int) -> None:
        self.left = writes

    def until_killed(self, write: Callable[..., Any]) -> Callable[..., Any]:
        """Return a write that is counted."""

        def counted(*given: Any, **named: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return write(*given, **named)

        return counted


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[AtWork], AtWork]]:
    """Return what lets the monitor work on a copy of models at work."""
    monkeypatch.setattr("treadle.retrying.time.sleep", lambda _seconds: None)
    # A minute passes before somebody takes over.
    monkeypatch.setattr(promotion, "UNDER_WAY", timedelta(0))
    # What is to be told waits in the store, because nobody answers there.
    here = Settings(home=tmp_path / "home", webhook_url="http://127.0.0.1:9/hook")
    monkeypatch.setattr(runtime, "settings", lambda: here)

    def begun(work: AtWork) -> AtWork:
        again = copy.copy(work)
        place = tmp_path / "again"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(work.directory / "objects", place)
        again.store, again.registry = DirectoryStore(place), copy.deepcopy(work.registry)
        monkeypatch.setattr(runtime, "registry", lambda: again.registry)
        monkeypatch.setattr(runtime, "object_store", lambda: again.store)
        monkeypatch.setattr(runtime, "bundle", again.bundle)
        monkeypatch.setattr(monitoring, "_train", trained(again))
        return again

    yield begun


def killed_after(writes: int, work: AtWork) -> bool:
    """Run a pass that is killed after so many writes; say whether it came to its end instead."""
    life = Life(writes)
    with pytest.MonkeyPatch.context() as mortal:
        for of, names in (
            (work.store, ("put_bytes", "put_file", "create", "delete")),
            (work.registry, ("register", "append", "set_alias", "remove_alias")),
        ):
            for name in names:
                mortal.setattr(of, name, life.until_killed(getattr(of, name)))
        try:
            monitoring.run(None, None, False, lambda _words: None)
        except Killed:
            return False
    return True


def at_each_write(work: AtWork, begin: Callable[[AtWork], AtWork]) -> Iterator[AtWork]:
    """Yield what a second monitor leaves, after one that was killed a write later each time."""
    for writes in range(MOST_WRITES):
        again = begin(work)
        done = killed_after(writes, again)
        for key in list(again.store.keys("leases/")):
            again.store.delete(key)  # which it would have lost by then
        monitoring.run(None, None, False, lambda _words: None)
        yield again
        if done:
            return
    pytest.fail(f"a pass has more than {MOST_WRITES} writes")


def told(work: AtWork) -> list[tuple[str, Outcome | None, int | None]]:
    return [(e.kind.value, e.outcome, e.version) for e in ledger.entries("sum", work.store)]


def news(work: AtWork) -> list[str]:
    return [Path(key).stem for key in work.store.keys("notices/")]


def test_a_retraining_comes_to_the_same_end_wherever_the_monitor_is_killed(
    tmp_path: Path, begin: Callable[[AtWork], AtWork]
) -> None:
    work = AtWork(tmp_path / "work")
    version = work.add()
    rows = rows_of(1_000, seed=1)
    work.tell(version, work.ask(version, rows), rows, plus=2.0)
    kills = 0
    for kills, after in enumerate(at_each_write(work, begin)):  # noqa: B007 - counted
        assert told(after) == [
            ("decided", None, None), ("retraining", None, None), ("done", Outcome.PROMOTED, 2)
        ]  # fmt: skip
        assert len(after.registry.versions("sum")) == 2
        champions = [change.to_version for change in after.registry.history("sum")]
        # Between a promotion's two writes: the alias counts, and it is promoted anew.
        assert champions in ([1, 2], [1, 2, 1, 2])
        champion = after.registry.aliased("sum", "champion")
        assert champion is not None
        assert champion.version == 2
        assert news(after) == ["sum-000000", "sum-000001", "sum-000002"]
    assert kills > 10


def test_a_rollback_comes_to_the_same_end_wherever_the_monitor_is_killed(
    tmp_path: Path, begin: Callable[[AtWork], AtWork]
) -> None:
    work = AtWork(tmp_path / "work")
    work.add()
    bad = work.add(plus=1.5)
    rows = rows_of(1_000, seed=1)
    work.tell(bad, work.ask(bad, rows, plus=1.5), rows)
    kills = 0
    for kills, after in enumerate(at_each_write(work, begin)):  # noqa: B007 - counted
        assert told(after) == [("decided", None, None), ("done", Outcome.ROLLED_BACK, 1)]
        champions = [change.to_version for change in after.registry.history("sum")]
        assert champions in ([1, 2, 1], [1, 2, 1, 2, 1])
        champion = after.registry.aliased("sum", "champion")
        assert champion is not None
        assert champion.version == 1
        assert after.store.exists("champions/sum.json")
        assert news(after) == ["sum-000000", "sum-000001"]
    assert kills > 6
