"""Batch scoring, with a model that adds up."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from serving_fakes import MemoryRegistry, registered, write_bundle

from treadle import runtime
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import DataError
from treadle.ingestion import delimited
from treadle.signature import RowErrors
from treadle_pipelines import batch


@pytest.fixture(autouse=True)
def champion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    version = registered("sum", bundle, DirectoryStore(tmp_path / "objects"), MemoryRegistry())
    monkeypatch.setattr(runtime, "serving_champion", lambda name: (version, bundle))
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 24_000)  # so that there are several batches


def written(path: Path, rows: int = 5000, bad: tuple[int, ...] = ()) -> Path:
    """A CSV whose column y is text, because some rows hold no number."""
    y = ["many" if row in bad else str(row % 7) for row in range(rows)]
    table = pa.table({"x": list(range(rows)), "y": y, "colour": ["red"] * rows})
    pacsv.write_csv(table, path)
    return path


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_rows_that_do_not_fit_are_set_aside_with_their_reasons(tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"out{ending}"
    bad = (0, 2047, 2048, 4999)
    done = batch.score("sum", str(written(tmp_path / "in.csv", bad=bad)), out)
    rejects = tmp_path / f"out.rejects{ending}"
    assert (done["rows"], done["rejected"], done["rejects"]) == (4996, 4, str(rejects))
    read = pq.read_table if ending == ".parquet" else pacsv.read_csv
    scored, aside = read(out).to_pydict(), read(rejects).to_pydict()
    assert aside["x"] == list(bad) == aside["rejected_row"]
    assert aside["rejected_because"] == ["y: 'many' is not a number"] * 4
    assert scored["prediction"] == [x + x % 7 + 10 for x in range(5000) if x not in bad]
    assert sorted([*scored["x"], *aside["x"]]) == list(range(5000))


def test_values_in_columns_that_the_model_ignores_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, _ = runtime.serving_champion("sum")
    bundle = write_bundle(tmp_path / "ignoring", ignored=["late", "absent"])
    monkeypatch.setattr(runtime, "serving_champion", lambda name: (version, bundle))
    table = tmp_path / "in.csv"
    table.write_text("x,y,colour,late\n1,2,red,3\n1,2,red,\n1,2,red,x\n", encoding="utf-8")
    done = batch.score("sum", str(table), tmp_path / "out.csv")
    assert (done["rows"], done["ignored"]) == (3, {"late": 2})


def test_without_rejects_there_is_no_such_file_not_even_a_former_one(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    batch.score("sum", str(written(tmp_path / "in.csv", bad=(3,))), out)
    assert (tmp_path / "out.rejects.csv").exists()
    done = batch.score("sum", str(written(tmp_path / "in.csv")), out)
    assert (done["rejected"], done["rejects"]) == (0, None)
    assert not (tmp_path / "out.rejects.csv").exists()


def test_on_stdout_there_is_no_beside_so_a_bad_row_is_a_fault(tmp_path: Path) -> None:
    table = str(written(tmp_path / "in.csv", bad=(3000,)))
    with pytest.raises(RowErrors, match="row 3000, y: 'many' is not a number"):
        batch.score("sum", table, None)


def test_a_column_of_the_predictions_name_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    table = tmp_path / "in.csv"
    table.write_text("x,y,colour,prediction\n1,2,red,3\n", encoding="utf-8")
    with pytest.raises(DataError, match="'prediction' already"):
        batch.score("sum", str(table), tmp_path / "out.csv")
    assert not list(tmp_path.glob("*out*"))
