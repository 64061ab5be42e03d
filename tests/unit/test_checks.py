"""Each check is hard, soft or off, for a table or a column; leaks are found and honest columns not;
the page shows what matters first."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris

from treadle import snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError, GateRefused
from treadle.kinds import kinds_of
from treadle.profile import profile_and_count
from treadle.records import Check, Severity
from treadle.spec import Validation
from treadle.validation import gate, leaks, page
from treadle.validation.gate import Validated
from treadle.validation.schema import Known

ROWS = 400
RANDOM = np.random.default_rng(5)
START = datetime(2024, 1, 1)
TABLE: dict[str, Any] = {
    "y": RANDOM.normal(size=ROWS),
    "size": RANDOM.normal(size=ROWS),
    "code": ["a", "b"] * (ROWS // 2),
    "at": [START + timedelta(hours=i) for i in range(ROWS)],
}


class Stage:
    """Validates a changed table after the champion's."""

    def __init__(self, store: DirectoryStore, aside: Path) -> None:
        self.store, self.aside = store, aside
        self.known = Known(self(TABLE, known=None).profile, frozenset({"size", "code"}))

    def __call__(
        self, changed: Mapping[str, object], /, *, known: Known | None, **options: Any
    ) -> Validated:
        rows = pa.table({name: pa.array(values) for name, values in changed.items()})
        taken = snapshots.publish(rows.to_reader(), "a table", self.store)
        limits = Validation.model_validate({"max_quarantined": 1.0, **options})
        return gate.run(taken, "y", limits, known, self.store, self.aside)

    def changed(self, changed: Mapping[str, object], /, **options: Any) -> Validated:
        return self(changed, known=self.known, **options)


@pytest.fixture
def stage(store: DirectoryStore, tmp_path: Path) -> Stage:
    return Stage(store, tmp_path / "aside.parquet")


