"""What bad input gets: a line or two that say what, with which value and what to do; exit 1, 2 or
3; no traceback; nothing half-written under the home."""

import gzip
import json
import signal
import socket
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml

from integration.conftest import (
    IS_ROOT,
    Finished,
    Mount,
    Outcome,
    changed_spec,
    free_port,
    started,
    treadle,
    wait_for,
)

HEADER = "visits,plan,churned\n"
DEAD_PORT = "http://127.0.0.1:1"


def rows(count: int, target: Callable[[int], str] = lambda i: "yes" if i % 3 else "no") -> str:
    """A small table as CSV, without its header."""
    return "".join(f"{i * 7 % 31},{'pro' if i % 2 else 'free'},{target(i)}\n" for i in range(count))


def good(path: Path, count: int = 120) -> Path:
    """A table that Treadle can learn from."""
    path.write_text(HEADER + rows(count), encoding="utf-8")
    return path


def spec_of(directory: Path, source: Any, **changes: Any) -> Path:
    """A spec for the table."""
    spec = {"name": "customers", "target": "churned", "source": source, **changes}
    path = directory / "customers.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def refused(done: Outcome, code: int, *words: str) -> str:
    """Check that a command ended with ``code`` and a few lines holding ``words``; return them."""
    everything = f"exit {done.code}\n{done.out}\n{done.err}"
    assert "Traceback" not in done.out + done.err, everything
    assert done.code == code, everything
    lines = done.err.splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("treadle: ")), None)
    assert first is not None, everything
    assert len(lines) - first <= 3, everything
    fault = "\n".join(lines[first:])
    assert len(fault) <= 900, everything
    for word in words:
        assert word in fault, f"{word!r} isn't in: {fault}"
    return fault


def is_whole(home: Path) -> bool:
    """Say whether nothing under the home is half-written."""
    if not home.is_dir():
        return True
    assert not [*home.rglob("*.part*"), *home.rglob(".part-*"), *home.rglob(".writable-*")]
    for snapshot in home.glob("objects/snapshots/*"):
        assert {path.name for path in snapshot.iterdir()} == {"manifest.json", "data.parquet"}
        duckdb.read_parquet(str(snapshot / "data.parquet")).fetchall()
    for path in home.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"))
    return True


# --- tables -------------------------------------------------------------------------------------


def _missing(folder: Path) -> Path:
    good(folder / "customers.csv")
    return folder / "custmers.csv"


def _no_match(folder: Path) -> Path:
    return folder / "2013-*.csv"


def _directory(folder: Path) -> Path:
    (folder / "tables").mkdir()
    (folder / "tables/_SUCCESS").touch()
    return folder / "tables"


def _empty(folder: Path) -> Path:
    (folder / "empty.csv").touch()
    return folder / "empty.csv"


def _header_only(folder: Path) -> Path:
    (folder / "header.csv").write_text(HEADER, encoding="utf-8")
    return folder / "header.csv"


def _garbage(folder: Path) -> Path:
    (folder / "garbage.csv").write_bytes(bytes((i * i * 31 + 7 * i) % 256 for i in range(20_000)))
    return folder / "garbage.csv"


