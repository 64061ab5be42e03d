"""What benchmarks keep is read back, shown and guarded; documents say what was kept."""

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from documentation import figures, whole
from documents import ROOT

BENCHMARKS = ROOT / "benchmarks"
MACHINE = {"cores": 2, "memory_gib": 24.0, "python": "3.11.7", "system": "Linux x86_64"}


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The harness, with a directory of results of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("all", "page", "results"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    harness = importlib.import_module("all")
    for module in ("all", "page"):
        monkeypatch.setattr(sys.modules[module], "RESULTS", tmp_path)
        monkeypatch.setitem(sys.modules, module, sys.modules[module])
    return harness


def keep(place: Path, name: str, at: str, **found: object) -> None:
    whole = {"benchmark": name, "at": at, "machine": MACHINE, **found}
    (place / f"{name}-{at[:10]}-{at[11:13]}0000.json").write_text(json.dumps(whole), "utf-8")


def test_every_benchmark_has_a_make_target_and_keeps_what_it_finds(every: ModuleType) -> None:
    known = every.programs()
    assert {
        "main-job",
        "tables",
        "tuning",
        "registry",
        "analysis",
        "serving",
        "edge",
        "scale",
        "whole",
    } <= set(known)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for program in known.values():
        assert f"benchmarks/{program.name}" in makefile


def test_ratios_are_read_in_every_form_that_they_are_kept_in(every: ModuleType) -> None:
    tables = {"ratios": [{"measure": "drift", "peer": "Evidently", "number": 50.0, "limit": 20.0,
                          "higher": True}]}  # fmt: skip
    serving = {"ratios": {"p99": {"number": 2.0, "wanted": 1.3, "holds": False}}}
    tuning = {"ratios": {"Optuna": 0.5, "joblib": None}, "limits": {"Optuna": 1.15}}
    registry = {"ratios": {"search": 4.0}, "peer": {"search": 8.0}, "limits": {"search": 200.0}}
    (drift,), (p99,), (optuna,), (search,) = map(every.ratios, (tables, serving, tuning, registry))
    assert (drift.name, drift.ahead, drift.holds) == ("drift vs Evidently", 50.0, True)
    assert (p99.ahead, p99.holds) == (0.5, False)
    assert (optuna.ahead, optuna.limit, optuna.holds) == (2.0, 1.15, True)
    assert (search.ahead, search.limit) == (4.0, None)


def test_a_ratio_that_got_worse_is_named_and_one_that_wavers_is_not(
    every: ModuleType, tmp_path: Path
) -> None:
    kept = {"peer": {"search": 1.0, "tag": 1.0}}
    keep(
        tmp_path, "reference-registry", "2026-01-01T00", ratios={"search": 4.0, "tag": 9.0}, **kept
    )
    keep(tmp_path, "registry", "2026-02-01T00", ratios={"search": 2.0, "tag": 7.0}, **kept)
    assert every.regressions("registry", every.newest("registry")) == ["search: 2.00, was 4.00"]


def test_the_page_shows_the_newest_run_of_each(every: ModuleType, tmp_path: Path) -> None:
    keep(tmp_path, "registry", "2026-02-01T00", ratios={"old": 2.0}, peer={})
    keep(tmp_path, "registry", "2026-02-02T00", ratios={"<new>": 3.0}, peer={},
         figures={"rollback, s": 6.0}, limits={"rollback, s": 5.0})  # fmt: skip
    found = every.newest("registry")
    html = every.page.write({"registry": (found, every.ratios(found))}).read_text(encoding="utf-8")
    assert "&lt;new&gt;" in html
    assert "old" not in html
    assert "<svg" in html
    assert "over" in html
    assert "http://localhost" not in html


def test_the_figures_in_the_documents_are_those_of_the_reference_runs() -> None:
    places = []
    for document in (ROOT / "docs").glob("*.md"):
        text = document.read_text(encoding="utf-8")
        places += re.findall(r"<!-- figures ([a-z-]+) -->", text)
        assert text == figures.filled(text), f"make figures: {document.name} says otherwise"
    assert set(places) <= set(figures.TABLES)
    assert len(places) >= 5


def test_a_peer_that_fails_is_told_and_the_others_go_on(
    every: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    bench = importlib.import_module("bench")
    script = """import sys
if "bad" in sys.argv:
    sys.exit("no disk")
print('{"seconds": 2, "cpu_s": 1}')
"""
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "work.py").write_text(script)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "peer", lambda name: sys.executable)
    racing = bench.Bench(tmp_path, full=False)
    sides = {"ours": bench.Side("work", "good", (), times=2),
             "theirs": bench.Side("work", "bad", (), environment="theirs", times=2)}  # fmt: skip
    runs = racing.race(sides)
    assert list(runs) == ["ours"]
    assert runs["ours"].spread_s == (2, 2)
    assert "no disk" in racing.failed["theirs"]
    assert capsys.readouterr().err.count("theirs failed, and is left out") == 1
    with pytest.raises(SystemExit, match="no disk"):
        racing.race({"ours": bench.Side("work", "bad", ())})