def with_values(name: str, values: Sequence[object], count: int) -> dict[str, Any]:
    """The table with ``count`` of a column's values replaced."""
    column = list(TABLE[name])
    column[:count] = list(values) * (count // len(values))
    return TABLE | {name: column}


def without(name: str) -> dict[str, Any]:
    return {key: values for key, values in TABLE.items() if key != name}


# A table that fails each check, and whether rows are to blame.
FAILING: dict[Check, tuple[dict[str, Any], str, bool]] = {
    Check.MISSING: (without("code"), "code", False),
    Check.EXTRA: (TABLE | {"extra": [1, 2] * (ROWS // 2)}, "extra", False),
    Check.REORDERED: (dict(reversed(TABLE.items())), "at", False),
    Check.RETYPED: (with_values("size", ["x"], 4) | {
        "size": ["x"] * 4 + [str(v) for v in TABLE["size"][4:]]}, "size", True),
    Check.OUT_OF_RANGE: (with_values("size", [99.0, -99.0], 4), "size", True),
    Check.NEW_CATEGORY: (with_values("code", ["z"], 4), "code", True),
    Check.NULL_SHARE: (with_values("size", [None], 20), "size", False),
    Check.DRIFT: (with_values("code", ["a"], 300), "code", False),
    Check.LEAK: (TABLE | {"size": np.exp(TABLE["y"])}, "size", False),
    Check.AFTER_PREDICTION: (
        TABLE | {"later": [t + timedelta(days=i % 2) for i, t in enumerate(TABLE["at"])]},
        "later",
        True,
    ),
    Check.ODD: (TABLE | {"same": [1] * ROWS}, "same", False),
    Check.RULES: (with_values("size", [-50.0], 4), "size", True),
}  # fmt: skip
STATED: dict[Check, dict[str, Any]] = {
    Check.AFTER_PREDICTION: {"prediction_time": "at"},
    Check.RULES: {"columns": {"size": {"minimum": -40}}},
}


def test_every_check_is_tried_here() -> None:
    assert set(FAILING) == set(Check)


@pytest.mark.parametrize("check", Check)
def test_a_soft_check_is_reported_and_one_that_is_off_is_silent(check: Check, stage: Stage) -> None:
    table, column, _ = FAILING[check]
    stated = STATED.get(check, {})
    soft = stage.changed(table, checks={check: "soft"}, **stated)
    told = [f for f in soft.findings if f.check is check]
    assert column in {f.column for f in told} and not any(f.hard for f in told)
    assert soft.accepted.rows == ROWS
    off = stage.changed(table, checks={check: False}, **stated)  # as YAML reads: off
    assert check not in {f.check for f in off.findings}
    assert off.accepted.rows == ROWS


@pytest.mark.parametrize("check", Check)
def test_a_hard_check_sets_rows_aside_or_stops_the_run(check: Check, stage: Stage) -> None:
    table, column, by_row = FAILING[check]
    stated = STATED.get(check, {})
    if not by_row:
        with pytest.raises(GateRefused, match=rf"{column}.*validation\.checks\.{check}") as caught:
            stage.changed(table, checks={check: "hard"}, **stated)
        assert caught.value.exit_code == 3
        return
    done = stage.changed(table, checks={check: "hard"}, **stated)
    (words, count), *_ = done.quarantined.items()
    assert column in words and 0 < count == ROWS - done.accepted.rows
    aside = pd.read_parquet(stage.aside)
    assert len(aside) == count and set(aside["quarantined_because"]) == {words}
    assert done.set_aside is not None
    pd.testing.assert_frame_equal(pd.read_parquet(done.set_aside.removeprefix("file://")), aside)


def test_a_column_has_the_last_word_on_a_check(stage: Stage) -> None:
    table = with_values("size", [99.0], 4) | {"code": ["z"] * 4 + TABLE["code"][4:]}
    own = {
        "size": {"checks": {"out_of_range": "hard"}},
        "code": {"checks": {"new_category": False}},
    }
    done = stage.changed(table, columns=own)
    assert done.accepted.rows == ROWS - 4
    assert [f.check for f in done.findings if f.column in ("size", "code")] == []


def test_a_missing_column_that_the_champion_does_not_read_stops_nothing(stage: Stage) -> None:
    (finding,) = stage.changed(without("at")).findings
    assert finding.words == "at is missing; the champion doesn't use it"


def test_a_share_of_nulls_that_moved_a_little_is_told_where_rows_are_enough(stage: Stage) -> None:
    was, now = [None] * 10 + [1.0] * 9_990, [None] * 240 + [1.0] * 9_760
    base = {"y": RANDOM.normal(size=10_000), "dep_time": was, "other": RANDOM.normal(size=10_000)}
    known = Known(stage(base, known=None).profile, frozenset({"dep_time"}))
    found = stage(base | {"dep_time": now}, known=known).findings
    assert "dep_time is null in 2.4% of rows, was 0.1%" in [f.words for f in found]
    few = {name: list(values)[:60] for name, values in base.items()}
    few["dep_time"] = [None, *[1.0] * 59]  # one of 60 rows could be chance
    assert Check.NULL_SHARE not in {f.check for f in stage(few, known=known).findings}


def test_the_champions_own_rows_in_any_number_raise_no_alarm(stage: Stage) -> None:
    for times in (1, 5, 50):
        table = {name: list(values) * times for name, values in TABLE.items()}
        done = stage.changed(table)
        assert (done.findings, done.quarantined) == ([], {})
        assert all(drift.distance == 0 for drift in done.drifts)


def test_what_was_empty_and_now_has_values_is_told_and_read_by_its_type(stage: Stage) -> None:
    empty = TABLE | {"note": pa.nulls(ROWS, pa.string())}
    known = Known(stage(empty, known=None).profile, frozenset({"size"}))
    found = stage(TABLE | {"note": np.arange(ROWS) % 7}, known=known).findings
    assert [f.words for f in found] == ["note is null in 0.0% of rows, was 100.0%"]


def test_a_time_at_which_a_value_was_known_is_held_against_the_time_of_prediction(
    stage: Stage,
) -> None:
    seen = [t - timedelta(days=1) for t in TABLE["at"]]
    seen[:3] = [t + timedelta(days=9) for t in TABLE["at"][:3]]
    stated = {
        "prediction_time": "at",
        "columns": {"size": {"known_at": "seen"}, "seen": {"checks": {"after_prediction": "off"}}},
    }
    found = stage(TABLE | {"seen": seen}, known=None, **stated).findings
    words = "size (known at seen) is later than at, the time of prediction: 3 rows (0.8%)"
    assert words in [f.words for f in found]
    assert [f.column for f in found if f.check is Check.AFTER_PREDICTION] == ["size"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prediction_time": "att"}, r"prediction_time: there is no column 'att'; did you mean"),
        ({"columns": {"size": {"known_at": "att"}}}, "known_at: there is no column 'att'"),
    ],
)
def test_times_that_are_not_there_are_named(
    stage: Stage, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        stage(TABLE, known=None, **options)


def test_days_without_rows_are_told_where_all_others_have_some(stage: Stage) -> None:
    days = [START + timedelta(days=i + 5 * (i > 200)) for i in range(ROWS)]
    (finding,) = stage(TABLE | {"day": days}, known=None).findings
    assert finding.words == "day has no row on 5 days in a row, from 2024-07-20 on"
    weekdays = [t for t in (START + timedelta(days=i) for i in range(600)) if t.weekday() < 5]
    assert stage(TABLE | {"day": weekdays[:ROWS]}, known=None).findings == []


def test_quotes_in_names_and_values_pass_through_every_check(stage: Stage) -> None:
    name = """it's "x"; --"""
    base = without("code") | {name: ["'", '"'] * (ROWS // 2)}
    known = Known(stage(base, known=None).profile, frozenset({name}))
    every = dict.fromkeys((Check.NEW_CATEGORY, Check.RETYPED, Check.OUT_OF_RANGE), Severity.HARD)
    changed = base | {name: ["o'clock", *base[name][1:]]}
    done = stage(changed, known=known, checks=every)
    assert done.quarantined == {f"{name} is a value never seen before": 1}


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.none() | st.floats(-5, 5) | st.just(float("nan")), min_size=60, max_size=60),
    codes=st.lists(st.none() | st.sampled_from("abz"), min_size=60, max_size=60),
)
def test_good_and_bad_rows_together_are_all_rows(
    sizes: list[float | None], codes: list[str | None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("rows")
    answers = pa.array(np.arange(60.0))
    table = pa.table({"y": answers, "size": pa.array(sizes, pa.float64()), "code": codes})
    store = DirectoryStore(place / "objects")
    options = Validation.model_validate(
        {
            "max_quarantined": 1.0,
            "min_rows": 10,
            "columns": {"size": {"minimum": -2, "maximum": 2}, "code": {"allowed": ["a", "b"]}},
        }
    )
    bad = [
        (size is not None and abs(size) > 2) or code == "z"
        for size, code in zip(sizes, codes, strict=True)
    ]
    taken = snapshots.publish(table.to_reader(), "a table", store)
    try:
        done = gate.run(taken, "y", options, None, store, place / "aside.parquet")
    except GateRefused:
        assert sum(bad) > 50
        return
    good = pq.read_table(store.local(done.accepted.data_key))["y"].to_pylist()
    aside = pq.read_table(place / "aside.parquet")["y"].to_pylist()
    assert aside == [float(i) for i in range(60) if bad[i]]
    assert good == [float(i) for i in range(60) if not bad[i]]


# Leaks


def found_in(frame: pd.DataFrame, target: str, place: Path) -> dict[str, str]:
    table = pa.Table.from_pandas(frame, preserve_index=False)
    pq.write_table(table, place / "rows.parquet")
    seen = profile_and_count(place / "rows.parquet", kinds_of(table.schema, {}), ())
    return leaks.find(seen.sample, seen.profile, target, table.column_names)


@pytest.mark.parametrize("load", [load_breast_cancer, load_iris, load_diabetes])
def test_the_honest_changedof_real_tables_are_not_accused(
    load: Callable[..., Any], tmp_path: Path
) -> None:
    assert found_in(load(as_frame=True).frame, "target", tmp_path) == {}


def test_what_gives_numbers_away_is_found_however_it_is_bent(tmp_path: Path) -> None:
    y = RANDOM.normal(size=2_000)
    step = np.round(y * 3)
    frame = pd.DataFrame(
        {
            "y": step,
            "bent": np.exp(-step),
            "named": [f"grade {s:.0f}" for s in step],
            "holes": pd.Series(step).mask(RANDOM.uniform(size=2_000) < 0.5),
            "noisy": step + RANDOM.normal(size=2_000),
            "group": RANDOM.choice(list("abc"), 2_000),
            "id": [f"{i}" for i in range(2_000)],
        }
    )
    assert found_in(frame, "y", tmp_path).keys() == {"bent", "named", "holes"}


@pytest.mark.parametrize("share", [0.5, 0.02])
def test_what_gives_classes_away_is_found_even_where_one_is_rare(
    share: float, tmp_path: Path
) -> None:
    y = RANDOM.uniform(size=5_000) < share
    frame = pd.DataFrame(
        {
            "y": np.where(y, "fraud", "fine"),
            "refund": np.where(y, RANDOM.uniform(5, 9, 5_000), 0.0),
            "status": np.where(y, "blocked", RANDOM.choice(["open", "closed"], 5_000)),
            "flag": y,
            "telling": np.where(y, RANDOM.normal(1, 1, 5_000), RANDOM.normal(0, 1, 5_000)),
            "half": np.where(y & (RANDOM.uniform(size=5_000) < 0.5), "late", "ok"),
            "group": RANDOM.choice(list("abc"), 5_000),
        }
    )
    assert found_in(frame, "y", tmp_path).keys() == {"refund", "status", "flag"}


def test_whole_numbers_that_are_classes_are_judged_as_classes(tmp_path: Path) -> None:
    y = np.arange(900) % 3
    frame = pd.DataFrame({"y": y, "code": np.array(list("xyz"))[y], "n": (y + 1) % 3, "r": y % 2})
    assert found_in(frame, "y", tmp_path).keys() == {"code", "n"}


# The page


def test_the_page_shows_then_and_now_and_what_matters_first(stage: Stage) -> None:
    moved = without("size") | {"extra": RANDOM.normal(size=ROWS)}
    moved |= {"size": RANDOM.normal(3, 1, ROWS), "<b>": ["x & y", "z"] * (ROWS // 2)}
    html = page.render(stage.changed(moved), ROWS, "y")
    order = [html.index(f"<td>{name}") for name in ("size", "code", "y <b>(target)</b>")]
    assert order == sorted(order)
    assert "size moved by" in html and 'aria-label="distribution of size, now and then"' in html
    assert html.count("<path d=") == 3  # y, size and code have a past; the others have none
    assert "&lt;b&gt;" in html and "x &amp; y" in html and "<td><b>" not in html
    assert "http" not in html


def test_the_first_page_has_no_past(stage: Stage) -> None:
    html = page.render(stage(TABLE, known=None), ROWS, "y")
    assert "<path d=" not in html and "Distance" not in html
