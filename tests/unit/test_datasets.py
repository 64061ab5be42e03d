"""Dataset versions: what is new is appended, what was there stays."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from serving_fakes import MemoryRegistry, registered, write_bundle

from treadle import datasets, runtime
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError, SpecError
from treadle.ingestion import snapshot
from treadle.records import DatasetVersion, Snapshot
from treadle.spec import Source
from treadle_pipelines import data


def ingested(folder: Path, store: DirectoryStore, **stated: object) -> Snapshot:
    source = Source.model_validate({"path": str(folder), **stated})
    return snapshot.ingest(source, "sales", store, None)


def partition(folder: Path, day: str, text: str) -> Path:
    path = folder / f"day={day}" / "sales.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def rows(found: Snapshot, store: DirectoryStore) -> list[dict[str, object]]:
    return list(pq.read_table(store.local(found.data_key)).drop(["day"]).to_pylist())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    partition(tmp_path / "sales", "2024-01-01", "n,shop\n1.5,Köln\n2,Ulm\n")
    return tmp_path / "sales"


def versions(store: DirectoryStore) -> list[DatasetVersion]:
    return datasets.versions("sales", store)


def test_new_partitions_append_a_snapshot_with_the_types_that_are_known(
    folder: Path, store: DirectoryStore
) -> None:
    first = ingested(folder, store)
    partition(folder, "2024-01-02", "n,shop\n3,Bonn\n")  # whole numbers, where they weren't before
    second = ingested(folder, store)
    assert rows(second, store) == [
        {"n": 1.5, "shop": "Köln"}, {"n": 2.0, "shop": "Ulm"}, {"n": 3.0, "shop": "Bonn"}
    ]  # fmt: skip
    assert [len(version.snapshots) for version in versions(store)] == [1, 2]
    assert versions(store)[1].snapshots[0] == first.digest
    assert rows(first, store) == [{"n": 1.5, "shop": "Köln"}, {"n": 2.0, "shop": "Ulm"}]
    at_once = snapshot.take(Source.model_validate(str(folder)), store)
    assert at_once.digest == second.digest


def test_the_same_files_make_no_new_version(folder: Path, store: DirectoryStore) -> None:
    first = ingested(folder, store)
    again = ingested(folder, store)
    assert again.digest == first.digest
    assert len(versions(store)) == 1


def test_what_doesnt_fit_is_read_anew_with_all_the_rest(
    folder: Path, store: DirectoryStore
) -> None:
    ingested(folder, store)
    partition(folder, "2024-01-02", "n,shop\nmany,Bonn\n")
    found = ingested(folder, store)
    assert [row["n"] for row in rows(found, store)] == ["1.5", "2", "many"]
    assert [len(version.snapshots) for version in versions(store)] == [1, 1]


def test_a_changed_file_and_another_reading_are_read_anew(
    folder: Path, store: DirectoryStore
) -> None:
    ingested(folder, store)
    partition(folder, "2024-01-01", "n,shop\n7.5,Köln\n")
    partition(folder, "2024-01-02", "n,shop\n3,Bonn\n")
    ingested(folder, store)
    found = ingested(folder, store, types={"n": "text"})
    assert [row["n"] for row in rows(found, store)] == ["7.5", "3"]
    assert [len(version.snapshots) for version in versions(store)] == [1, 1, 1]


def test_a_partition_that_cant_be_read_leaves_the_dataset_as_it_was(
    folder: Path, store: DirectoryStore
) -> None:
    ingested(folder, store)
    before = list(store.keys())
    partition(folder, "2024-01-02", "n,shop\n3,Bonn,surplus\n")
    with pytest.raises(DataError, match="line 2 has 3 fields"):
        ingested(folder, store)
    assert list(store.keys()) == before


@pytest.fixture
def listed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    """Two versions, the second with another column and other values."""
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path / "home"))
    for cached in (runtime.settings, runtime.object_store, runtime.registry):
        cached.cache_clear()
    store = runtime.object_store()
    lines = "".join(f"{i % 7},{'Köln' if i % 2 else 'Ulm'}\n" for i in range(2000))
    partition(folder, "2024-01-01", "n,shop\n" + lines)
    ingested(folder, store)  # type: ignore[arg-type]
    lines = "".join(f"{i % 7}.5,{'Köln' if i % 20 else 'Ulm'},x\n" for i in range(3000))
    partition(folder, "2024-01-01", "n,shop,till\n" + lines)
    ingested(folder, store)  # type: ignore[arg-type]
    assert isinstance(store, DirectoryStore)
    return store


def test_data_says_what_lies_between_two_versions(listed: DirectoryStore) -> None:
    found = json.loads(data.between("sales", 1, 2, as_json=True))
    assert found["rows"] == [2000, 3000]
    assert (found["added"], found["removed"]) == (["till"], [])
    assert found["retyped"] == {"n": ["int64", "double"]}
    assert {moved["column"] for moved in found["moved"]} == {"n", "shop"}
    text = data.between("sales", 1, 2, as_json=False)
    print(text)
    assert "retyped  n: int64 → double" in text
    assert "distributed as before" in data.between("sales", 2, 2, as_json=False)
    with pytest.raises(SpecError, match="sales has no version 3: it has 1 to 2"):
        data.between("sales", 1, 3, as_json=False)


def test_data_lists_datasets_and_versions(listed: DirectoryStore) -> None:
    text = data.of_dataset("sales", as_json=False)
    print(text)
    assert "3,000" in text
    assert "till" in text
    assert [v["version"] for v in json.loads(data.of_dataset("sales", True))["versions"]] == [1, 2]
    assert json.loads(data.of_all(True))["datasets"][0]["versions"] == 2
    assert "sales" in data.of_all(False)
    with pytest.raises(DataError, match="there is no dataset 'sale'; did you mean 'sales'"):
        data.of_dataset("sale", as_json=False)


def test_data_says_which_model_versions_used_each(
    listed: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, bundle = MemoryRegistry(), write_bundle(tmp_path / "bundle")
    for name in ("orders", "orders", "returns"):
        registered(name, bundle, listed, registry, versions(listed)[-1].digest)
    monkeypatch.setattr(runtime, "registry", lambda: registry)
    told = json.loads(data.of_dataset("sales", as_json=True))["versions"]
    assert [sorted(version["used_by"]) for version in told] == [
        [],
        ["orders 1", "orders 2", "returns 1"],
    ]
    newest, first = data.of_dataset("sales", as_json=False).splitlines()[1:3]
    assert "orders 2" in newest and first.endswith("none")


def test_an_unreadable_record_is_named(listed: DirectoryStore) -> None:
    listed.put_bytes("datasets/sales/x.json", b"{}")
    with pytest.raises(Exception, match=r"x.json is no dataset version: remove it"):
        datasets.versions("sales", listed)


def test_parquet_partitions_append_too(tmp_path: Path, store: DirectoryStore) -> None:
    folder = tmp_path / "sales"
    folder.mkdir()
    pq.write_table(pa.table({"day": [1], "n": [1.5]}), folder / "a.parquet")
    ingested(folder, store)
    pq.write_table(
        pa.table({"n": pa.array([None], pa.float64()), "day": [2]}), folder / "b.parquet"
    )
    found = ingested(folder, store)
    assert rows(found, store) == [{"n": 1.5}, {"n": None}]
    assert [len(version.snapshots) for version in versions(store)] == [1, 2]