def _truncated(folder: Path) -> Path:
    packed = gzip.compress((HEADER + rows(5_000)).encode())
    (folder / "cut.csv.gz").write_bytes(packed[: len(packed) // 2])
    return folder / "cut.csv.gz"


def _ragged(folder: Path) -> Path:
    text = HEADER + rows(30_000) + "1,pro,yes,surplus\n" + rows(10)
    (folder / "ragged.csv").write_text(text, encoding="utf-8")
    return folder / "ragged.csv"


def _list_column(folder: Path) -> Path:
    path = folder / "list.parquet"
    duckdb.sql("SELECT i AS visits, [i, i] AS basket, i % 2 AS churned FROM range(90) t(i)") \
        .write_parquet(str(path))  # fmt: skip
    return path


def _no_parquet(folder: Path) -> Path:
    return good(folder / "customers.parquet")


def _two_in_a_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "two.zip", "w") as archive:
        archive.writestr("a.csv", HEADER + rows(60))
        archive.writestr("b.csv", HEADER + rows(60))
    return folder / "two.zip"


def _no_zip(folder: Path) -> Path:
    return good(folder / "customers.zip")


def _broken_json(folder: Path) -> Path:
    (folder / "broken.jsonl").write_text('{"visits": 1}\n' * 80 + '{"visits": \n', encoding="utf-8")
    return folder / "broken.jsonl"


def _unknown_ending(folder: Path) -> Path:
    return good(folder / "customers.table")


def _no_target(folder: Path) -> Path:
    path = folder / "customers.csv"
    path.write_text("visits,plan,churnd\n" + rows(120), encoding="utf-8")
    return path


def _constant_target(folder: Path) -> Path:
    path = folder / "customers.csv"
    path.write_text(HEADER + rows(120, lambda _: "no"), encoding="utf-8")
    return path


def _null_target(folder: Path) -> Path:
    path = folder / "customers.csv"
    path.write_text(HEADER + rows(120, lambda _: ""), encoding="utf-8")
    return path


def _few(folder: Path) -> Path:
    return good(folder / "customers.csv", 31)


TABLES: dict[str, tuple[Callable[[Path], Path], int, tuple[str, ...]]] = {
    "missing": (_missing, 1, ("custmers.csv", "did you mean 'customers.csv'?")),
    "glob without a match": (_no_match, 1, ("2013-*.csv", "matches no file", "pattern")),
    "directory": (_directory, 1, ("tables", "directory without a table", "/*.csv")),
    "empty": (_empty, 1, ("empty.csv", "is empty", "write the table again")),
    "header only": (_header_only, 1, ("header.csv", "no rows")),
    "garbage": (_garbage, 1, ("garbage.csv", "can't be read", "UTF-8")),
    "truncated gzip": (
        _truncated,
        1,
        ("cut.csv.gz", "not a whole gzip file", "fetch or pack it again"),
    ),
    "ragged": (_ragged, 1, ("ragged.csv", "line 30002 has 4 fields", "has 3", "mend that line")),
    "list column": (_list_column, 1, ("'basket'", "list<", "`sql`")),
    "CSV named Parquet": (_no_parquet, 1, ("customers.parquet", "no Parquet file")),
    "zip of two": (_two_in_a_zip, 1, ("two.zip", "2 files", "unpack it")),
    "CSV named zip": (_no_zip, 1, ("customers.zip", "can't be unpacked", "again")),
    "broken JSON lines": (_broken_json, 1, ("broken.jsonl", "line 82", "mend it")),
    "unknown ending": (_unknown_ending, 1, ("customers.table", ".table", ".csv", "source.format")),
    "no target": (_no_target, 1, ("'churned'", "did you mean 'churnd'?", "visits, plan")),
    "constant target": (_constant_target, 1, ("'churned'", "no in every row")),
    "target all null": (_null_target, 3, ("every row was quarantined", "churned")),
    "few rows": (_few, 3, ("31", "50", "validation.min_rows")),
}


@pytest.fixture(scope="module")
def table_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Outcome, Path]]:
    """A run of each table, in a home of its own; some at a time, as each mostly waits."""

    folders = {case: tmp_path_factory.mktemp("table") for case in TABLES}

    def run(case: str) -> tuple[Outcome, Path]:
        folder = folders[case]
        table = TABLES[case][0](folder)
        done = treadle("run", spec_of(folder, str(table)), home=folder / "home")
        return done, folder / "home"

    with ThreadPoolExecutor(3) as pool:
        return dict(zip(TABLES, pool.map(run, TABLES), strict=True))


@pytest.mark.parametrize("case", TABLES)
def test_a_table_that_cant_be_used_is_refused_in_words(
    case: str, table_runs: dict[str, tuple[Outcome, Path]]
) -> None:
    done, home = table_runs[case]
    print(refused(done, TABLES[case][1], *TABLES[case][2]))
    assert is_whole(home)


IN_INIT = {
    "directory": ("directory without a table",),
    "ragged": ("line 30002",),
    "no target": ("'churned'", "did you mean 'churnd'?"),
    "constant target": ("'churned'", "one value only", "--target"),
    "target all null": ("'churned'", "no value at all", "--target"),
}


@pytest.mark.parametrize("case", IN_INIT)
def test_init_refuses_such_a_table_and_writes_no_spec(case: str, tmp_path: Path) -> None:
    table, out = TABLES[case][0](tmp_path), tmp_path / "out.yaml"
    done = treadle("init", table, "--target", "churned", "-o", out, home=tmp_path / "home")
    print(refused(done, 1, *IN_INIT[case]))
    assert not out.exists()


