"""A model's turn in the monitor's pass, on logged rows."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loop_fakes import AtWork, log, rows_of

from treadle.errors import Overtaken
from treadle.feedback import ledger, monitor
from treadle.monitoring import EntryKind, Verdict


@pytest.fixture
def work(tmp_path: Path) -> AtWork:
    return AtWork(tmp_path / "work")


def without(rows: list[dict[str, Any]], column: str, share: float) -> list[dict[str, Any]]:
    """Rows of which a share lacks a column."""
    random = np.random.default_rng(3)
    return [row | {column: None} if random.random() < share else row for row in rows]


def test_rows_as_those_of_training_are_healthy(work: AtWork) -> None:
    version = work.add()
    rows = rows_of(1_000, seed=1)
    work.tell(version, work.ask(version, rows), rows)
    found = work.look()
    assert found.verdict is Verdict.HEALTHY
    assert found.evidence is not None
    assert found.evidence.labelled == found.evidence.rows == 1_000
    assert found.evidence.metric is not None
    assert found.evidence.metric.value == pytest.approx(1.0, abs=0.1)
    assert found.evidence.skew is not None
    assert found.evidence.skew.passed
    assert max(step.distance for step in found.evidence.steps) < 0.1


def test_nothing_new_is_not_looked_at_again(work: AtWork) -> None:
    version = work.add()
    rows = rows_of(1_000, seed=1)
    ids = work.ask(version, rows)
    work.look()
    assert work.turn().found is None
    assert work.turn().note == "nothing new"
    work.tell(version, ids, rows)
    late = work.turn().found
    assert late is not None
    assert (late.evidence.rows, late.evidence.labelled) == (0, 1_000)


def test_every_delivery_of_labels_is_looked_at(work: AtWork) -> None:
    version = work.add()
    rows = rows_of(1_000, seed=1)
    ids = work.ask(version, rows)
    for part in range(5):  # their names are in no order
        some = slice(200 * part, 200 * part + 200)
        work.tell(version, ids[some], rows[some])
        seen = work.look().evidence
        assert seen is not None
        assert seen.labelled == 200 * part + 200


def test_few_new_rows_wait_for_more(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(300))
    assert work.turn().note == "300 new rows: at 500 it is looked at"
    work.ask(version, rows_of(300))
    found = work.turn().found
    assert found is not None
    assert found.evidence.rows == 600


def test_a_server_whose_clock_is_ahead_hides_no_other(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(600, seed=1))
    log(version, rows_of(50, seed=2), work.store, at=work.now + timedelta(hours=9))
    first = work.look()
    assert "50 rows from the future: a server's clock is ahead" in first.reasons
    for hours in (1, 12):  # before and after that clock is right
        work.hour += hours
        work.ask(version, rows_of(600, seed=3))
        seen = work.look().evidence
        assert seen is not None
        assert seen.rows == 600


def test_a_world_that_has_changed_is_learned_anew(work: AtWork) -> None:
    version = work.add()
    rows = rows_of(1_000, seed=1)
    work.tell(version, work.ask(version, rows), rows, plus=2.0)
    found = work.look()
    assert found.verdict is Verdict.RETRAIN
    assert found.reasons[0].startswith("rmse is 2.18")
    assert "worse by more than 10% beyond doubt" in found.reasons[0]
    assert found.state.pending is not None


def test_a_flood_of_nulls_is_an_incident_and_is_not_learned(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    work.look()
    rows = without(rows_of(1_000, seed=2), "colour", 0.4)
    work.tell(version, work.ask(version, rows), rows)
    found = work.look()
    assert found.verdict is Verdict.INCIDENT
    assert found.needs_person
    assert found.reasons[0].startswith("colour jumped")
    assert "% of its values are null, were 0%" in found.reasons[0]
    assert found.state.pending is None


def test_another_unit_and_another_name_are_incidents(work: AtWork) -> None:
    version = work.add()
    miles = [row | {"x": row["x"] * 1.609} for row in rows_of(1_000, seed=2)]
    work.ask(version, miles)
    found = work.look()
    assert (found.verdict, found.reasons[0][:8]) == (Verdict.INCIDENT, "x jumped")
    renamed = [row | {"colour": row["colour"].replace("blue", "azure")}
               for row in rows_of(1_000, seed=3)]  # fmt: skip
    work.ask(version, renamed)
    found = work.look()
    assert found.verdict is Verdict.INCIDENT
    assert "of its values are none that training saw" in found.reasons[0]


def test_a_column_that_is_stuck_is_an_incident(work: AtWork) -> None:
    version = work.add()
    work.ask(version, [row | {"x": 4.0} for row in rows_of(1_000, seed=2)])
    found = work.look()
    assert found.verdict is Verdict.INCIDENT
    assert found.reasons[0].startswith("x is stuck: 100% of its values lie together")


def test_what_rises_beyond_all_that_training_saw_is_not_stuck(work: AtWork) -> None:
    """As temperatures do, for a model of the winter: they lie together only for who looks there."""
    version = work.add()
    work.ask(version, [row | {"x": row["x"] + 7.5} for row in rows_of(1_000, seed=2)])
    found = work.look()
    assert found.reasons[0].startswith("x jumped by 0.9"), found.reasons


def test_an_incident_lasts_until_it_is_mended_and_leaves_no_trace(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    work.look()
    broken = [row | {"x": None} for row in rows_of(600, seed=2)]
    for _ in range(2):
        work.tell(version, work.ask(version, broken), broken)
        assert work.look().verdict is Verdict.INCIDENT
    rows = rows_of(1_000, seed=4)
    work.tell(version, work.ask(version, rows), rows)
    mended = work.look()
    assert mended.verdict is Verdict.HEALTHY
    assert mended.evidence is not None
    assert mended.evidence.labelled == 1_000


def test_a_person_accepts_that_things_are_so_now(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    work.look()
    former = ledger.latest("sum", None, work.store)
    assert monitor.accept(version, former, "kim", "no", work.now, work.store) is None
    other = [row | {"x": row["x"] / 10} for row in rows_of(1_000, seed=2)]
    work.ask(version, other)
    incident = work.look()
    assert incident.verdict is Verdict.INCIDENT
    done = monitor.accept(version, incident, "kim", "a new sensor", work.now, work.store)
    assert done is not None
    assert done.kind is EntryKind.ACCEPTED
    assert done.state.faults == []
    work.ask(version, [row | {"x": row["x"] / 10} for row in rows_of(1_000, seed=5)])
    assert work.look().verdict is Verdict.WATCH


def test_a_champion_that_is_worse_than_the_one_before_is_rolled_back(work: AtWork) -> None:
    work.add()
    worse = work.add(plus=1.5)
    rows = rows_of(1_000, seed=1)
    work.tell(worse, work.ask(worse, rows, plus=1.5), rows)
    found = work.look()
    assert found.verdict is Verdict.ROLL_BACK
    assert "version 1, the champion before, would be" in found.reasons[0]
    assert found.state.pending is not None
    assert found.state.pending.back_to == 1


def test_a_server_that_answers_otherwise_than_the_model_is_an_incident(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1), plus=0.5)
    found = work.look()
    assert found.verdict is Verdict.INCIDENT
    assert found.reasons[0].startswith("the server answers otherwise than the model")


def test_of_two_monitors_that_decide_at_once_one_does(work: AtWork) -> None:
    version = work.add()
    work.ask(version, rows_of(1_000, seed=1))
    turns = [work.turn(), work.turn()]
    monitor.record(turns[0], "one", work.now, work.store)
    with pytest.raises(Overtaken, match="one decided about sum at the same time"):
        monitor.record(turns[1], "two", work.now, work.store)
    assert [entry.who for entry in ledger.entries("sum", work.store)] == ["one"]


def test_the_newest_entry_is_found_with_a_hint_and_without(work: AtWork) -> None:
    version = work.add()
    for seed in range(3):
        work.ask(version, rows_of(600, seed=seed))
        work.look()
    for hint in (None, 0, 1, 2, 7):
        found = ledger.latest("sum", hint, work.store)
        assert found is not None
        assert found.position == 2
    assert ledger.latest("other", 3, work.store) is None


def test_another_champion_is_held_against_its_own_training(work: AtWork) -> None:
    first = work.add()
    work.ask(first, [row | {"x": row["x"] / 4} for row in rows_of(1_000, seed=1)])
    assert work.look().verdict is Verdict.INCIDENT
    second = work.add(plus=0.01)
    work.ask(second, rows_of(1_000, seed=2), plus=0.01)
    found = work.look()
    assert found.verdict is Verdict.HEALTHY
    assert found.evidence is not None
    assert found.evidence.version == 2
