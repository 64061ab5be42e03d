"""The exported page in a real Chromium, from a server that knows nothing but files."""

import csv
import functools
import http.server
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from chromium import CHROMIUM, Page, browser
from integration.conftest import Finished, copied, treadle, wait_for
from treadle import bundle as bundles
from treadle.adapters.filesystem import DirectoryStore
from treadle.answers import answers, same_answer
from treadle.bundle import Bundle
from treadle.signature import frame_of, read_frame

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runtime is kept, so that it is downloaded once for all."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def folder(wine: Finished, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page, exported once."""
    return exported(wine.home, tmp_path_factory.mktemp("exported") / "page", cache)


def exported(home: Path, out: Path, cache: Path, env: dict[str, str] | None = None) -> Path:
    kept = home / "cache/npm"
    kept.parent.mkdir(exist_ok=True)
    if not kept.exists():
        kept.symlink_to(cache, target_is_directory=True)
    done = treadle("export", "wine", "--to", "browser", "-o", out, home=home, env=env)
    if "can't be downloaded" in done.err:
        pytest.skip("no npm registry answers")
    assert done.code == 0, done.err
    assert "http.server" in done.out
    return out


class Asked(list[str]):
    """The paths that a server was asked for."""


@pytest.fixture
def served() -> Iterator[Any]:
    """Serves a folder, as any static server does; returns its address and what is asked of it."""
    running: list[http.server.ThreadingHTTPServer] = []

    def serve(folder: Path) -> tuple[str, Asked]:
        asked = Asked()

        class Files(http.server.SimpleHTTPRequestHandler):
            def log_request(self, *_: object) -> None:
                asked.append(f"{self.command} {self.path}")

        handler = functools.partial(Files, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/", asked

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


def opened(page: Page, url: str) -> str:
    """Open the page; return what it says once it knows."""
    page.run("window.former = true")  # whoever asks too early would be told of the page before
    page.open(url)
    page.wait_for("!window.former")
    script = (
        "document.querySelector('#state').className && document.querySelector('#state').innerText"
    )
    return str(page.wait_for(script))


def real_rows(home: Path) -> pa.Table:
    (path, *_) = sorted(home.glob("objects/snapshots/*/*.parquet"))
    return pq.read_table(path)


def drop(page: Page, name: str, text: str) -> None:
    """Give the page a file, as a person drops one."""
    page.run(
        "(() => { const given = new DataTransfer();"
        f"given.items.add(new File([{json.dumps(text)}], {json.dumps(name)}));"
        "const event = new DragEvent('drop', {dataTransfer: given, cancelable: true});"
        "document.querySelector('#scored').replaceChildren();"
        "document.dispatchEvent(event); })()"
    )
    page.wait_for("document.querySelector('#scored .button, #scored .bad') !== null")


def scored(page: Page) -> str:
    """What the page says of the table."""
    return str(page.run("document.querySelector('#scored').innerText"))


def downloaded(page: Page, button: int, folder: Path) -> list[dict[str, str]]:
    """Click a download; return its rows."""
    page.keep_downloads(folder)
    name = page.run(f"document.querySelectorAll('#scored .button')[{button}].download")
    page.run(f"document.querySelectorAll('#scored .button')[{button}].click()")
    path = folder / str(name)
    wait_for(lambda: path.exists() and path.stat().st_size, 20, f"{name} is downloaded")
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_answers_real_rows_as_the_server_does(
    wine: Finished, folder: Path, page: Page, served: Any, tmp_path: Path
) -> None:
    url, asked = served(folder)
    assert opened(page, url).startswith("ready")
    last = "[...document.querySelectorAll('#golden td:last-child')]"
    marks = page.run(f"{last}.map((cell) => cell.innerText)")
    assert set(marks) == {"✓ same"}
    table = real_rows(wine.home).drop_columns(["grower"])
    extra = table.append_column("note", pa.array(["x, y"] * table.num_rows))
    sink = pa.BufferOutputStream()
    pacsv.write_csv(extra, sink)
    text = sink.getvalue().to_pybytes().decode()
    broken = text + ",".join(["much", *[""] * (extra.num_columns - 1)]) + "\n"
    drop(page, "wines.csv", broken)
    said = scored(page)
    rows = f"{table.num_rows} predictions for wines.csv"
    for words in (rows, "ignored: note", "1 row doesn't fit and was set aside"):
        assert words in said
    bundle = Bundle.at(wine.home / "objects/bundles" / wine.summary["digest"])
    columns, _ = read_frame(frame_of(table), bundle.signature)
    wanted = answers(bundle.model.output(columns), bundle.signature)
    got = downloaded(page, 0, tmp_path / "downloads")
    assert len(got) == len(wanted)
    for row, answer in zip(got, wanted, strict=True):
        shares = {name: float(row[f"probability_{name}"]) for name in bundle.signature.classes}
        assert same_answer({"prediction": row["prediction"], "probabilities": shares}, answer)
    (reject,) = downloaded(page, 1, tmp_path / "downloads")
    assert reject["rejected_row"] == str(table.num_rows)
    assert "'much' is not a number" in reject["rejected_because"]
    # What was asked for are files of the page, and nothing was sent.
    assert {line.split()[0] for line in asked} == {"GET"}
    for line in asked:
        assert (folder / line.split()[1].lstrip("/")).exists(), line


def test_a_row_can_be_typed_and_faults_stand_beside_their_values(
    folder: Path, page: Page, served: Any
) -> None:
    opened(page, served(folder)[0])
    page.run("document.querySelector('#form button').click()")
    answer = page.wait_for("document.querySelector('#answer b')?.innerText")
    golden = json.loads((folder / "model/golden.json").read_text("utf-8"))
    assert answer == golden["answers"][-1]["prediction"]
    page.run("document.querySelector('#form input').value = 'much'")
    page.run("document.querySelector('#form button').click()")
    page.wait_for("document.querySelector('#answer .bad') !== null")
    assert "'much' is not a number" in page.run("document.querySelector('.fault small').innerText")
    drop(page, "other.csv", "a,b\n1,2\n")
    assert "lacks columns that the model reads" in scored(page)


def test_the_page_can_reach_nothing_but_its_own_files(
    folder: Path, page: Page, served: Any, tmp_path: Path
) -> None:
    opened(page, served(folder)[0])
    other, asked = served(tmp_path)
    page.run(
        "document.addEventListener('securitypolicyviolation',"
        " (event) => { window.violated = event.effectiveDirective; })"
    )
    page.run(f"void fetch({other!r} + 'x').catch(() => {{}})")
    assert page.wait_for("window.violated") == "connect-src"
    assert asked == []


def test_a_page_with_a_key_uses_what_it_signed_alone(
    wine: Finished, page: Page, served: Any, cache: Path, tmp_path: Path
) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    home = copied(wine, tmp_path)
    bundle = Bundle.at(home / "objects/bundles" / wine.summary["digest"])
    bundles.store_bundle(bundle, DirectoryStore(home / "objects"), key)
    folder = exported(home, tmp_path / "page", cache, env={"TREADLE_SIGNING_KEY": pem})
    url, _ = served(folder)
    assert opened(page, url).startswith("ready")
    assert "are signed with the key" in page.run("document.querySelector('#integrity').innerText")
    about = json.loads((folder / "model/about.json").read_text("utf-8"))
    later = time.time()
    for altered, words in (
        ({**about, "signature": about["signature"][:-6] + "AAAA=="}, "isn't signed with the key"),
        ({**about, "digest": "0" * 32}, "the files were altered"),
    ):
        (folder / "model/about.json").write_text(json.dumps(altered), encoding="utf-8")
        # HTTP knows a file's age in whole seconds.
        later += 10
        os.utime(folder / "model/about.json", (later, later))
        assert words in opened(page, url + f"?{words[:3].strip()}")
        assert page.run("document.querySelector('main').hidden") is True


def test_a_model_that_answers_otherwise_is_not_used(
    folder: Path, page: Page, served: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(folder, tmp_path / "page"))
    golden = folder / "model/golden.json"
    content = json.loads(golden.read_text("utf-8"))
    first = content["answers"][0]["probabilities"]
    first.update(dict.fromkeys(first, 0.5))
    golden.write_text(json.dumps(content), encoding="utf-8")
    about = json.loads((folder / "model/about.json").read_text("utf-8"))
    digest = Bundle.at(folder / "model").digest
    (folder / "model/about.json").write_text(json.dumps({**about, "digest": digest}), "utf-8")
    said = opened(page, served(folder)[0])
    assert "1 golden row is answered otherwise here" in said