def test_a_bracket_in_a_file_name_is_no_pattern(tmp_path: Path) -> None:
    table, out = good(tmp_path / "customers[1].csv"), tmp_path / "out.yaml"
    done = treadle("init", table, "--target", "churned", "-o", out, home=tmp_path / "home")
    assert done.code == 0, done.err


def test_too_many_quarantined_rows_name_the_reasons_first(tmp_path: Path) -> None:
    source = str(good(tmp_path / "customers.csv"))
    rule = {"columns": {"visits": {"minimum": 10}, "plan": {"allowed": ["pro"]}}}
    spec = spec_of(tmp_path, source, validation=rule)
    done = treadle("run", spec, home=tmp_path / "home")
    fault = refused(done, 3, "visits", "plan", "of 120 rows", "validation.max_quarantined")
    assert fault.index("visits is below 10") < fault.index("of 120 rows")
    assert is_whole(tmp_path / "home")


def test_a_package_that_isnt_installed_is_named(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "package://no_such_package/data.csv")
    print(refused(treadle("run", spec, home=tmp_path / "home"), 1, "'no_such_package'", "install"))


def test_a_file_that_a_package_lacks_is_named_with_the_nearest(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "package://sklearn/datasets/data/wine_dta.csv")
    done = treadle("run", spec, home=tmp_path / "home")
    print(refused(done, 1, "wine_dta.csv", "did you mean 'wine_data.csv'?"))


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT visits, pln, churned FROM customers", ("pln", "plan", "source.sql")),
        ("SELEC * FROM customers", ("SELEC", "source.sql")),
        ("SELECT * FROM custmers", ("custmers", "customers", "source.sql")),
        ("SELECT visits / (churned::INT) FROM customers", ("'no'", "source.sql")),
    ],
)
def test_an_error_in_the_query_is_said(sql: str, words: tuple[str, ...], tmp_path: Path) -> None:
    table = str(good(tmp_path / "customers.csv"))
    spec = spec_of(tmp_path, {"tables": {"customers": {"path": table}}, "sql": sql})
    print(refused(treadle("run", spec, home=tmp_path / "home"), 1, *words))
    assert is_whole(tmp_path / "home")


# --- specs and settings -------------------------------------------------------------------------

TWO_TABLES = {"tables": {"one": {"path": "one.csv"}, "two": {"path": "two.csv"}}}
SPECS: dict[str, tuple[str, tuple[str, ...]]] = {
    "typo": ("name: a\ntarget: b\nsource: c.csv\ntrainin: {}\n", ("'trainin'", "'training'?")),
    "typo inside": (
        "name: a\ntarget: b\nsource: c.csv\ntraining: {trails: 3}\n",
        ("'trails'", "training", "did you mean 'trials'?"),
    ),
    "no family": (
        "name: a\ntarget: b\nsource: c.csv\ntraining: {families: [forrest]}\n",
        ("forrest", "did you mean 'forest'?"),
    ),
    "no number": (
        "name: a\ntarget: b\nsource: c.csv\ntraining: {trials: many, budget_s: -1}\n",
        ("training.trials is 'many'", "whole number", "training.budget_s is -1", "greater than 0"),
    ),
    "a number as target": ("name: a\ntarget: 7\nsource: c.csv\n", ("target is 7", "quotes")),
    "nothing": ("name: a\ntarget:\nsource: c.csv\n", ("target is left empty", "text")),
    "bad name": (
        "name: My Model\ntarget: b\nsource: c.csv\n",
        ("'My Model'", "lower case letters"),
    ),
    "no target": ("name: a\nsource: c.csv\n", ("target is missing", "the column to predict")),
    "no YAML": ("name: [a\ntarget: b\n", ("is not YAML: line 2", "expected ',' or ']'")),
    "no mapping": ("- name\n- target\n", ("holds no spec", "treadle init")),
    "empty": ("", ("is empty", "treadle init")),
    "two tables": (
        yaml.safe_dump({"name": "a", "target": "b", "source": TWO_TABLES}),
        ("2 tables", "`sql`"),
    ),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_fault_in_the_spec_is_misuse(case: str, tmp_path: Path) -> None:
    text, words = SPECS[case]
    spec = tmp_path / "customers.yaml"
    spec.write_text(text, encoding="utf-8")
    done = treadle("run", spec, home=tmp_path / "home")
    print(refused(done, 2, "customers.yaml", *words))
    assert not (tmp_path / "home").exists()


def test_a_spec_that_isnt_there_is_named_with_the_nearest(tmp_path: Path) -> None:
    spec_of(tmp_path, "customers.csv")
    done = treadle("run", tmp_path / "custmers.yaml", home=tmp_path / "home")
    print(refused(done, 2, "custmers.yaml", "did you mean 'customers.yaml'?"))


def test_a_directory_or_a_picture_is_no_spec(tmp_path: Path) -> None:
    home = tmp_path / "home"
    print(refused(treadle("run", tmp_path, home=home), 2, str(tmp_path), "is a directory"))
    (tmp_path / "picture.yaml").write_bytes(bytes(range(256)))
    print(refused(treadle("run", tmp_path / "picture.yaml", home=home), 2, "no text in UTF-8"))


@pytest.mark.skipif(IS_ROOT, reason="root may read everything")
def test_a_spec_that_may_not_be_read_is_said(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "customers.csv")
    spec.chmod(0)
    print(refused(treadle("run", spec, home=tmp_path / "home"), 2, "customers.yaml", "permission"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"TREADLE_HOM": "x"}, ("TREADLE_HOM", "did you mean 'TREADLE_HOME'?")),
        ({"TREADLE_MLFLOW_URI": "nonsense"}, ("TREADLE_MLFLOW_URI", "http")),
        (
            {"TREADLE_OBJECT_STORE": "s3://b", "TREADLE_S3_ENDPOINT": "ftp://nowhere"},
            ("TREADLE_S3_ENDPOINT", "ftp://nowhere", "http"),
        ),
        ({"TREADLE_OBJECT_STORE": "s3://"}, ("TREADLE_OBJECT_STORE", "s3://bucket")),
    ],
)
def test_a_wrong_setting_is_misuse(
    settings: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, str(good(tmp_path / "customers.csv")))
    done = treadle("run", spec, home=tmp_path / "home", env=settings)
    print(refused(done, 2, *words))
    assert is_whole(tmp_path / "home")


