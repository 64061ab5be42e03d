"""A device's folder, installed and run as on a device: its size on disk and in memory.

    make bench-edge [ARGUMENTS="--home DIR"]

Without ``--home`` the flights example is trained first. Needs a package index: what is measured is
what ``install`` leaves.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import results
from serving import rebuilt, trained

from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.mlflow_sqlite import SqliteMlflowRegistry
from treadle.adapters.model_server import free_port
from treadle.bundle import Bundle
from treadle.deployment import announcement

MOST_INSTALLED_MB = 120
MOST_RESIDENT_MB = 80
REQUESTS = 2_000
MEGABYTE = 10**6


def main() -> int:
    """Measure, print a line a figure, keep the JSON; 1 where a limit isn't held."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        home = given.home or trained(Path(scratch))
        place = Path(shutil.copytree(home, Path(scratch) / "home", symlinks=True))
        figures = measured(place, Path(scratch) / "device")
    for name, (value, most) in figures.items():
        over = most is not None and value > most
        print(f"{name}: {value:.1f}" + (f"   NOT HELD (limit {most})" if over else ""))
    print(f"kept as {results.keep('edge', {'figures': figures})}")
    return int(any(most is not None and value > most for value, most in figures.values()))


Figures = dict[str, tuple[float, float | None]]


def measured(home: Path, folder: Path) -> Figures:
    """Return every figure, and its limit."""
    command = [Path(sys.executable).with_name("treadle"), "export", "flights", "--to", "edge"]
    subprocess.run([*command, "-o", folder, "--home", home], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([folder / "install"], check=True, stdout=subprocess.DEVNULL)
    packages = sum(p.stat().st_size for p in (folder / ".venv").rglob("*") if is_own(p))
    port = free_port()
    process = subprocess.Popen(
        [folder / "treadle-edge", "serve", "--port", str(port), "--update-every", "0.5"],
        stdout=subprocess.DEVNULL,
    )
    try:
        return {
            "installed packages, MB": (packages / MEGABYTE, MOST_INSTALLED_MB),
            **asked(f"http://127.0.0.1:{port}", psutil.Process(process.pid), home, folder),
        }
    finally:
        process.terminate()
        process.wait(timeout=20)


def is_own(path: Path) -> bool:
    """Say whether a path is a file of the environment: its Python is the system's."""
    return path.is_file() and not path.is_symlink()


def asked(url: str, process: psutil.Process, home: Path, folder: Path) -> Figures:
    """Ask the endpoint, swap its model, ask again; return times and memory."""
    (golden,) = folder.glob("models/*/golden.json")
    rows = json.loads(golden.read_text(encoding="utf-8"))["rows"]
    deadline = time.monotonic() + 30
    while not answers(url):
        assert time.monotonic() < deadline, "the device doesn't answer"
        time.sleep(0.1)
    begin = process.memory_info().rss
    first = post(url, rows[:1])
    started = time.perf_counter()
    for _ in range(REQUESTS):
        post(url, rows[:1])
    one_row_ms = 1000 * (time.perf_counter() - started) / REQUESTS
    many = (rows * 125)[:1000]
    started = time.perf_counter()
    post(url, many)
    thousand_rows_ms = 1000 * (time.perf_counter() - started)
    after = process.memory_info().rss
    swap(home, first["digest"])
    while post(url, rows[:1])["digest"] == first["digest"]:
        assert time.monotonic() < deadline + 60, "the device doesn't follow"
        time.sleep(0.1)
    post(url, many)
    swapped = process.memory_info().rss
    return {
        "resident at the start, MB": (begin / MEGABYTE, MOST_RESIDENT_MB),
        f"resident after {REQUESTS:,} requests, MB": (after / MEGABYTE, MOST_RESIDENT_MB),
        "resident after another model was taken, MB": (swapped / MEGABYTE, MOST_RESIDENT_MB),
        "one row over HTTP, ms": (one_row_ms, None),
        "1,000 rows over HTTP, ms": (thousand_rows_ms, None),
    }


def swap(home: Path, digest: str) -> None:
    """Make a rebuilt version of the model the champion."""
    registry = SqliteMlflowRegistry(home / "mlflow.db", home / "mlflow-artifacts")
    champion = registry.aliased("flights", "champion")
    assert champion is not None
    registry.set_alias("flights", "champion", rebuilt(home, registry, champion))
    store = DirectoryStore(home / "objects")

    def fetch(wanted: str) -> Bundle:
        return Bundle.fetch(wanted, store, verify_key=None)

    announcement.announce("flights", registry, store, fetch, None)


def answers(url: str) -> bool:
    """Say whether the endpoint is up."""
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2):  # noqa: S310 - our own
            return True
    except OSError:
        return False


def post(url: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """POST rows."""
    body = json.dumps({"rows": rows}).encode()
    with urllib.request.urlopen(f"{url}/predict", body, 30) as answer:  # noqa: S310 - our own
        return dict(json.load(answer))


if __name__ == "__main__":
    os.environ.pop("TREADLE_HOME", None)
    sys.exit(main())
