"""A table larger than what is allowed of memory goes through: what is held doesn't grow with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

ROWS = """
SELECT i AS id, hash(i) % 100000 / 100 AS amount, 'shop ' || hash(i + 3) % 1000 AS shop,
  hash(i + 4) % 3 = 0 AS member, TIMESTAMP '2020-01-01' + INTERVAL (hash(i) % 10000000) SECOND
    AS at,
  CASE WHEN i % 7 > 0 THEN md5(i::VARCHAR) END AS code
FROM range({rows}) t(i)
"""
PROGRAM = """
import json, sys
from pathlib import Path
from treadle.adapters.filesystem import DirectoryStore
from treadle.ingestion import snapshot
from treadle.kinds import kinds_of
from treadle.profile import profile
from treadle.snapshots import schema_of
from treadle.spec import Source

store = DirectoryStore(Path(sys.argv[2]))
taken = snapshot.take(Source.model_validate(sys.argv[1]), store)
path = store.local(taken.data_key)
print(json.dumps({c.name: c.nulls for c in profile(path, kinds_of(schema_of(path), {})).columns}))
"""


def _peak_mib(rows: int, place: Path) -> float:
    """Read and profile a CSV of so many rows in a process of its own; return its peak memory."""
    table = place / f"{rows}.csv"
    duckdb.sql(ROWS.format(rows=rows)).write_csv(str(table))
    out = place / f"{rows}.json"
    with out.open("w") as answer:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(table), str(place / "objects")], stdout=answer
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    nulls = dict.fromkeys(["id", "amount", "shop", "member", "at"], 0) | {"code": -(-rows // 7)}
    assert json.loads(out.read_text()) == nulls
    table.unlink()
    return used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="memory of a process can't be told here")
def test_memory_doesnt_grow_with_the_rows_of_a_csv(tmp_path: Path) -> None:
    # The larger one has 190 MB; pandas takes 600 MiB more for it.
    few, many = (_peak_mib(rows, tmp_path) for rows in (600_000, 1_800_000))
    assert many < few + 100