def test_an_object_store_that_doesnt_answer_is_named(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, str(good(tmp_path / "customers.csv")))
    settings = {"TREADLE_OBJECT_STORE": "s3://bucket", "TREADLE_S3_ENDPOINT": DEAD_PORT}
    done = treadle("run", spec, home=tmp_path / "home", env=settings)
    print(refused(done, 1, "127.0.0.1:1", "TREADLE_S3_ENDPOINT"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rnu", "customers.yaml"], ("'rnu'", "did you mean 'run'?", "treadle --help")),
        (["run"], ("SPEC", "treadle run --help")),
        (["run", "a.yaml", "--hom", "x"], ("--hom", "--home")),
        (["serve", "--port", "99999"], ("'99999'", "--port", "65535")),
        (["serve", "--port", "http"], ("'http'", "--port", "65535")),
        (["init", "a.csv"], ("--target", "treadle init --help")),
    ],
)
def test_misuse_of_the_command_line(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path
) -> None:
    print(refused(treadle(*arguments, home=tmp_path / "home"), 2, *words))


# --- this machine -------------------------------------------------------------------------------


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = treadle("serve", "--port", port, home=tmp_path / "home", timeout=30)
    print(refused(done, 1, f"port {port}", "127.0.0.1", "--port"))


@pytest.mark.parametrize("host", ["nonsense", "300.1.2.3", "8.8.8.8", "::zz", ""])
def test_a_host_that_isnt_ours_is_misuse(host: str, tmp_path: Path) -> None:
    done = treadle("serve", "--host", host, "--port", free_port(), home=tmp_path, timeout=30)
    print(refused(done, 2, repr(host), "--host 127.0.0.1"))


@pytest.mark.skipif(IS_ROOT, reason="root may bind any port")
def test_a_port_that_needs_root_is_said(tmp_path: Path) -> None:
    done = treadle("serve", "--port", 80, home=tmp_path, timeout=30)
    print(refused(done, 1, "port 80", "--port"))


@pytest.fixture
def read_only(mounted: Mount, tmp_path: Path) -> Iterator[Path]:
    """A directory that can't be written to."""
    if IS_ROOT:
        yield mounted("ro,size=1m")
        return
    place = tmp_path / "closed"
    place.mkdir(mode=0o500)
    yield place
    place.chmod(0o700)


