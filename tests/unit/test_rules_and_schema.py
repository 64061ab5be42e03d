"""The gate before training: rules set rows aside, limits stop the run, the champion's schema
holds; and the profile behind it all says what pandas says."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from treadle import snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError, GateRefused
from treadle.records import Check, ColumnProfile, Kind, Profile, Share
from treadle.spec import ColumnRule, Validation
from treadle.validation import gate
from treadle.validation.gate import Validated
from treadle.validation.rules import row_checks
from treadle.validation.schema import Known

Columns = Mapping[str, Sequence[object] | np.ndarray | pa.Array]
NORMAL = np.random.default_rng(0).normal(size=200)


class Gate:
    """Validates a table as the step does; ``quarantine`` is the file of rows set aside."""

    def __init__(self, store: DirectoryStore, quarantine: Path) -> None:
        self.store, self.quarantine = store, quarantine
        self.excluded: list[str] = []

    def __call__(
        self,
        columns: Columns,
        rules: dict[str, ColumnRule] | None = None,
        champion: Profile | None = None,
        max_quarantined: float = 1.0,
        min_rows: int = 10,
        target: str = "y",
        **options: Any,
    ) -> Validated:
        taken = snapshots.publish(pa.table(dict(columns)).to_reader(), "a table", self.store)
        stated = {"columns": rules or {}, "max_quarantined": max_quarantined, "min_rows": min_rows}
        features = {c.name for c in champion.columns} - {target} if champion else set[str]()
        known = Known(champion, frozenset(features)) if champion else None
        limits = Validation.model_validate(stated | options)
        return gate.run(taken, target, limits, known, self.store, self.quarantine, self.excluded)

    def set_aside(self) -> pd.DataFrame:
        return pd.read_parquet(self.quarantine)


@pytest.fixture
def validate(store: DirectoryStore, tmp_path: Path) -> Gate:
    return Gate(store, tmp_path / "aside" / "quarantine.parquet")


# Rules


def test_a_table_without_faults_is_accepted_as_the_snapshot_it_is(validate: Gate) -> None:
    found = validate({"y": NORMAL, "x": NORMAL[::-1]}, {"x": ColumnRule(required=True)})
    assert found.accepted.source == "a table"
    assert (found.quarantined, found.findings) == ({}, [])
    assert len(validate.set_aside()) == 0


def test_each_rule_sets_rows_aside_counts_them_and_says_why(validate: Gate) -> None:
    columns = {
        "y": np.arange(100.0),
        "needed": [None, *["a"] * 99],
        "size": [*[0.0] * 4, None, *[-1.0] * 3, *[11.0] * 2, *[10.0] * 90],
        "code": [*["z"] * 6, None, *["a", "b"] * 46, "c"],
    }
    rules = {
        "needed": ColumnRule(required=True),
        "size": ColumnRule(minimum=0, maximum=10),
        "code": ColumnRule(allowed=["a", "b"]),
    }
    found = validate(columns, rules)
    assert found.quarantined == {
        "code is none of the allowed values": 7,
        "size is below 0": 3,
        "size is above 10": 2,
        "needed is null": 1,
    }
    aside = validate.set_aside()
    assert aside["y"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 99]
    assert len(aside) + found.accepted.rows == 100
    assert aside["quarantined_because"][0] == "needed is null; code is none of the allowed values"
    assert found.profile.rows == found.accepted.rows


def test_a_null_breaks_no_rule_but_required(validate: Gate) -> None:
    holes = pa.array([None, 1.0] * 50)
    rules = {"x": ColumnRule(minimum=0, maximum=2, allowed=["1"])}
    assert validate({"y": np.arange(100.0), "x": holes}, rules).quarantined == {}


def test_what_is_not_finite_or_beyond_float32_is_null_to_every_rule(validate: Gate) -> None:
    odd = [None, float("nan"), float("inf"), float("-inf"), 1e39]
    columns = {"y": NORMAL, "x": pa.array(odd + [1.0] * 195)}
    assert validate(columns, {"x": ColumnRule(minimum=0, maximum=2)}).quarantined == {}
    assert validate(columns, {"x": ColumnRule(required=True)}).quarantined == {"x is null": 5}


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), -1e39])
def test_rows_without_an_answer_are_set_aside(validate: Gate, bad: float | None) -> None:
    answers = pa.array([bad, bad, *NORMAL], pa.float64())
    found = validate({"y": answers, "x": np.arange(202)})
    words = "y (the target) is null" if bad is None else "y (the target) is not a finite number"
    assert found.quarantined == {words: 2}
    assert found.accepted.rows == 200


def test_quotes_in_names_and_values_are_only_letters(validate: Gate) -> None:
    name, value = """it's "x"; DROP TABLE snapshot --""", """o'clock "1" \\"""
    columns = {"the 'y'": NORMAL, name: [value] * 199 + ["'"]}
    rules = {name: ColumnRule(required=True, allowed=[value, "it's"])}
    found = validate(columns, rules, target="the 'y'")
    assert found.quarantined == {f"{name} is none of the allowed values": 1}
    assert validate.set_aside()[name].tolist() == ["'"]


def test_a_column_may_be_called_like_a_word_of_the_query(validate: Gate) -> None:
    columns = {"select": NORMAL, "reason": [None, *range(199)], "snapshot": NORMAL}
    found = validate(columns, {"reason": ColumnRule(required=True)}, target="select")
    assert found.quarantined == {"reason is null": 1}


def test_a_rule_holds_for_times_and_booleans_too(validate: Gate) -> None:
    days = pa.array([date(2020, 1, 1)] * 199 + [date(1900, 1, 1)])
    columns = {"y": NORMAL, "day": days, "open": pa.array([True] * 198 + [False, None])}
    rules = {"day": ColumnRule(minimum=0), "open": ColumnRule(allowed=["true"])}
    assert validate(columns, rules).quarantined == {
        "day is below 0": 1,
        "open is none of the allowed values": 1,
    }


def test_a_whole_number_stored_with_a_point_is_the_allowed_category(validate: Gate) -> None:
    columns = {"y": NORMAL, "grade": pa.array([None, 3.0] * 100)}
    rules = {"grade": ColumnRule(kind=Kind.CATEGORY, allowed=["3"])}
    assert validate(columns, rules).quarantined == {}


@pytest.mark.parametrize(
    ("kind", "texts"),
    [(Kind.NUMBER, ["1", "2.5"]), (Kind.NUMBER, ["1", "?"]), (Kind.TIME, ["2020-01-01", "?"])],
)
def test_a_text_may_be_stated_to_be_a_number_or_a_time(
    validate: Gate, kind: Kind, texts: list[str]
) -> None:
    found = validate({"y": NORMAL, "x": texts * 100}, {"x": ColumnRule(kind=kind)})
    column = found.profile.column("x")
    assert column is not None and column.kind is kind
    assert sum(found.quarantined.values()) == 100 * texts.count("?")


# Limits


def refusal(validate: Gate, **options: Any) -> str:
    with pytest.raises(GateRefused) as caught:
        validate(**options)
    assert caught.value.exit_code == 3
    return str(caught.value)


def test_too_many_bad_rows_stop_the_run_with_their_reasons(validate: Gate) -> None:
    columns = {"y": NORMAL, "x": [None] * 11 + [1, 2, 3] * 63}
    rules = {"x": ColumnRule(required=True, maximum=2)}
    words = refusal(validate, columns=columns, rules=rules, max_quarantined=0.05)
    (kept,) = validate.quarantine.parents[1].glob("objects/quarantine/*/*.parquet")
    assert words == (
        "x is above 2 (63 rows); x is null (11 rows). So 74 of 200 rows (37.0%) are quarantined "
        f"(see file://{kept}); mend them, or raise validation.max_quarantined (5.0%)"
    )
    assert kept.read_bytes() == validate.quarantine.read_bytes()
    assert len(validate.set_aside()) == 74


def test_a_share_of_bad_rows_at_the_limit_is_let_through(validate: Gate) -> None:
    columns = {"y": NORMAL, "x": [None] * 10 + [1, 2] * 95}
    found = validate(columns, {"x": ColumnRule(required=True)}, max_quarantined=0.05)
    assert found.accepted.rows == 190


def test_too_few_good_rows_stop_the_run(validate: Gate) -> None:
    words = refusal(validate, columns={"y": NORMAL, "x": NORMAL}, min_rows=1000)
    assert words == "200 good rows, fewer than the 1,000 that validation.min_rows asks for"


def test_no_good_row_at_all_stops_the_run(validate: Gate) -> None:
    columns = {"y": pa.nulls(20, pa.float64()), "x": np.arange(20)}
    assert "every row" in refusal(validate, columns=columns)


def test_no_good_row_at_all_is_told_with_the_reasons(validate: Gate) -> None:
    columns = {"y": pa.nulls(20, pa.float64()), "x": np.arange(20)}
    assert "y (the target) is null (20 rows)" in refusal(validate, columns=columns)


# The target


@pytest.mark.parametrize(
    ("answers", "shown"), [([3.0] * 60, "3"), (["yes"] * 60, "yes"), ([True] * 60, "true")]
)
def test_a_constant_target_is_nothing_to_learn(
    validate: Gate, answers: list[object], shown: str
) -> None:
    words = f"^the target 'y' is {shown} in every row, there is nothing to learn: name another"
    with pytest.raises(DataError, match=words):
        validate({"y": answers, "x": np.arange(60)})


def test_an_unknown_target_is_named_with_the_nearest_column(validate: Gate) -> None:
    words = r"the target: there is no column 'prise'; did you mean 'price'\? \(columns: price, x\)"
    with pytest.raises(DataError, match=words):
        validate({"price": NORMAL, "x": NORMAL}, target="prise")


def test_a_column_that_only_a_later_step_needs_is_asked_for_now(store: DirectoryStore) -> None:
    taken = snapshots.publish(pa.table({"y": [1], "colour": ["red"]}).to_reader(), "", store)
    gate.check_named(taken, {"analysis.slices": ["colour"], "analysis.sensitive": []})
    words = (
        r"^analysis\.sensitive: there is no column 'color'; did you mean 'colour'\? "
        r"\(columns: y, colour\)$"
    )
    with pytest.raises(DataError, match=words):
        gate.check_named(taken, {"analysis.slices": ["colour"], "analysis.sensitive": ["color"]})


def test_a_rule_for_an_unknown_column_is_named_with_the_nearest(validate: Gate) -> None:
    with pytest.raises(DataError, match=r"validation.columns: .* 'lenght'; did you mean 'length'"):
        validate({"y": NORMAL, "length": NORMAL}, {"lenght": ColumnRule()})


def test_a_number_that_gives_the_target_away_is_found_and_a_good_one_is_not(validate: Gate) -> None:
    random = np.random.default_rng(1)
    columns = {
        "y": NORMAL,
        "pence": NORMAL * -100 + 3,
        "honest": NORMAL + random.normal(size=200) / 5,
        "other": random.normal(size=200),
    }
    (finding,) = validate(columns).findings
    assert finding.column == "pence" and not finding.hard
    assert finding.words.startswith("pence gives the target away (rank correlation -1.0000)")


def test_useless_columns_are_named(validate: Gate) -> None:
    columns = {
        "y": NORMAL,
        "empty": pa.nulls(200, pa.string()),
        "same": [7] * 200,
        "id": [f"id-{i}" for i in range(200)],
        "sparse": pa.array([1.5, *NORMAL[:49], *[None] * 150]),
        "fine": NORMAL[::-1],
    }
    assert {f.column: f.words for f in validate(columns).findings} == {
        "empty": "empty is null in every row; it is not used",
        "same": "same has one value only; it is not used",
        "id": "id is different in almost every row, like an identifier; it is not used",
        "sparse": "sparse is null in 75.0% of rows",
    }


# The champion's schema


KINDS = {"y": Kind.NUMBER, "code": Kind.CATEGORY}
CHAMPION = {"y": NORMAL, "size": NORMAL[::-1] * 10, "code": ["a", "b"] * 100}


def test_the_champions_own_table_breaks_nothing(validate: Gate) -> None:
    champion = validate(CHAMPION).profile
    assert validate(CHAMPION, champion=champion).findings == []


def test_a_column_that_the_champion_reads_and_is_gone_stops_the_run(validate: Gate) -> None:
    champion = validate(CHAMPION).profile
    gone = {name: values for name, values in CHAMPION.items() if name != "code"}
    words = refusal(validate, columns=gone, champion=champion)
    assert words.startswith("code is missing; the champion reads it as a category. Mend the table,")
    assert "(validation.checks.missing, or for one column)" in words


def test_a_category_that_is_stored_as_numbers_is_read_as_before(validate: Gate) -> None:
    champion = validate(CHAMPION).profile
    found = validate(CHAMPION | {"code": NORMAL}, champion=champion)
    column = found.profile.column("code")
    assert column is not None and column.kind is Kind.CATEGORY
    words = "code is stored as a number; it is read as a category, as before"
    assert words in [finding.words for finding in found.findings]


def test_a_number_of_which_some_became_text_stays_a_number(validate: Gate) -> None:
    champion = validate(CHAMPION).profile
    sizes = [*map(str, CHAMPION["size"][:-3]), "n/a", "?", None]
    changed = CHAMPION | {"size": sizes}
    hard = validate(changed, champion=champion)
    assert hard.quarantined == {"size is not a number, as it was before": 2}
    assert hard.accepted.rows == 198
    for severity in ("soft", "off"):
        kept = validate(changed, champion=champion, checks={"retyped": severity})
        assert kept.accepted.rows == 200
        column = kept.profile.column("size")
        assert column is not None and (column.kind, column.nulls) == (Kind.NUMBER, 3)
        words = [f.words for f in kept.findings if f.check is Check.RETYPED]
        told = ["size is not a number, as it was before: 2 rows (1.0%); taken for null",
                "size is stored as a category; it is read as a number, as before"]  # fmt: skip
        assert words == (told if severity == "soft" else [])
        texts = pq.read_table(validate.store.local(kept.accepted.data_key))["size"].to_pylist()
        assert texts[-4:] == [sizes[-4], None, None, None]


def test_a_column_that_now_is_empty_is_no_other_type(validate: Gate) -> None:
    champion = validate(CHAMPION).profile
    empty = pa.nulls(200, pa.string())
    found = validate(CHAMPION | {"size": empty}, champion=champion)
    assert "size is null in 100.0% of rows, was 0.0%" in [f.words for f in found.findings]


def test_new_values_wider_ranges_more_nulls_and_new_columns_are_told(validate: Gate) -> None:
    champion = validate(CHAMPION).profile
    changed = {
        "y": NORMAL,
        "size": [*NORMAL[:0:-1] * 10, 5000.0],
        "code": ["a", "zebra"] * 90 + [None] * 20,
        "extra": [1, 2] * 100,
    }
    found = validate(changed, champion=champion).findings
    was = f"{NORMAL.min() * 10:g} to {NORMAL.max() * 10:g}"
    assert [f.words for f in found if not f.hard] == [
        f"size lies outside {was}, all seen before: 1 row (0.5%)",
        "code is a value never seen before: 90 rows (45.0%), as zebra",
        "extra is new in this table",
        "code is null in 10.0% of rows, was 0.0%",
        "code moved by 0.73: b: 50.0% of rows before, 0.0% now",
    ]
    assert not any(f.hard for f in found)


def test_a_rare_value_beyond_the_commonest_is_not_taken_for_a_new_one() -> None:
    def codes(values: range) -> Profile:
        shares = [Share(value=str(value), count=5) for value in values]
        column = ColumnProfile(
            name="code", kind=Kind.CATEGORY, rows=999, nulls=0, distinct=1_200, top=shares[:1_000]
        )
        return Profile(rows=999, columns=[column])

    known = Known(codes(range(1_200)), frozenset({"code"}))
    assert row_checks("y", Validation(), KINDS, KINDS, known)[2:] == []
    few = Known(codes(range(9)).model_copy(update={}), frozenset({"code"}))
    few.schema.columns[0] = few.schema.columns[0].model_copy(update={"distinct": 9})
    assert [c.check for c in row_checks("y", Validation(), KINDS, KINDS, few)[2:]] == [
        Check.NEW_CATEGORY
    ]


def test_a_new_value_is_told_among_thousands_and_none_among_texts(validate: Gate) -> None:
    codes = [f"N{i % 3_000}" for i in range(9_000)]
    texts = [f"the ship number {i % 4_000} came in" for i in range(9_000)]
    y = np.arange(9_000.0)
    champion = validate({"y": y, "code": codes, "text": texts}).profile
    changed = {"y": y, "code": [*codes[:-1], "N3000"], "text": [*texts[:-1], "no ship came in"]}
    assert [f.words for f in validate(changed, champion=champion).findings] == [
        "code is a value never seen before: 1 row (less than 0.1%), as N3000"
    ]


def test_what_the_model_doesnt_see_gives_nothing_away(validate: Gate) -> None:
    table = {"y": NORMAL, "bill": NORMAL * 3, "fee": NORMAL * 5}
    told = [f.column for f in validate(table).findings if f.check is Check.LEAK]
    assert told == ["bill", "fee"]
    validate.excluded = ["bill"]
    told = [f.column for f in validate(table).findings if f.check is Check.LEAK]
    assert told == ["fee"]


def test_the_quarantine_keeps_every_column_and_type(validate: Gate) -> None:
    columns = {"y": NORMAL, "day": pa.array([None] + [date(2020, 1, 1)] * 199)}
    validate(columns, {"day": ColumnRule(required=True)})
    schema = pq.read_schema(validate.quarantine)
    assert schema.names == ["y", "day", "quarantined_because"]
    assert schema.field("day").type == pa.date32()


@pytest.mark.parametrize("bad", [0, 5])
def test_mended_rows_may_come_back_with_their_former_reasons(validate: Gate, bad: int) -> None:
    columns = {
        "x": [*[None] * bad, *["a"] * (200 - bad)],
        "y": NORMAL,
        "Quarantined_because": ["mended"] * 200,
    }
    validate(columns, {"x": ColumnRule(required=True)})
    aside = validate.set_aside()
    assert aside.columns[-2:].tolist() == ["Quarantined_because", "quarantined_because_2"]
    assert aside["quarantined_because_2"].tolist() == ["x is null"] * bad
