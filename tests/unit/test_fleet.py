"""The fleet as people see it: the worst first, in the room that there is."""

from datetime import UTC, datetime

import pytest

from treadle.feedback import page
from treadle.monitoring import Fleet, FleetRow, Outcome, Verdict
from treadle.records import Metric
from treadle_pipelines import fleet as fleets

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAE = Metric(name="mae", value=9.5, low=9, high=10, higher_is_better=False)
LONG = "distance jumped by 0.43 (by 0.11 at most in training): 1005 to 1035: 3.1% of rows before"


def row(model: str, verdict: Verdict | None = Verdict.HEALTHY, **told: object) -> FleetRow:
    plain = {"at": AT, "metric": MAE, "reference": MAE, "furthest": 0.1, "reasons": ["it is good"]}
    return FleetRow.model_validate(
        {"model": model, "version": 1, "verdict": verdict} | plain | told
    )


BROKEN = row("broken", Verdict.INCIDENT, reasons=[LONG], needs_person=True)


def test_reasons_stand_in_the_line_where_there_is_room_and_under_it_where_there_is_none() -> None:
    wide = fleets.table([BROKEN, row("well")], 200)
    assert len(wide) == 3
    assert wide[1].endswith(LONG)
    narrow = fleets.table([BROKEN, row("well")], 80)
    assert len(narrow) == 4  # what is healthy needs no reason
    assert narrow[2].startswith("  distance jumped")
    assert max(map(len, narrow)) <= 80
    assert fleets.table([BROKEN], None)[1].endswith(LONG)


def test_models_are_counted_by_how_they_stand_and_of_many_the_worst_are_listed() -> None:
    rows = [row(f"m-{n}") for n in range(150)]
    rows += [BROKEN, row("gone", fault="its bundle is missing"),
             row("new", None, at=None, metric=None, reference=None, furthest=None)]  # fmt: skip
    told = fleets.told(Fleet(at=AT, rows=rows), as_json=False).splitlines()
    assert told[-2] == (
        "153 models: 1 can't be looked at, 1 incident, 150 healthy, 1 not looked at yet; 53 are "
        "not listed here, the page has all"
    )
    assert [line.split()[0] for line in told[1:4]] == ["gone", "broken", "m-0"]
    html = page.of_fleet(Fleet(at=AT, rows=rows), None)
    assert html.count("<tr>") == 154
    assert "<b>150</b>" in html


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (row("a", Verdict.RETRAIN, outcome=Outcome.PROMOTED), "retrain, promoted"),
        (row("a", fault="no bundle", outcome=Outcome.PROMOTED), "can't be looked at"),
        (row("a", None), "not looked at yet"),
    ],
)
def test_one_model_is_told_of_with_all_its_reasons(told: FleetRow, words: str) -> None:
    found = fleets.told(Fleet(at=AT, rows=[told]), as_json=False)
    assert found.startswith(f"a version 1: {words}\n")
    assert (told.fault or "it is good") in found
