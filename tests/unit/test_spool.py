"""The prediction log's files on this machine's disk."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from serving_fakes import SIGNATURE, Running

from treadle.signature import encode_rows, row_encoder
from treadle_serving import shipping, spool
from treadle_serving.shipping import BrokenSegment, ShippingProcess
from treadle_serving.spool import Spool, Version

VERSION = Version("sum", 1, "d" * 32, SIGNATURE, {"x": [0.0, 8.0]})
ROWS = [{"x": 1.5, "y": None, "colour": "red"}, {"x": 2, "y": 1, "colour": 'a "b"\n\x00'}]
COLUMNS = encode_rows(ROWS, row_encoder(SIGNATURE))
OUTPUT = np.array([11.5, 3.0], dtype=np.float32)


def framed(read: Any = ROWS, role: str = "champion") -> spool.Frame:
    return spool.frame(SIGNATURE, role, True, ["a", "b"], read, OUTPUT)


def written(directory: Path, *frames: spool.Frame) -> Path:
    kept = Spool(directory)
    for frame in frames:
        kept.append(VERSION, frame)
    (segment,) = kept.waiting(0.0)
    kept.leave()
    return segment.path


def test_what_is_appended_is_read_back(tmp_path: Path) -> None:
    as_rows, as_columns = spool.answers(written(tmp_path, framed(), framed(COLUMNS, "pinned")))
    assert (as_rows.read, as_rows.role, as_rows.ids) == (ROWS, "champion", ["a", "b"])
    assert as_columns.role == "pinned"
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(as_columns.read[name], column)  # type: ignore[call-overload]
    np.testing.assert_array_equal(as_columns.output, OUTPUT)
    assert as_rows.version.signature == SIGNATURE


@given(cut=st.integers(0, 2000))
def test_a_segment_that_breaks_off_holds_all_that_is_whole(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = written(tmp_path_factory.mktemp("spool"), *[framed()] * 4)
    whole = path.stat().st_size
    one = (whole - written(tmp_path_factory.mktemp("spool"), framed()).stat().st_size) // 3
    os.truncate(path, max(0, whole - cut))
    assert len(list(spool.answers(path))) == max(0, 4 - -(-cut // one))


def test_the_segments_of_a_process_that_is_gone_are_adopted_and_those_of_one_that_lives_are_not(
    tmp_path: Path,
) -> None:
    left = written(tmp_path, framed())
    mine, other = Spool(tmp_path), Spool(tmp_path)
    mine.append(VERSION, framed())
    other.adopt()
    (adopted,) = other.waiting(0.0)
    assert adopted.path == left
    mine.adopt()
    assert [segment.path for segment in mine.waiting(60.0)] == []
    other.stored(adopted)
    assert not left.exists()
    mine.leave()
    other.leave()


def test_a_full_spool_takes_no_more_until_something_is_stored(tmp_path: Path) -> None:
    kept = Spool(tmp_path, most_bytes=1)
    kept.append(VERSION, framed())
    (segment,) = kept.waiting(0.0)
    with pytest.raises(OSError, match="wait to be stored already"):
        kept.append(VERSION, framed())
    kept.stored(segment)
    kept.append(VERSION, framed())
    kept.leave()


def test_shipping_twice_stores_every_row_once(tmp_path: Path) -> None:
    running = Running(tmp_path)
    path = written(tmp_path / "spool", framed(), framed(COLUMNS))
    shipped = [shipping.ship(path, running.store) for _ in range(2)]
    assert [done.rows for done in shipped] == [4, 4]
    assert shipped[0].nulls["sum"]["y"] == 2
    assert len(list(running.store.keys("predictions/sum"))) == 1


def test_a_segment_that_nobody_wrote_is_set_aside_and_the_log_goes_on(tmp_path: Path) -> None:
    running = Running(tmp_path)
    path = written(tmp_path / "spool", framed())
    content = bytearray(path.read_bytes())
    content[300:] = os.urandom(len(content) - 300)
    content[30:60] = b"{" * 30
    path.write_bytes(content)
    with pytest.raises(BrokenSegment, match="can't be read"):
        shipping.ship(path, running.store)
    running.predict({"x": 1, "y": 2})
    running.app.log.start()
    running.app.log.stop()
    assert path.with_suffix(".broken").exists()
    assert len(list(running.store.keys("predictions/sum"))) == 1


def test_with_the_disk_full_requests_are_answered_and_what_is_not_logged_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = Running(tmp_path)
    running.predict({"x": 1, "y": 2})
    real = os.write

    def full(fd: int, content: Any) -> int:
        if len(content) > 40:
            return real(fd, bytes(content)[:40])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(spool.os, "write", full)
    assert running.predict({"x": 1, "y": 2}) == [3.0]
    monkeypatch.setattr(spool.os, "write", lambda fd, content: full(fd, b""))
    assert running.predict({"x": 1, "y": 2}) == [3.0]
    state = running.get("/readyz").json()
    assert "No space left on device" in state["wrong"]["prediction_log"]
    assert 'log_rows_total{outcome="dropped"} 2.0' in running.get("/metrics").text
    monkeypatch.setattr(spool.os, "write", real)
    running.predict({"x": 1, "y": 2})
    assert running.get("/readyz").json()["wrong"] == {}
    running.app.log.start()
    running.app.log.stop()
    assert 'log_rows_total{outcome="written"} 2.0' in running.get("/metrics").text


def test_a_proof_is_answered_by_the_champion_and_not_logged(tmp_path: Path) -> None:
    running = Running(tmp_path)
    asked = {"json": {"rows": [{"x": 1, "y": 2}]}, "headers": {"x-treadle-proof": "1"}}
    assert running.post("/v1/models/sum/predict", **asked).status_code == 200
    running.app.log.start()
    running.app.log.stop()
    assert list(running.store.keys("predictions")) == []
    assert 'role="proof"' in running.get("/metrics").text


def test_another_process_ships_and_is_started_again_when_it_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TREADLE_HOME", str(tmp_path))
    process = ShippingProcess()
    path = written(tmp_path / "spool", framed())
    assert process(path).rows == 2
    assert process._process is not None
    process._process.kill()
    process._process.wait()
    assert process(path).rows == 2
    process.end()
    assert list((tmp_path / "objects/predictions/sum").rglob("*.parquet"))


def test_what_a_killed_process_has_appended_is_there(tmp_path: Path) -> None:
    program = f"""if True:
        import os, signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_spool import Spool, VERSION, framed
        kept = Spool(Path({str(tmp_path)!r}))
        for _ in range(5):
            kept.append(VERSION, framed())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=False)
    kept = Spool(tmp_path)
    kept.adopt()
    (segment,) = kept.waiting(0.0)
    assert len(list(spool.answers(segment.path))) == 5
    kept.leave()
