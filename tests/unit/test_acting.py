"""What is done about a decision: once, whatever happens in between."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from loop_fakes import AtWork, rows_of, trained

from json_server import JsonHandler, serving_json
from treadle import lease, runtime, signing
from treadle.config import Settings
from treadle.deployment import promotion
from treadle.errors import EnvironmentFault, ModelError, RegistryError, StoreError
from treadle.feedback import learning, ledger, log
from treadle.lease import Lease
from treadle.monitoring import Entry, EntryKind, Fleet, Outcome, Verdict
from treadle.records import Metric
from treadle.spec import Spec
from treadle_pipelines import acting, champions, monitoring, notices
from treadle_pipelines import fleet as fleets
from treadle_pipelines.acting import Acting

Train = Callable[[Spec], dict[str, Any]]


class Killed(BaseException):
    """What a kill looks like from inside."""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AtWork]:
    made = AtWork(tmp_path / "work")
    monkeypatch.setattr(runtime, "registry", lambda: made.registry)
    monkeypatch.setattr(runtime, "object_store", lambda: made.store)
    monkeypatch.setattr(runtime, "bundle", made.bundle)
    monkeypatch.setattr(runtime, "settings", lambda: Settings(home=tmp_path / "home"))
    monkeypatch.setattr("treadle.retrying.time.sleep", lambda _seconds: None)
    yield made


def worse(work: AtWork, **feedback: Any) -> Entry:
    """A model under which the world has changed, and the decision about it."""
    version = work.add(**feedback)
    rows = rows_of(1_000, seed=1)
    work.tell(version, work.ask(version, rows), rows, plus=2.0)
    return work.look()


def act(work: AtWork, train: Train, entry: Entry | None = None) -> tuple[Entry, str]:
    """Act on the newest entry."""
    newest = entry or ledger.latest("sum", None, work.store)
    assert newest is not None
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    options = monitoring.monitor.options_of(champion)[0]
    held = lease.take("monitor", "test", work.store)
    assert isinstance(held, Lease)
    try:
        given = Acting("test", held, train, lambda _words: None, lambda: work.now)
        return acting.act("sum", newest, options, given)
    finally:
        held.release()


def kinds(work: AtWork) -> list[str]:
    return [entry.kind.value for entry in ledger.entries("sum", work.store)]


def test_a_retraining_learns_from_labelled_rows_and_is_promoted(work: AtWork) -> None:
    worse(work)
    done, waits = act(work, trained(work))
    assert (done.outcome, done.version, waits) == (Outcome.PROMOTED, 2, "")
    assert done.reasons == ["10 % better"]
    assert kinds(work) == ["decided", "retraining", "done"]
    assert act(work, trained(work))[0] == done


def test_what_is_learned_are_the_former_rows_and_the_labelled_ones(work: AtWork) -> None:
    worse(work)
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    keys = log.keys_of("sum", work.store)
    found = learning.of(champion, keys, [], work.now, work.store)
    assert not isinstance(found, str)
    assert (found.added, found.held_out) == (1_000, 250)
    table = pq.read_table(work.store.local(f"snapshots/{found.snapshot}/data.parquet"))
    assert table.num_rows == 5_000
    assert table.column_names[-2:] == [learning.ID, learning.LOGGED_AT]
    new = table.filter(pc.is_valid(table[learning.ID]))
    assert new["sum"].to_pylist()[0] == pytest.approx(
        2
        + sum(new[c][0].as_py() for c in "xy")
        + {"red": 10, "blue": 20}[new["colour"][0].as_py()],
        abs=5,
    )
    times = table[learning.LOGGED_AT].cast("int64").to_numpy()
    assert (times[1:] > times[:-1]).all()
    spec = Spec.model_validate_json(found.spec)
    assert spec.preprocessing.split_column == learning.LOGGED_AT
    assert {learning.ID, learning.LOGGED_AT} <= set(spec.preprocessing.exclude)
    assert spec.preprocessing.test_share == pytest.approx(250 / 5_000)


def test_rows_of_an_incident_are_not_learned(work: AtWork) -> None:
    worse(work)
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    keys = log.keys_of("sum", work.store)
    begin = work.now.replace(minute=0)
    fault = (begin, begin + timedelta(minutes=5))
    found = learning.of(champion, keys, [fault], work.now, work.store)
    assert not isinstance(found, str)
    assert found.added == 699


def test_too_few_labelled_rows_wait_for_more(work: AtWork) -> None:
    version = work.add()
    rows = rows_of(1_000, seed=1)
    ids = work.ask(version, rows)
    work.tell(version, ids[:150], rows[:150], plus=3.0)
    assert work.look().verdict is Verdict.RETRAIN
    entry, waits = act(work, trained(work))
    assert "150 labelled rows are new, and a retraining needs 200" in waits
    assert entry.state.pending is not None


@pytest.mark.parametrize("after", ["begun", "promoted"])
def test_a_kill_between_decision_and_promotion_comes_to_the_same_end_once(
    work: AtWork, after: str
) -> None:
    worse(work)
    begun: list[str] = []

    def killed(spec: Spec) -> dict[str, Any]:
        begun.append(spec.model_dump_json())
        if after == "promoted":
            trained(work)(spec)
        raise Killed

    with pytest.raises(Killed):
        act(work, killed)
    version = work.registry.aliased("sum", "champion")
    assert version is not None
    late = rows_of(600, seed=9)  # what comes meanwhile isn't learned by the one that takes over
    work.tell(version, work.ask(version, late), late)

    def train(spec: Spec) -> dict[str, Any]:
        begun.append(spec.model_dump_json())
        return trained(work)(spec)

    done, _ = act(work, train)
    assert (done.outcome, done.version) == (Outcome.PROMOTED, 2)
    assert len(set(begun)) == 1
    assert len(begun) == (2 if after == "begun" else 1)
    if after == "promoted":
        assert told_to_devices(work) == 2
    assert len(work.registry.versions("sum")) == 2
    assert [change.to_version for change in work.registry.history("sum")] == [1, 2]
    assert kinds(work) == ["decided", "retraining", "done"]


def test_a_challenger_that_is_no_better_leaves_the_champion(work: AtWork) -> None:
    worse(work)
    done, _ = act(work, trained(work, passed=False))
    assert (done.outcome, done.version) == (Outcome.KEPT, 2)
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    assert champion.version == 1


def test_after_a_retraining_there_is_a_cool_down(work: AtWork) -> None:
    worse(work)
    act(work, trained(work, passed=False))
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    rows = rows_of(1_000, seed=3)
    work.tell(champion, work.ask(champion, rows), rows, plus=2.0)
    assert work.look().verdict is Verdict.RETRAIN
    entry, waits = act(work, trained(work))
    assert "to be retrained, but not now: cool-down" in waits
    work.hour += 25
    assert act(work, trained(work), entry)[0].outcome is Outcome.PROMOTED


def test_where_a_person_has_the_last_word_the_challenger_waits(work: AtWork) -> None:
    worse(work, review="required")
    done, _ = act(work, trained(work))
    assert done.outcome is Outcome.AWAITS_APPROVAL
    assert done.needs_person


def test_a_training_that_fails_is_told_and_one_that_may_pass_is_taken_up_again(
    work: AtWork,
) -> None:
    worse(work)

    def away(_spec: Spec) -> dict[str, Any]:
        raise EnvironmentFault("the disk is full")

    entry, waits = act(work, away)
    assert waits == "the retraining is taken up again next time: the disk is full"

    def failing(_spec: Spec) -> dict[str, Any]:
        raise ModelError("nothing can be learned from this")

    done, _ = act(work, failing, entry)
    assert (done.outcome, done.needs_person) == (Outcome.FAILED, True)
    assert done.reasons == ["nothing can be learned from this"]


def bad(work: AtWork, **feedback: Any) -> Entry:
    """A champion that is worse than the one before it."""
    work.add(**feedback)
    worse_ = work.add(plus=1.5, **feedback)
    rows = rows_of(1_000, seed=1)
    work.tell(worse_, work.ask(worse_, rows, plus=1.5), rows)
    return work.look()


def told_to_devices(work: AtWork) -> int | None:
    """The champion that devices follow."""
    said = work.store.get_bytes(signing.champion_key("sum"))
    version: int | None = json.loads(said)["version"]
    return version


def test_a_bad_champion_is_rolled_back_once(work: AtWork) -> None:
    entry = bad(work)
    assert entry.verdict is Verdict.ROLL_BACK
    done, _ = act(work, trained(work), entry)
    assert (done.outcome, done.version) == (Outcome.ROLLED_BACK, 1)
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    assert champion.version == 1
    assert told_to_devices(work) == 1
    assert act(work, trained(work))[0] == done


def test_a_rollback_that_was_killed_before_it_was_noted_is_not_done_twice(work: AtWork) -> None:
    entry = bad(work)
    promotion.rollback("sum", work.registry, work.bundle, "killed", "it was worse")
    done, _ = act(work, trained(work), entry)
    assert (done.outcome, done.version) == (Outcome.ROLLED_BACK, 1)
    assert len(work.registry.history("sum")) == 3
    assert told_to_devices(work) == 1


def test_what_somebody_else_promoted_meanwhile_stays(work: AtWork) -> None:
    entry = worse(work)
    work.add(plus=0.1)
    done, _ = act(work, trained(work), entry)
    assert done.outcome is Outcome.OVERTAKEN
    champion = work.registry.aliased("sum", "champion")
    assert champion is not None
    assert champion.version == 2


def test_a_rollback_waits_for_a_person_where_the_spec_says_so(work: AtWork) -> None:
    entry = bad(work, review="required")
    done, _ = act(work, trained(work), entry)
    assert (done.outcome, done.needs_person) == (Outcome.NEEDS_PERSON, True)
    assert done.reasons[0].startswith("feedback.review is required: treadle rollback sum")


def test_an_incident_of_another_cause_is_told_though_it_follows_one(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    work.look()
    for column in ("x", "x", "y"):
        work.ask(version, [row | {column: row[column] * 9} for row in rows_of(600, seed=2)])
        work.look()
    told = champions.history("sum", as_json=False)
    assert (told.count("x jumped"), told.count("y jumped")) == (1, 1)


# The whole pass


def run(work: AtWork, **given: Any) -> Fleet:
    said: list[str] = given.pop("said", [])
    return monitoring.run(given.get("name"), None, given.get("look_only", False), said.append)


def test_a_pass_decides_acts_and_shows_the_worst_first(
    work: AtWork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(monitoring, "_train", trained(work))
    version, other = work.add(), work.add("well")
    rows = rows_of(1_000, seed=1)
    work.tell(version, work.ask(version, rows), rows, plus=2.0)
    work.tell(other, work.ask(other, rows), rows)
    fleet = run(work)
    found = {row.model: row for row in fleet.rows}
    assert (found["sum"].outcome, found["sum"].version) == (Outcome.PROMOTED, 2)
    assert found["well"].verdict is Verdict.HEALTHY
    page = (tmp_path / "home/reports/fleet.html").read_text(encoding="utf-8")
    assert page.index(">sum<") < page.index(">well<")
    assert monitoring.exit_code(fleet) == 0
    again = run(work)
    assert {row.note for row in again.rows} == {"nothing new"}
    assert kinds(work) == ["decided", "retraining", "done"]


def test_of_two_monitors_at_once_one_acts(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    said: list[str] = []
    assert isinstance(lease.take("monitor", "the other", work.store), Lease)
    fleet = run(work, said=said)
    assert said == ["the other is at work: this is a look that changes nothing"]
    assert fleet.rows[0].verdict is Verdict.HEALTHY
    assert kinds(work) == []
    assert not work.store.exists(monitoring.FLEET_KEY)


def test_a_look_changes_nothing(work: AtWork) -> None:
    version = work.add()
    work.ask(version, [row | {"x": None} for row in rows_of(1_000, seed=1)])
    fleet = run(work, look_only=True)
    assert fleet.rows[0].verdict is Verdict.INCIDENT
    assert monitoring.exit_code(fleet) == 3
    assert kinds(work) == []


def test_many_models_that_would_be_retrained_at_once_are_one_incident(work: AtWork) -> None:
    for name in ("one", "two", "three", "four"):
        version = work.add(name)
        rows = [row | {"x": row["x"] * 1.08 + 0.3} for row in rows_of(1_000, seed=1)]
        work.tell(version, work.ask(version, rows), rows, plus=2.0)
    fleet = run(work)
    assert {row.verdict for row in fleet.rows} == {Verdict.INCIDENT}
    assert fleet.rows[0].reasons[0].startswith("4 models would be retrained at once")


def test_a_registry_or_a_store_that_is_away_is_said_and_nothing_is_lost(
    work: AtWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    work.registry.gone = True
    with pytest.raises(RegistryError, match="the registry is gone"):
        run(work)
    work.registry.gone = False
    with monkeypatch.context() as broken:

        def away(key: str, data: bytes) -> bool:
            raise StoreError("the store is away")

        broken.setattr(work.store, "create", away)
        with pytest.raises(StoreError, match="the store is away"):
            run(work)
    assert run(work).rows[0].verdict is Verdict.HEALTHY
    assert kinds(work) == ["decided"]


def test_one_model_that_can_not_be_looked_at_holds_up_no_other(work: AtWork) -> None:
    broken, well = work.add("broken", plus=0.5), work.add("well")
    for version in (broken, well):
        work.ask(version, rows_of(1_000, seed=1), plus=0.5 if version is broken else 0.0)
    for key in list(work.store.keys(f"bundles/{broken.digest}/")):
        work.store.delete(key)
    fleet = run(work)
    found = {row.model: row for row in fleet.rows}
    assert "is missing" in (found["broken"].fault or "")
    assert found["well"].verdict is Verdict.HEALTHY
    assert monitoring.exit_code(fleet) == 1


def test_what_can_not_be_brought_to_its_end_holds_up_no_other(work: AtWork) -> None:
    bad(work)
    for key in list(work.store.keys("bundles/")):
        if key.endswith(".onnx"):
            work.store.delete(key)  # there is nothing to go back to
    altered, well = work.add("altered", plus=0.5), work.add("well", plus=0.7)
    work.store.put_bytes("decisions/altered/000000.json", b"{")
    for version in (altered, well):
        work.ask(version, rows_of(1_000, seed=1), plus=0.5 if version is altered else 0.7)
    for _ in range(2):
        fleet = run(work)
        found = {row.model: row for row in fleet.rows}
        assert "was altered or is not whole" in (found["sum"].fault or "")
        assert "is no entry of the loop's record" in (found["altered"].fault or "")
        assert found["well"].verdict is Verdict.HEALTHY
        assert monitoring.exit_code(fleet) == 1


def test_news_goes_to_the_webhook_as_cloud_events_and_waits_where_it_is_away(
    work: AtWork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    version = work.add()
    work.ask(version, [row | {"x": None} for row in rows_of(1_000, seed=1)])
    away = Settings(home=tmp_path / "home", webhook_url="http://127.0.0.1:9/hook")
    monkeypatch.setattr(runtime, "settings", lambda: away)
    said: list[str] = []
    run(work, said=said)
    assert "the webhook at 127.0.0.1 doesn't answer" in said[-1]
    got: list[dict[str, Any]] = []

    class Hook(JsonHandler):
        def do_POST(self) -> None:
            assert self.headers["content-type"].startswith("application/cloudevents+json")
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.reply(202, {})

    with serving_json(Hook) as url:
        there = Settings(home=tmp_path / "home", webhook_url=f"{url}/hook")
        monkeypatch.setattr(runtime, "settings", lambda: there)
        run(work)
        run(work)
    (event,) = got
    assert (event["specversion"], event["subject"]) == ("1.0", "sum")
    assert event["id"] == f"sum/0/{event['time']}"
    assert urlsplit(event["source"]).path
    assert datetime.fromisoformat(event["time"]).utcoffset() == timedelta(0)
    assert event["type"] == "io.treadle.loop.decided"
    assert event["data"]["verdict"] == "incident"
    assert event["data"]["needs_person"]
    assert EntryKind.DECIDED.value in event["type"]


def test_what_is_no_number_is_null_in_what_others_read(
    work: AtWork, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As roc_auc is, where all labels are of one class: JSON has no nan."""
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    turn = work.turn()
    assert turn.found is not None
    nan = float("nan")
    metric = Metric(name="roc_auc", value=nan, low=nan, high=nan, higher_is_better=True)
    evidence = turn.found.evidence.model_copy(update={"metric": metric})
    found = turn.found.model_copy(update={"evidence": evidence})
    entry = monitoring.monitor.record(replace(turn, found=found), "test", work.now, work.store)
    hooked = Settings(home=tmp_path / "home", webhook_url="http://127.0.0.1:9/hook")
    monkeypatch.setattr(runtime, "settings", lambda: hooked)
    notices.tell("sum", 0, entry)
    fleet = Fleet(at=work.now, rows=[monitoring.monitor.row(turn, entry)])
    for text in (
        work.store.get_bytes("notices/sum-000000.json"),
        fleets.told(fleet, as_json=True),
        champions.history("sum", as_json=True),
    ):
        assert '"value":null' in str(text)
        json.loads(text, parse_constant=pytest.fail)
