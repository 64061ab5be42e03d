"""The prediction log read back, and labels joined to it."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from loop_fakes import BEGIN, answer, log, rows_of, tell
from serving_fakes import SIGNATURE, MemoryRegistry, registered, write_bundle

from treadle import labels
from treadle.adapters.filesystem import DirectoryStore
from treadle.feedback import log as logs
from treadle.feedback.log import Logged
from treadle.records import ModelVersion

LATER = BEGIN + timedelta(hours=3)


@pytest.fixture
def version(tmp_path: Path, store: DirectoryStore) -> ModelVersion:
    return registered("sum", write_bundle(tmp_path / "bundle"), store, MemoryRegistry())


def read(version: ModelVersion, store: DirectoryStore, **given: Any) -> Logged:
    wanted: dict[str, Any] = {"seen": set(), "new_from": None, "since": None,
                              "most_rows": logs.MOST_ROWS, "now": LATER}  # fmt: skip
    keys = logs.keys_of("sum", store)
    return logs.read(keys, version, store=store, **(wanted | given))


def test_rows_come_back_in_the_order_of_time(version: ModelVersion, store: DirectoryStore) -> None:
    rows = rows_of(20)
    log(version, rows[10:], store, at=BEGIN + timedelta(hours=1))
    log(version, rows[:10], store)
    found = read(version, store)
    assert found.columns["x"].to_pylist() == pytest.approx([row["x"] for row in rows])
    assert found.output.shape == (20,)
    assert found.is_new.all()


def test_only_what_the_version_answered_as_champion_is_read(
    version: ModelVersion, store: DirectoryStore
) -> None:
    log(version, rows_of(5), store)
    log(version, rows_of(5), store, role="shadow", at=BEGIN + timedelta(minutes=10))
    log(version.model_copy(update={"digest": "e" * 32}), rows_of(5), store)
    assert read(version, store).rows == 5


def test_the_newest_rows_of_an_hour_are_taken_whatever_its_files_are_called(
    version: ModelVersion, store: DirectoryStore
) -> None:
    for minute in range(8):
        ids = [f"{minute}-{n}" for n in range(10)]
        log(version, rows_of(10), store, at=BEGIN + timedelta(minutes=minute), ids=ids)
    found = read(version, store, most_rows=20)
    assert {id_[0] for id_ in found.table["prediction_id"].to_pylist()} == {"6", "7"}


def test_the_newest_rows_are_read_until_there_are_enough(
    version: ModelVersion, store: DirectoryStore
) -> None:
    for hour in range(3):
        log(version, rows_of(10), store, at=BEGIN + timedelta(hours=hour))
    found = read(version, store, most_rows=15)
    assert found.rows == 15
    assert found.at[-1] == read(version, store).at[-1]
    assert read(version, store, since=BEGIN + timedelta(hours=2)).rows == 10


def test_a_file_is_new_once_however_late_it_was_written(
    version: ModelVersion, store: DirectoryStore
) -> None:
    first = log(version, rows_of(3), store)
    log(version, rows_of(4), store, at=BEGIN + timedelta(minutes=5))
    assert read(version, store, seen={first}, new_from=BEGIN).is_new.sum() == 4
    assert read(version, store, new_from=BEGIN + timedelta(hours=1)).is_new.sum() == 0


def test_a_file_that_was_cut_short_is_named_and_left_out(
    version: ModelVersion, store: DirectoryStore
) -> None:
    log(version, rows_of(3), store)
    broken = log(version, rows_of(3), store, at=BEGIN + timedelta(hours=1))
    store.put_bytes(broken, store.get_bytes(broken)[:-100])
    store.put_bytes(broken.replace(".parquet", "x.parquet"), b"")
    found = read(version, store)
    assert found.rows == 3
    assert found.unreadable == sorted([broken, broken.replace(".parquet", "x.parquet")])


def test_an_id_that_was_asked_twice_counts_as_it_was_answered_first(
    version: ModelVersion, store: DirectoryStore
) -> None:
    log(version, [{"x": 1.0, "y": 0.0, "colour": "red"}], store, ids=["a"])
    log(version, rows_of(2), store, ids=["a", "b"], at=BEGIN + timedelta(minutes=1))
    found = read(version, store)
    assert (found.rows, found.repeated) == (2, 1)
    assert found.output[0] == 11.0


def test_a_server_whose_clock_is_ahead_is_noticed(
    version: ModelVersion, store: DirectoryStore
) -> None:
    log(version, rows_of(4), store, at=LATER + timedelta(hours=1))
    assert (read(version, store).rows, read(version, store).ahead) == (4, 4)


def test_the_label_that_became_known_last_counts(
    version: ModelVersion, store: DirectoryStore
) -> None:
    log(version, rows_of(3), store, ids=["a", "b", "c"])
    tell(version, [("a", 1.0), ("b", 2.0), ("never asked", 9.0)], store)
    tell(version, [("a", 5.0)], store, now=LATER)
    found = logs.join(read(version, store), "sum", SIGNATURE, store)
    assert found.known.tolist() == [True, True, False]
    assert found.answers.tolist() == [5.0, 2.0]


def test_labels_are_counted_with_what_can_not_be_joined(
    version: ModelVersion, store: DirectoryStore
) -> None:
    assert logs.joined_counts("sum", store)["labels"] == 0
    log(version, rows_of(2), store, ids=["a", "b"])
    tell(version, [("a", 1.0), ("never asked", 9.0)], store)
    tell(version, [("a", 5.0)], store, now=LATER)
    assert logs.joined_counts("sum", store) == {
        "labels": 3, "predictions": 2, "corrected": 1, "not_joined": 1, "unreadable_files": 0,
    }  # fmt: skip


def test_a_model_that_nobody_asked_has_no_rows_and_no_labels(
    version: ModelVersion, store: DirectoryStore
) -> None:
    found = read(version, store)
    assert found.rows == 0
    assert logs.join(found, "sum", SIGNATURE, store).known.tolist() == []


def test_rows_of_two_servers_come_in_the_order_of_time(
    version: ModelVersion, store: DirectoryStore
) -> None:
    rows = rows_of(20)
    log(
        version,
        rows[1::2],
        store,
        at=BEGIN + timedelta(seconds=1),
        every_s=2,
        ids=list("abcdefghij"),
    )
    log(version, rows[::2], store, every_s=2, ids=list("klmnopqrst"))
    found = read(version, store)
    assert found.columns["x"].to_pylist() == pytest.approx([row["x"] for row in rows])
    assert found.output.tolist() == pytest.approx([answer(row) for row in rows])


def test_labels_that_were_cut_short_are_named_and_the_others_count(
    version: ModelVersion, store: DirectoryStore
) -> None:
    log(version, rows_of(2), store, ids=["a", "b"])
    tell(version, [("a", 1.0)], store)
    (cut,) = labels.keys("sum", None, store)
    store.put_bytes(cut, store.get_bytes(cut)[:-20])
    nothing = logs.join(read(version, store), "sum", SIGNATURE, store)
    assert (nothing.known.sum(), nothing.unreadable) == (0, [cut])
    tell(version, [("b", 2.0)], store)
    found = logs.join(read(version, store), "sum", SIGNATURE, store)
    assert (found.answers.tolist(), found.unreadable) == ([2.0], [cut])
    assert logs.joined_counts("sum", store)["unreadable_files"] == 1
