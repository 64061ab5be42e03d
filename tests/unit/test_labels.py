"""Labels: kept as they come, once, and refused with words where they can't be meant."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle import labels
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError, StoreError
from treadle.labels import Delivery, Label
from treadle.records import Feature, Kind, Signature, Task
from treadle.signature import RowErrors

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
FEATURES = [Feature(name="x", kind=Kind.NUMBER)]
NUMBER = Signature(task=Task.REGRESSION, target="delay", features=FEATURES)
CLASS = Signature(task=Task.BINARY, target="churned", features=FEATURES, classes=["no", "yes"])


def deliver(
    store: DirectoryStore, *sent: Any, signature: Signature = NUMBER, now: datetime = NOW
) -> Delivery:
    return labels.deliver("m", signature, [Label(*each) for each in sent], now, store)


def kept(store: DirectoryStore) -> list[dict[str, Any]]:
    tables = [pq.read_table(store.local(key)) for key in labels.keys("m", None, store)]
    return pa.concat_tables(tables).to_pylist() if tables else []


def test_labels_are_kept_with_the_time_at_which_they_became_known(store: DirectoryStore) -> None:
    found = deliver(store, ("a", 3), ("b", "4.5", "2026-02-28T10:00:00Z"), ("c", None))
    assert (found.labels, found.not_yet_known, found.is_new) == (2, 1, True)
    assert [(row["prediction_id"], row["label"], row["at"]) for row in kept(store)] == [
        ("a", 3.0, NOW), ("b", 4.5, datetime(2026, 2, 28, 10, tzinfo=UTC))
    ]  # fmt: skip


def test_the_same_delivery_twice_is_one_whenever_it_comes(store: DirectoryStore) -> None:
    deliver(store, ("a", 3))
    deliver(store, ("a", 4), now=NOW + timedelta(hours=1))
    assert not deliver(store, ("a", 3), now=NOW + timedelta(days=1)).is_new
    latest = max(kept(store), key=lambda row: row["at"])
    assert latest["label"] == 4


def test_a_delivery_that_was_killed_half_way_is_taken_up_as_of_then(
    store: DirectoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:

        def full(key: str, data: bytes) -> None:
            raise StoreError("the disk is full")

        broken.setattr(store, "put_bytes", full)
        with pytest.raises(StoreError):
            deliver(store, ("a", 3))
    assert kept(store) == []
    assert deliver(store, ("a", 3), now=NOW + timedelta(days=1)).is_new
    assert kept(store)[0]["at"] == NOW


def test_what_claims_to_be_from_the_future_counts_as_known_when_it_came(
    store: DirectoryStore,
) -> None:
    found = deliver(store, ("a", 3, "2030-01-01"), ("b", 3, "2026-03-01T12:34:00Z"))
    assert found.from_future == 1
    assert {row["at"] for row in kept(store)} == {NOW}


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (("a", True), "row 0, label: True is not a number, and delay is one"),
        (("a", "late"), "row 0, label: 'late' is not a number, and delay is one"),
        (("a", float("inf")), "row 0, label: inf is not a number"),
        (("a", [3]), r"row 0, label: \[3\] is no single value"),
        ((7, 3), "row 0, id: 7 is no text of 1 to 200 characters"),
        (("", 3), "row 0, id: '' is no text"),
        (("a", 3, "yesterday"), "row 0, at: 'yesterday' is not a time"),
    ],
)
def test_labels_of_another_type_are_refused_with_words_and_none_is_kept(
    store: DirectoryStore, sent: tuple[Any, ...], words: str
) -> None:
    with pytest.raises(RowErrors, match=words):
        deliver(store, sent, ("good", 3))
    assert kept(store) == []


def test_a_class_that_the_model_does_not_know_is_kept_and_counted(store: DirectoryStore) -> None:
    found = deliver(store, ("a", "yes"), ("b", "perhaps"), signature=CLASS)
    assert (found.labels, found.unknown_class) == (2, 1)


def test_labels_that_are_all_of_unknown_classes_are_of_something_else(
    store: DirectoryStore,
) -> None:
    with pytest.raises(DataError, match=r"no label is one of m's classes \(no, yes\)"):
        deliver(store, ("a", 3.5), ("b", 4), signature=CLASS)


def test_no_labels_are_refused(store: DirectoryStore) -> None:
    with pytest.raises(DataError, match="there are no labels"):
        deliver(store)


def test_labels_are_found_by_the_hour_in_which_they_came(store: DirectoryStore) -> None:
    deliver(store, ("a", 1))
    deliver(store, ("b", 2), now=NOW + timedelta(hours=2))
    assert len(list(labels.keys("m", NOW, store))) == 2
    assert len(list(labels.keys("m", NOW + timedelta(hours=1), store))) == 1


@given(st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.floats(-9, 9)), min_size=1))
@settings(deadline=None, max_examples=30,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_a_delivery_comes_back_as_it_was_sent(
    store: DirectoryStore, sent: list[tuple[str, float]]
) -> None:
    found = deliver(store, *sent)
    key = next(k for k in labels.keys("m", None, store) if found.digest in k)
    rows = pq.read_table(store.local(key)).to_pylist()
    assert [(row["prediction_id"], row["label"]) for row in rows] == sent
