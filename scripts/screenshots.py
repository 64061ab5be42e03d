"""Take the pictures of the documentation from the real thing: ``make screenshots``.

Two examples are run, their models served and asked, one of them with values that have moved; then
the report, the server's page, the fleet and the exported page are photographed with Chromium.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow.parquet as pq
import yaml

from chromium import Page, browser

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
TREADLE = str(Path(sys.executable).with_name("treadle"))
WIDTH, HEIGHT = 1100, 760
# What moves in the data of the first example, so that the fleet has something to say.
MOVED = {"color_intensity": 1.6, "proline": 1.3}
PORT = 3917


def main() -> None:
    """Run, serve, ask, look, photograph."""
    with tempfile.TemporaryDirectory(prefix="treadle-pictures-") as scratch:
        place = Path(scratch)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
        environment |= {"TREADLE_HOME": str(place / "home"),
                        "TREADLE_PREDICTION_LOG_EVERY_S": "1"}  # fmt: skip
        treadle = partial(run, environment)
        reports = {}
        for example in ("wine", "breast_cancer"):
            told = treadle("run", spec_of(example, place), "--json")
            reports[example] = json.loads(told)["report"]
        treadle("export", "wine", "--to", "browser", "-o", place / "page")
        with serving(environment) as url, browser(place) as page:
            for model, snapshot in models(place / "home"):
                ask(url, model, snapshot, MOVED if model == "wine" else {})
            wait_for_log(place / "home")
            treadle("monitor", fine=(0, 3))
            photograph(page, f"file://{reports['breast_cancer']}", "report")
            photograph(page, url, "server", clicks=("tr:last-child button", "button.first"))
            photograph(page, f"{url}/monitor", "fleet", height=420)
            with files(place / "page") as address:
                photograph(page, address, "browser", clicks=("#form button",))


def spec_of(example: str, place: Path) -> Path:
    """Copy an example's spec, with a look at every hundred rows."""
    (source,) = (ROOT / "examples" / example).glob("*.yaml")
    spec = yaml.safe_load(source.read_text(encoding="utf-8"))
    path = place / source.name
    path.write_text(yaml.safe_dump(spec | {"feedback": {"min_rows": 100}}), encoding="utf-8")
    return path


def run(environment: dict[str, str], *arguments: object, fine: tuple[int, ...] = (0,)) -> str:
    """Run a command to its end."""
    command = [TREADLE, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode not in fine:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def models(home: Path) -> Iterator[tuple[str, Path]]:
    """Yield each model, and the table that it was made of."""
    for name in ("wine", "breast-cancer"):
        (lineage,) = [
            version["lineage"]
            for version in json.loads(
                run({**os.environ, "TREADLE_HOME": str(home)}, "models", name, "--json")
            )["versions"]
        ]
        digest = lineage["snapshot"]["digest"]
        yield name, home / "objects" / "snapshots" / digest / "data.parquet"


def ask(url: str, model: str, table: Path, moved: dict[str, float]) -> None:
    """Ask a model about the rows of a table, with some values moved."""
    rows = pq.read_table(table).to_pylist()
    for row in rows:
        for column, factor in moved.items():
            row[column] = row[column] * factor
    body = json.dumps({"rows": rows}, default=str).encode()
    request = urllib.request.Request(f"{url}/v1/models/{model}/predict", data=body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        answer.read()


def wait_for_log(home: Path) -> None:
    """Wait until the predictions of both models are in the log."""
    deadline = time.monotonic() + 60
    while len(list((home / "objects" / "predictions").glob("*/*/*/*.parquet"))) < 2:
        if time.monotonic() > deadline:
            sys.exit("the predictions never came into the log")
        time.sleep(0.5)


@contextmanager
def serving(environment: dict[str, str]) -> Iterator[str]:
    """Run a model server."""
    url = f"http://127.0.0.1:{PORT}"
    command = [TREADLE, "serve", "--port", str(PORT)]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("the server doesn't start")
            time.sleep(0.3)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def is_ready(url: str) -> bool:
    """Say whether a server answers."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except OSError:
        return False


@contextmanager
def files(directory: Path) -> Iterator[str]:
    """Serve a directory."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def photograph(
    page: Page, address: str, name: str, clicks: Sequence[str] = (), height: int = HEIGHT
) -> None:
    """Keep a picture of a page, once what it loads is there."""
    page.screen(WIDTH, height)
    page.open(address)
    for click in clicks:
        page.wait_for(f"!!document.querySelector({click!r})?.offsetParent")
        page.run(f"document.querySelector({click!r}).click()")
    time.sleep(2)
    path = PICTURES / f"{name}.webp"
    path.write_bytes(page.picture())
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