@pytest.mark.parametrize("inside", ["", "deeper/home"])
def test_a_home_that_cant_be_written_to_is_said(
    inside: str, read_only: Path, tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, str(good(tmp_path / "customers.csv")))
    done = treadle("run", spec, "--home", read_only / inside, home=tmp_path)
    print(refused(done, 1, str(read_only), "--home"))


def test_a_read_only_home_without_models_can_be_asked(read_only: Path) -> None:
    done = treadle("models", "--home", read_only, home=read_only)
    assert done.code == 0, done.err
    assert "no models" in done.out


def test_init_and_compile_into_a_read_only_place_are_refused(
    read_only: Path, tmp_path: Path
) -> None:
    table, out = good(tmp_path / "customers.csv"), read_only / "x.yaml"
    done = treadle("init", table, "--target", "churned", "-o", out, home=tmp_path)
    fault = refused(done, 1, str(out), "-o")
    print(fault)
    assert "--home" not in fault
    done = treadle("compile", spec_of(tmp_path, str(table)), "-o", out, home=tmp_path)
    fault = refused(done, 1, str(out), "-o")
    print(fault)
    assert "--home" not in fault


def test_a_full_disk_is_said_and_the_run_goes_on_once_there_is_space(
    mounted: Mount, tmp_path: Path
) -> None:
    table = tmp_path / "customers.csv"
    duckdb.sql(
        "SELECT hash(i) % 1000003 AS visits, hash(i + 7) / 1e9 AS spent, "
        "hash(i + 3) / 1e9 AS earned, hash(i) % 1000003 > 500000 AS churned "
        "FROM range(60000) t(i)"
    ).write_csv(str(table))
    options = {"trials": 1, "families": ["linear"]}
    spec = spec_of(tmp_path, str(table), training=options, analysis={"bootstrap": 20})
    home = mounted("size=1m")
    done = treadle("run", spec, home=home)
    print(refused(done, 1, "the disk is full", str(home), "--home"))
    assert is_whole(home)
    assert not [*home.glob("objects/snapshots/*")]
    subprocess.run(["mount", "-o", "remount,size=400m", str(home)], check=True)
    done = treadle("run", spec, home=home)
    assert done.code == 0, done.err
    assert is_whole(home)


def test_a_full_temporary_directory_is_said_and_named(mounted: Mount, tmp_path: Path) -> None:
    table, home = tmp_path / "customers.csv", tmp_path / "home"
    duckdb.sql(
        "SELECT hash(i) % 1000003 AS visits, hash(i + 7) / 1e9 AS spent, i % 2 AS churned "
        "FROM range(60000) t(i)"
    ).write_csv(str(table))
    place = mounted("size=300k")
    done = treadle("run", spec_of(tmp_path, str(table)), home=home, env={"TMPDIR": str(place)})
    print(refused(done, 1, "the disk is full", str(place), "TMPDIR"))
    assert is_whole(home)
    assert not [*place.iterdir()]


def test_a_home_without_an_inch_left_is_said(mounted: Mount, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, str(good(tmp_path / "customers.csv")))
    home = mounted("size=64k")
    with (home / "filler").open("wb", buffering=0) as filler:
        filler.write(bytes(1 << 20))  # as much of it as there is space for
    print(refused(treadle("run", spec, home=home), 1, "the disk is full", str(home), "--home"))


def test_a_home_that_is_a_file_is_said(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, str(good(tmp_path / "customers.csv")))
    home = tmp_path / "home"
    home.write_text("not a directory", encoding="utf-8")
    for arguments in (["run", spec], ["models"], ["predict", "customers", "x.csv"], ["serve"]):
        print(refused(treadle(*arguments, home=home), 1, str(home), "is a file", "--home"))
    assert home.read_text(encoding="utf-8") == "not a directory"


def test_a_second_run_of_a_model_in_a_home_is_refused(tmp_path: Path) -> None:
    spec = changed_spec("wine", tmp_path, {"training": {"trials": 2}})
    home, log = tmp_path / "home", tmp_path / "first.log"
    first = started("run", spec, home=home, log=log)
    try:
        wait_for(lambda: [*home.glob("runs/*/events.jsonl")], 30, "the first run is under way")
        print(refused(treadle("run", spec, home=home), 1, "another run of 'wine'", str(home)))
    finally:
        first.send_signal(signal.SIGINT)
        first.wait(60)
    assert first.returncode == 130, log.read_text()
    assert len([*home.glob("runs/*")]) == 1
    assert is_whole(home)


# --- init, predict, compile, models -------------------------------------------------------------


