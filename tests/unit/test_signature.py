"""Frames and JSON rows of the same values are encoded alike: training and serving
see the same."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.bundle import decode_row
from treadle.encoding import NULL_CATEGORY, category, ignored_values, tokenised, untokenised
from treadle.errors import DataError
from treadle.records import Feature, Kind, Signature, Task, Tokens
from treadle.signature import RowErrors, encode_frame, frame_of, row_encoder
from treadle.signature import encode_rows as encode_with
from treadle.sql import as_number, as_read, as_text, connected

quick = settings(deadline=None, max_examples=60)
Rows = list[dict[str, Any]]

# Per kind: how a snapshot stores it, and what its cells may hold.
TYPES = {
    Kind.NUMBER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.CATEGORY: pa.string(),
    Kind.TIME: pa.timestamp("us", "UTC"),
}
# Within 2**32 s of 1970 float64 seconds tell microseconds apart.
TIMES = st.datetimes(datetime(1850, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
CELLS: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.NUMBER: st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.integers(-(2**53), 2**53),
    Kind.BOOLEAN: st.booleans(),
    Kind.CATEGORY: st.text(max_size=5) | st.sampled_from(["nan", "None", "NaT", "<NA>", "1.0"]),
    Kind.TIME: TIMES,
}
NAMES = st.text(min_size=1, max_size=6) | st.sampled_from(["größe", "名前", 'a "b".c', "row"])


def encode_rows(rows: Rows, wanted: Signature) -> dict[str, Any]:
    return dict(encode_with(rows, row_encoder(wanted)))


def signature(**kinds: Kind) -> Signature:
    features = [Feature(name=name, kind=kind) for name, kind in kinds.items()]
    return Signature(task=Task.REGRESSION, target="answer", features=features)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Signature, pa.Table, Rows]:
    """A table as a snapshot holds it, and the same values as JSON rows."""
    kinds = draw(st.dictionaries(NAMES, st.sampled_from(Kind), min_size=1, max_size=5))
    count = draw(st.integers(1, 6))
    cells = {
        name: draw(st.lists(st.none() | CELLS[kind], min_size=count, max_size=count))
        for name, kind in kinds.items()
    }
    table = pa.table({name: pa.array(cells[name], TYPES[kind]) for name, kind in kinds.items()})
    rows = [{name: values[i] for name, values in cells.items()} for i in range(count)]
    return signature(**kinds), table, json.loads(json.dumps(rows, default=datetime.isoformat))


@quick
@given(tables())
def test_a_frame_and_the_json_rows_of_its_values_are_encoded_alike_cell_by_cell(
    drawn: tuple[Signature, pa.Table, Rows],
) -> None:
    wanted, table, rows = drawn
    frame, columns = encode_frame(table.to_pandas(), wanted), encode_rows(rows, wanted)
    assert list(frame.columns) == list(columns) == wanted.names
    for feature in wanted.features:
        from_frame, from_rows = frame[feature.name].to_numpy(), columns[feature.name]
        if feature.kind is Kind.CATEGORY:
            assert from_frame.tolist() == from_rows.tolist()
        else:
            assert from_frame.dtype == from_rows.dtype
            np.testing.assert_array_equal(from_frame, from_rows)


@quick
@given(tables())
def test_a_decoded_row_is_json_and_encodes_to_the_row_it_came_from(
    drawn: tuple[Signature, pa.Table, Rows],
) -> None:
    wanted, _, rows = drawn
    columns = encode_rows(rows, wanted)
    decoded = [decode_row(columns, i, wanted) for i in range(len(rows))]
    again = encode_rows(json.loads(json.dumps(decoded, allow_nan=False)), wanted)
    for name in wanted.names:
        np.testing.assert_array_equal(again[name], columns[name])


def test_the_widest_number_of_float32_survives_its_json() -> None:
    wanted = signature(size=Kind.NUMBER)
    columns = encode_rows([{"size": -float(np.finfo(np.float32).max)}], wanted)
    again = encode_rows([decode_row(columns, 0, wanted)], wanted)
    assert again["size"].tolist() == columns["size"].tolist()
    assert np.isfinite(again["size"]).all()


@given(st.integers(-(2**53), 2**53))
def test_a_whole_number_is_the_same_category_with_and_without_a_point(number: int) -> None:
    assert category(number) == category(float(number)) == category(np.int64(number)) == str(number)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *[(empty, NULL_CATEGORY) for empty in (None, pd.NaT, pd.NA)],
        *[(odd, NULL_CATEGORY) for odd in (float("nan"), float("-inf"), np.float32("inf"))],
        *[(True, "true"), (np.False_, "false"), (1, "1")],
        *[(2.5, "2.5"), (-0.0, "0"), (1e20, "1" + "0" * 20), (np.float32(3), "3")],
        *[
            (Decimal("3.00"), "3"),
            (Decimal("2.50"), "2.5"),
            (Decimal("0.10"), "0.1"),
            (Decimal("1E-7"), "0.0000001"),
        ],
        *[("", ""), ("3.0", "3.0"), ("NaN", "NaN")],
    ],
)
def test_a_category_is_known_by_its_text(value: object, text: str) -> None:
    assert category(value) == text


def test_whole_numbers_beside_nulls_are_the_categories_that_json_names() -> None:
    wanted = signature(code=Kind.CATEGORY)
    frame = pa.table({"code": pa.array([7, None, 8], pa.int64())}).to_pandas()
    rows: Rows = [{"code": 7}, {"code": None}, {"code": 8.0}]
    assert encode_frame(frame, wanted)["code"].tolist() == ["7", NULL_CATEGORY, "8"]
    assert encode_rows(rows, wanted)["code"].tolist() == ["7", NULL_CATEGORY, "8"]


# Texts


@pytest.mark.parametrize(
    ("text", "words", "characters"),
    [
        ("Größe: 12-A", "größe 12 a", "g r ö ß e _ 1 2 _ a"),
        ("  ", "", ""),
        ("snake_case", "snake case", "s n a k e _ c a s e"),
        ("名前 x", "名前 x", "名 前 _ x"),
        (NULL_CATEGORY, "", ""),
    ],
)
def test_a_text_is_taken_apart_into_words_or_characters(
    text: str, words: str, characters: str
) -> None:
    assert tokenised(text, Tokens.WORDS) == words
    assert tokenised(text, Tokens.CHARACTERS) == characters


@quick
@given(st.text(max_size=20), st.sampled_from(Tokens))
def test_tokens_put_together_again_are_the_same_tokens(text: str, tokens: Tokens) -> None:
    encoded = tokenised(text, tokens)
    assert tokenised(untokenised(encoded, tokens), tokens) == encoded


@pytest.mark.parametrize("tokens", Tokens)
def test_frames_and_rows_take_texts_apart_alike(tokens: Tokens) -> None:
    feature = Feature(name="note", kind=Kind.CATEGORY, tokens=tokens)
    wanted = Signature(task=Task.REGRESSION, target="answer", features=[feature])
    rows: Rows = [{"note": "Hello, World"}, {"note": None}, {"note": "a"}, {"note": "9 lives"}]
    from_rows = encode_rows(rows, wanted)["note"].tolist()
    assert from_rows == encode_frame(pd.DataFrame(rows), wanted)["note"].tolist()
    columns = encode_rows(rows, wanted)
    decoded = [decode_row(columns, i, wanted) for i in range(len(rows))]
    assert encode_rows(decoded, wanted)["note"].tolist() == from_rows


def test_values_of_columns_that_are_known_and_not_used_are_counted() -> None:
    wanted = signature(size=Kind.NUMBER).model_copy(update={"ignored": ["empty", "same"]})
    rows: Rows = [{"size": 1, "empty": 3, "other": 1}, {"empty": None}, {"empty": "x", "same": 0}]
    assert ignored_values(rows, wanted.ignored) == {"empty": 2, "same": 1}
    assert encode_rows(rows, wanted).keys() == {"size"}


# Bad values


def test_every_bad_value_is_named_by_row_column_and_reason() -> None:
    wanted = signature(size=Kind.NUMBER, open=Kind.BOOLEAN, since=Kind.TIME)
    rows: Rows = [
        {"size": 1, "open": True, "since": "2020-01-01"},
        {"size": "big", "open": 2, "since": "yesterday"},
        {"size": [3], "open": "maybe", "since": 5},
    ]
    with pytest.raises(RowErrors) as caught:
        encode_rows(rows, wanted)
    assert caught.value.errors == [
        (1, "open", "2 is not a boolean"),
        (1, "since", "'yesterday' is not a time"),
        (1, "size", "'big' is not a number"),
        (2, "open", "'maybe' is not a boolean"),
        (2, "since", "5 is not a time"),
        (2, "size", "[3] is not a number"),
    ]
    assert str(caught.value).startswith("row 1, open: 2 is not a boolean; row 1, since: ")
    assert str(caught.value).endswith(" and 1 more")


def test_a_bad_cell_of_a_frame_is_named_by_row_column_and_reason() -> None:
    frame = pd.DataFrame({"size": ["1", None, "big"], "open": ["yes", "no", "maybe"]})
    with pytest.raises(RowErrors, match=r"^row 2, size: 'big' is not a number$"):
        encode_frame(frame, signature(size=Kind.NUMBER))
    with pytest.raises(RowErrors, match=r"^row 2, open: 'maybe' is not a boolean$"):
        encode_frame(frame, signature(open=Kind.BOOLEAN))


def test_a_bad_time_of_a_frame_is_named_in_one_line() -> None:
    frame = pd.DataFrame({"since": ["2020-01-01", "soon"]})
    with pytest.raises(DataError, match=r"since.*soon.*time") as caught:
        encode_frame(frame, signature(since=Kind.TIME))
    assert "\n" not in str(caught.value)


def test_a_long_bad_value_is_shortened() -> None:
    with pytest.raises(RowErrors) as caught:
        encode_rows([{"size": "x" * 10_000}], signature(size=Kind.NUMBER))
    assert len(str(caught.value)) < 120


def test_a_column_that_a_frame_lacks_is_named_with_the_nearest_it_has() -> None:
    frame = pd.DataFrame({"lenght": [1.0], "width": [2.0]})
    with pytest.raises(DataError, match=r"^column 'length' is missing; did you mean 'lenght'\?$"):
        encode_frame(frame, signature(length=Kind.NUMBER))


def test_a_column_that_a_row_leaves_out_is_null_and_extra_ones_are_ignored() -> None:
    wanted = signature(size=Kind.NUMBER, kind=Kind.CATEGORY)
    columns = encode_rows([{"size": 1, "other": "x"}, {"kind": "a"}], wanted)
    assert list(columns) == ["size", "kind"]
    np.testing.assert_array_equal(columns["size"], np.array([1, np.nan], dtype=np.float32))
    assert columns["kind"].tolist() == [NULL_CATEGORY, "a"]


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        *[(Kind.NUMBER, "0x10"), (Kind.NUMBER, ""), (Kind.NUMBER, {})],
        *[(Kind.BOOLEAN, cell) for cell in ("", 2)],
        *[(Kind.TIME, cell) for cell in (True, "", "NaT", "now", "01/02/2020", 1577836800, 1.5)],
    ],
)
def test_what_a_row_may_not_hold_a_frame_may_not_hold_either(kind: Kind, cell: object) -> None:
    wanted = signature(column=kind)
    with pytest.raises(RowErrors):
        encode_rows([{"column": cell}], wanted)
    with pytest.raises(DataError):
        encode_frame(pd.DataFrame({"column": [cell]}), wanted)


@pytest.mark.parametrize("sign", [1, -1])
def test_numbers_that_are_not_finite_or_beyond_float32_are_null(sign: int) -> None:
    wanted = signature(size=Kind.NUMBER)
    # float32's widest, as JSON writes it, and the narrowest that it rounds to infinity.
    cells = [3.4028235e38, 2.0**128 - 2.0**103, 1e39, float("inf"), float("nan"), 1.0]
    kept = np.array([np.finfo(np.float32).max, *[np.nan] * 4, 1], dtype=np.float32) * sign
    rows: Rows = [{"size": cell * sign} for cell in cells]
    np.testing.assert_array_equal(encode_rows(rows, wanted)["size"], kept)
    for frame in (
        pd.DataFrame(rows),
        pd.DataFrame(rows, dtype=object),
        pd.DataFrame(rows, dtype=str),
    ):
        np.testing.assert_array_equal(encode_frame(frame, wanted)["size"], kept)


# Times


@pytest.fixture
def new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose own zone is far from UTC."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("new_york")
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2024-02-29T12:30:00Z", datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("2024-02-29T12:30:00", datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
        ("2024-02-29 12:30:00.25", datetime(2024, 2, 29, 12, 30, 0, 250_000, tzinfo=UTC)),
        ("2024-02-29T12:30:00+05:30", datetime(2024, 2, 29, 7, 0, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 2, 29, tzinfo=UTC)),
        ("1931-07-04T00:00:00-02:00", datetime(1931, 7, 4, 2, tzinfo=UTC)),
    ],
)
def test_a_time_without_a_zone_is_utc_in_rows_and_in_frames(written: str, meant: datetime) -> None:
    wanted = signature(at=Kind.TIME)
    assert encode_rows([{"at": written}], wanted)["at"].tolist() == [meant.timestamp()]
    frame = pd.DataFrame({"at": [written]})
    assert encode_frame(frame, wanted)["at"].tolist() == [meant.timestamp()]


@pytest.mark.parametrize(
    "stored",
    [
        pa.array([date(2024, 3, 31), None], pa.date32()),
        pa.array([datetime(2024, 3, 31), None], pa.timestamp("s")),
        pa.array([datetime(2024, 3, 31), None], pa.timestamp("ns")),
        pa.array([datetime(2024, 3, 31, tzinfo=UTC), None], pa.timestamp("ms", "Europe/Berlin")),
    ],
    ids=["date", "seconds", "nanoseconds", "a zone"],
)
def test_a_time_means_the_same_however_a_snapshot_stores_it(stored: pa.Array) -> None:
    encoded = encode_frame(pa.table({"at": stored}).to_pandas(), signature(at=Kind.TIME))["at"]
    np.testing.assert_array_equal(encoded, [datetime(2024, 3, 31, tzinfo=UTC).timestamp(), np.nan])


@quick
@given(TIMES, st.integers(-14 * 60, 14 * 60))
def test_one_moment_is_one_number_in_every_zone(moment: datetime, minutes: int) -> None:
    there = moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat()
    columns = encode_rows([{"at": moment.isoformat()}, {"at": there}], signature(at=Kind.TIME))
    assert columns["at"][0] == columns["at"][1]


# The same reading in SQL: what validation, profiles and monitoring see


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    most = 10**digits - 1
    return st.integers(-most, most).map(lambda number: Decimal(f"{number}e-{places}"))


WIDE = st.sampled_from([3.4028235e38, 2.0**128 - 2.0**103, -1e39])
ODD = st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 1e15, 1e16, 1e-5])
WORDS = [
    "nan",
    "NaN",
    "-inf",
    "1.0",
    "1_000",
    " 1 ",
    "1e5",
    "1e400",
    "0x10",
    "",
    "true",
    "no",
    "5.",
]
CLOCKS = [
    "2024-02-29 10:00",
    " 2024-02-29 ",
    "2024-02-30",
    "2024-2-29",
    "20240229",
    "2024-02-29T10",
    "2024-02-29T10:00:00.123456789Z",
    "2024-02-29 10:00:00+02",
    "2024-02-29 10:00:00-03:30",
    "2024-02-29 10:00:00 Europe/Berlin",
    "2024-W09-4",
    "infinity",
    "epoch",
]
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=5)
# How a snapshot may store a column: the type, its cells, and whether it may hold nulls.
Stored = dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]]
VALUES: Stored = {
    # Beyond 2**127, DuckDB has no digits for a whole number.
    "double": (pa.float64(), st.none() | ODD | st.floats(-1e38, 1e38)),
    "whole": (pa.float64(), st.none() | st.integers(-(10**22), 10**22).map(float)),
    "money": (pa.decimal128(6, 2), st.none() | decimals(6, 2)),
    "tiny": (pa.decimal128(12, 9), st.none() | decimals(12, 9)),
    "huge": (pa.decimal128(30, 0), st.none() | decimals(30, 0)),
    "bigint": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "bigint or null": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "boolean": (pa.bool_(), st.none() | st.booleans()),
    "text": (pa.string(), st.none() | st.sampled_from(WORDS) | ASCII),
}
NUMBERS = VALUES | {"wide": (pa.float64(), ODD | st.floats() | WIDE)}
MOMENTS: Stored = {
    "date": (pa.date32(), st.none() | st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "naive": (pa.timestamp("us"), st.none() | TIMES.map(lambda at: at.replace(tzinfo=None))),
    "zoned": (pa.timestamp("ms", "Asia/Kolkata"), st.none() | TIMES),
    "nanoseconds": (pa.timestamp("ns"), st.none() | st.integers(-(2**61), 2**61)),
    "text": (
        pa.string(),
        st.none()
        | TIMES.map(datetime.isoformat)
        | st.dates().map(str)
        | st.sampled_from(WORDS + CLOCKS),
    ),
}


@st.composite
def stored(draw: st.DrawFn, columns: Stored) -> pa.Table:
    count = draw(st.integers(1, 6))
    return pa.table(
        {
            name: pa.array(draw(st.lists(cells, min_size=count, max_size=count)), kind)
            for name, (kind, cells) in columns.items()
        }
    )


Query = Callable[[pa.Table, Callable[[str], str]], tuple[pd.DataFrame, dict[str, list[Any]]]]


@pytest.fixture(scope="module")
def query(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Query]:
    """Stores a table; returns it as the encoders get it, and its columns as SQL reads them."""
    place = tmp_path_factory.mktemp("stored")
    with connected() as connection:

        def run(
            table: pa.Table, sql: Callable[[str], str]
        ) -> tuple[pd.DataFrame, dict[str, list[Any]]]:
            path = place / f"{len(list(place.iterdir()))}.parquet"
            pq.write_table(table, path)
            parts = ", ".join(sql(name) for name in table.column_names)
            read = connection.read_parquet(str(path)).project(parts).fetchall()
            columns = [list(column) for column in zip(*read, strict=True)]
            return frame_of(pq.read_table(path)), dict(
                zip(table.column_names, columns, strict=True)
            )

        yield run


@quick
@given(table=stored(VALUES))
def test_sql_reads_a_category_as_the_encoder_does(table: pa.Table, query: Query) -> None:
    frame, read = query(table, as_text)
    kinds = dict.fromkeys(table.column_names, Kind.CATEGORY)
    encoded = encode_frame(frame, signature(**kinds))
    for name in table.column_names:
        texts = [NULL_CATEGORY if text is None else text for text in read[name]]
        assert texts == encoded[name].tolist() == [category(value) for value in frame[name]]


@quick
@given(table=stored(NUMBERS))
def test_sql_reads_a_number_as_the_encoder_does(table: pa.Table, query: Query) -> None:
    assert_read_alike(table, query, Kind.NUMBER)


@quick
@given(table=stored(MOMENTS))
def test_sql_reads_a_time_as_the_encoder_does(table: pa.Table, query: Query) -> None:
    assert_read_alike(table, query, Kind.TIME)


def assert_read_alike(table: pa.Table, query: Query, kind: Kind) -> None:
    assert all(as_read(name, kind) == as_number(name, kind) for name in table.column_names)
    frame, read = query(table, lambda name: as_number(name, kind))
    for name in table.column_names:
        found = np.array(read[name], dtype=np.float64)
        assert not np.isinf(found).any()
        assert not any(value != value for value in read[name])
        encoded = encoded_or_nan(frame[[name]], signature(**{name: kind}))
        if kind is Kind.NUMBER:
            np.testing.assert_array_equal(found.astype(np.float32), encoded)
        else:  # a microsecond: DuckDB rounds nanoseconds to it, pandas cuts them off
            np.testing.assert_allclose(found, encoded, rtol=0, atol=1.5e-6)


def encoded_or_nan(frame: pd.DataFrame, wanted: Signature) -> Any:
    """A column as the encoder reads it, nan where it refuses a cell."""
    (name,) = wanted.names
    try:
        return encode_frame(frame, wanted)[name].to_numpy()
    except RowErrors as refused:
        holes = frame.astype(object)
        holes.iloc[[row for row, _, _ in refused.errors], 0] = None
        return encode_frame(holes, wanted)[name].to_numpy()


def test_a_big_whole_number_beside_a_null_is_the_category_it_is() -> None:
    table = pa.table({"id": pa.array([2**53 + 1, None, -(2**63)], pa.int64())})
    encoded = encode_frame(frame_of(table), signature(id=Kind.CATEGORY))
    assert encoded["id"].tolist() == ["9007199254740993", NULL_CATEGORY, "-9223372036854775808"]