def test_a_peer_whose_environment_cannot_be_made_is_a_peer_that_fails(
    every: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bench = importlib.import_module("bench")
    (tmp_path / "peers").mkdir()
    (tmp_path / "peers" / "theirs.lock").write_text("no-such-package==0.0.0 --hash=sha256:00\n")
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr(bench, "PEERS", tmp_path / "environments")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(bench.PeerFailed, match=r"theirs\.lock can't be installed"):
        bench.peer("theirs")


def test_an_exponent_says_how_time_grows(every: ModuleType) -> None:
    growth = importlib.import_module("parts.whole_growth")
    assert growth.exponent([10, 100, 1000], [0.5, 5.0, 50.0]) == pytest.approx(1)
    assert growth.exponent([1, 10, 100], [3.0, 3.0, 3.0]) == pytest.approx(0)


def test_the_page_shows_how_time_grows_and_who_failed(every: ModuleType, tmp_path: Path) -> None:
    grown = {"of": "rows", "sizes": [1, 10], "seconds": [1.0, 9.0], "exponent": 0.954,
             "exponent_steady": 1.0}  # fmt: skip
    keep(tmp_path, "whole", "2026-02-01T00", growth={"reading": grown}, failed={"Prefect": "fell"})
    found = every.newest("whole")
    html = every.page.write({"whole": (found, [])}).read_text(encoding="utf-8")
    assert "How time grows" in html
    assert "because they failed: Prefect" in html


def test_the_tables_of_the_whole_say_medians_and_how_far_apart_the_runs_were() -> None:
    walk = {"run_s": 20.0, "answer_s": 2.0, "run_cpu_s": 30.0, "run_mib": 1500.0,
            "server_mib": 120.0, "rmse": 16.0}  # fmt: skip
    walks = [walk | {"run_s": seconds} for seconds in (20.0, 26.0, 21.0)]
    told = whole.path({"path": {"Treadle": walks, "Metaflow": [walk]}})
    assert "| raw tables to an answer | 23.0 s (22.0 to 28.0) | 22.0 s |" in told
    assert "| 1,500 MiB | 1,500 MiB |" in told
    many, one = {"Treadle": {"ms": 250.0}, "Kedro": {"ms": 0.62}}, {"Treadle": {"ms": 1250.0}}
    told = whole.steps({"steps": {"nothing": many, "imports": one}})
    assert "| nothing | 250.0 ms | 0.6 ms |" in told
    assert told.endswith("| 1250.0 ms |  |\n")
    grown = {"of": "models", "sizes": [1, 10_000], "seconds": [0.0005, 2.5], "exponent": 0.92,
             "exponent_steady": 1.0}  # fmt: skip
    told = whole.growth({"growth": {"asking": grown}})
    assert "| asking | 1 model: 0.5 ms | 10,000 models: 2.5 s | 0.92 | 1.00 |" in told