def test_init_never_writes_over_a_spec(tmp_path: Path) -> None:
    table, out = good(tmp_path / "customers.csv"), tmp_path / "customers.yaml"
    out.write_text("mine", encoding="utf-8")
    done = treadle("init", table, "--target", "churned", home=tmp_path / "home", cwd=tmp_path)
    print(refused(done, 2, "customers.yaml", "-o"))
    assert out.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("out", ["no/such/place.yaml", ".", "spec.txt"])
def test_init_into_a_place_that_isnt_there_is_misuse(out: str, tmp_path: Path) -> None:
    table = good(tmp_path / "customers.csv")
    done = treadle("init", table, "--target", "churned", "-o", out, home=tmp_path, cwd=tmp_path)
    print(refused(done, 2, out, "-o"))


@pytest.mark.parametrize("name", ["2013.csv", "Kunden Größe!.csv", "---.csv", "a" * 90 + ".csv"])
def test_init_makes_a_valid_name_of_any_file_name(name: str, tmp_path: Path) -> None:
    table, out = good(tmp_path / name), tmp_path / "out.yaml"
    done = treadle("init", table, "--target", "churned", "-o", out, home=tmp_path)
    assert done.code == 0, done.err
    compiled = treadle("compile", out, "-o", tmp_path / "ir.yaml", home=tmp_path)
    assert compiled.code == 0, compiled.err


def test_predict_names_what_it_doesnt_know(wine: Finished, tmp_path: Path) -> None:
    table = tmp_path / "more.csv"
    table.write_text("alcohol,malic_acid\n13.1,2.2\n", encoding="utf-8")
    broken = _ragged(tmp_path)
    for arguments, code, words in [
        (["wine", table], 1, ("more.csv", "ash", "wine reads", "it has alcohol, malic_acid")),
        (["wein", table], 1, ("'wein'", "wine")),
        (["wine", table, "-o", tmp_path / "out.xls"], 2, ("out.xls", ".csv", ".parquet")),
        (["wine", table, "-o", tmp_path / "no/out.csv"], 2, ("no/out.csv", "no directory")),
        (["wine", tmp_path / "mroe.csv"], 1, ("mroe.csv", "did you mean 'more.csv'?")),
        (["wine", broken, "-o", tmp_path / "out.csv"], 1, ("ragged.csv",)),
    ]:
        print(refused(treadle("predict", *arguments, home=wine.home), code, *words))
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_predict_refuses_a_table_that_breaks_off_and_leaves_no_output(
    wine: Finished, tmp_path: Path
) -> None:
    names = yaml.safe_load(wine.spec.read_text(encoding="utf-8"))["source"]["names"][:-1]
    line = ",".join(["1.5"] * len(names)) + "\n"
    table, out = tmp_path / "more.csv", tmp_path / "out.parquet"
    table.write_text(",".join(names) + "\n" + line * 60_000 + "1.5,1.5\n", encoding="utf-8")
    done = treadle("predict", "wine", table, "-o", out, home=wine.home)
    print(refused(done, 1, "more.csv", "line 60002"))
    assert [path.name for path in tmp_path.iterdir()] == ["more.csv"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-o", "no/such/ir.yaml"], ("no/such", "no directory")),
        (["-o", "ir.json"], ("ir.json", ".yaml")),
        (["-o", "ir.yaml", "--graph", "trainig"], ("'trainig'", "did you mean 'training'?")),
    ],
)
def test_compile_to_a_wrong_place_is_misuse(
    arguments: list[str], words: tuple[str, ...], tmp_path: Path
) -> None:
    spec = spec_of(tmp_path, "customers.csv")
    done = treadle("compile", spec, *arguments, home=tmp_path / "home", cwd=tmp_path)
    print(refused(done, 2, *words))
    assert [path.name for path in tmp_path.iterdir()] == ["customers.yaml"]


def test_asking_an_empty_home_says_how_to_fill_it_and_leaves_it_empty(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = treadle("models", home=home)
    assert done.code == 0
    assert "no models" in done.out
    assert "treadle run SPEC" in done.out
    assert treadle("models", "--json", home=home).json["models"] == []
    print(refused(treadle("models", "customers", home=home), 1, "'customers'", "none yet"))
    table = good(tmp_path / "customers.csv")
    done = treadle("predict", "customers", table, home=home)
    print(refused(done, 1, "'customers'", "none yet"))
    assert not [*home.rglob("*")]
