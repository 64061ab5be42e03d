"""What benchmarks keep is read back, shown and guarded; documents say what was kept."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from documentation import figures
from documents import ROOT

BENCHMARKS = ROOT / "benchmarks"
MACHINE = {"cores": 2, "memory_gib": 24.0, "python": "3.11.7", "system": "Linux x86_64"}


@pytest.fixture
def every(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The harness, with a directory of results of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("all", "page", "results"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import importlib

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
