"""Tables in a Postgres server of our own, where the machine has one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy

from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.outside import Outside
from treadle.config import Settings
from treadle.errors import DataError
from treadle.ingestion import snapshot
from treadle.spec import Source

ZONED = datetime(2024, 2, 29, 12, tzinfo=UTC)
NAIVE = datetime(2024, 2, 29, 12, 30, 0, 250)
CREATE = """
CREATE TYPE size AS ENUM ('S', 'M', 'L');
CREATE TABLE "Fälle" (
    id bigint, "größe" size, price numeric(10, 2), share double precision, ok boolean,
    day date, at timestamptz, clock timestamp, note text);
INSERT INTO "Fälle" VALUES
    (9007199254740993, 'L', 12.50, 0.1, true, '2024-02-29', '2024-02-29 13:00+01',
     '2024-02-29 12:30:00.00025', 'ж; "x"'),
    (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
CREATE TABLE many AS SELECT i, i * 0.5 AS half FROM generate_series(1, 70000) i;
CREATE ROLE clerk LOGIN PASSWORD 'secret';
"""
Take = Callable[..., pa.Table]


def _program(name: str) -> str | None:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([os.environ.get("PATH", ""), *map(str, places)])
    return shutil.which(name, path=path)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Starts a server that listens on a socket in a directory of its own; yields the directory."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("no Postgres server on this machine: initdb and pg_ctl are not found")
    user: list[str] = []
    if os.geteuid() == 0:  # Postgres doesn't run as root.
        if shutil.which("runuser") is None:
            pytest.skip("Postgres doesn't run as root, and there is no runuser")
        user = ["runuser", "-u", "nobody", "--"]
    # A socket's path must be short.
    with tempfile.TemporaryDirectory(prefix="treadle-pg-", dir="/tmp") as directory:
        if user:
            shutil.chown(directory, "nobody")
        yield from _running(Path(directory), initdb, pg_ctl, user)


def _running(place: Path, initdb: str, pg_ctl: str, user: list[str]) -> Iterator[str]:
    """Yield while the server runs; ``user`` is the command that becomes whom it runs as."""

    def run(*command: str) -> None:
        done = subprocess.run([*user, *command], cwd=place, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    data, log = str(place / "data"), str(place / "log")
    run(initdb, "-D", data, "-U", "owner", "-A", "trust", "--no-sync", "-E", "UTF8")
    (place / "data/pg_hba.conf").write_text(
        "local all owner trust\nlocal all all scram-sha-256\n", encoding="utf-8"
    )
    options = f"-k {place} -c listen_addresses= -c fsync=off"
    run(pg_ctl, "-D", data, "-l", log, "-o", options, "-w", "start")
    try:
        engine = sqlalchemy.create_engine(f"postgresql+psycopg://owner@/postgres?host={place}")
        with engine.begin() as connection:
            connection.exec_driver_sql(CREATE)
        engine.dispose()
        yield str(place)
    finally:
        run(pg_ctl, "-D", data, "-m", "immediate", "stop")


@pytest.fixture
def take(server: str, tmp_path: Path) -> Take:
    def run(query: str, user: str = "owner", password: str | None = None) -> pa.Table:
        source = Source.model_validate(
            {"path": f"postgresql://{user}@/postgres?host={server}", "query": query}
        )
        outside = Outside(Settings(home=tmp_path / "home", source_password=password))
        store = DirectoryStore(tmp_path / "objects")
        taken = snapshot.take(source, store, outside)
        return pq.read_table(store.local(taken.data_key))

    return run


def test_every_type_comes_as_it_is(take: Take) -> None:
    assert take("Fälle").to_pylist() == [
        {
            "id": 9007199254740993, "größe": "L", "price": Decimal("12.50"), "share": 0.1,
            "ok": True, "day": date(2024, 2, 29), "at": ZONED, "clock": NAIVE, "note": 'ж; "x"',
        },
        dict.fromkeys(
            ["id", "größe", "price", "share", "ok", "day", "at", "clock", "note"]
        ),
    ]  # fmt: skip


def test_many_rows_come_in_parts(take: Take) -> None:
    table = take("SELECT i, half FROM many ORDER BY i")
    assert table.num_rows == 70_000
    assert table["i"].to_pylist() == list(range(1, 70_001))
    assert table["half"][-1].as_py() == Decimal("35000.0")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT nothing FROM many", 'column "nothing" does not exist'),
        ("SELECT 1 / (i - 1) AS x FROM many", "division by zero"),
        ("mny", "no table 'mny'; did you mean 'many'"),
    ],
)
def test_a_query_that_cant_run_is_said(query: str, words: str, take: Take) -> None:
    with pytest.raises(DataError, match=words):
        take(query)


def test_who_may_not_read_is_told_and_a_password_is_never_shown(take: Take) -> None:
    with pytest.raises(DataError, match="permission denied for table many"):
        take("SELECT i FROM many", user="clerk", password="secret")
    with pytest.raises(DataError, match="password authentication failed") as refused:
        take("SELECT i FROM many", user="clerk", password="wrongword")
    assert "wrongword" not in str(refused.value)
