"""A real browser: headless Chromium, driven over its DevTools protocol."""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--remote-debugging-port=0", "--remote-allow-origins=*",
]  # fmt: skip


class Page:
    """An open page."""

    def __init__(self, address: str) -> None:
        self._socket = websocket.create_connection(address, timeout=20)
        self._numbers = itertools.count(1)

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def size(self, width: int, height: int) -> None:
        """Be a phone with a screen of that many pixels."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=True)  # fmt: skip

    def screen(self, width: int, height: int) -> None:
        """Be a window of that many pixels."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)  # fmt: skip

    def picture(self) -> bytes:
        """Return what is seen, as WebP."""
        found = self._ask("Page.captureScreenshot", format="webp", quality=75)
        return base64.b64decode(found["data"])

    def open(self, url: str) -> None:
        """Go to an address."""
        self._ask("Page.navigate", url=url)
        self.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Evaluate an expression in the page."""
        found = self._ask("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30) -> Any:
        """Evaluate an expression until it is true; return what it is then."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := self.run(script):
                return found
            time.sleep(0.1)
        raise AssertionError(
            f"never true: {script}; the page: {self.run('document.body.innerText')}"
        )

    def keep_downloads(self, directory: Path) -> None:
        """Put what is downloaded into a directory."""
        directory.mkdir(exist_ok=True)
        self._ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(directory))

    def close(self) -> None:
        """Let go of the page."""
        self._socket.close()


@contextmanager
def browser(directory: Path) -> Iterator[Page]:
    """Run Chromium with a profile of its own; yield its one page."""
    assert CHROMIUM is not None
    profile = directory / "chromium"
    process = subprocess.Popen(
        [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        page = Page(_address(profile / "DevToolsActivePort"))
        yield page
        page.close()
    finally:
        process.terminate()
        process.wait(timeout=20)


def _address(port_file: Path) -> str:
    deadline = time.monotonic() + 60
    while not (port_file.exists() and port_file.read_text().count("\n")):
        assert time.monotonic() < deadline, "Chromium didn't start"
        time.sleep(0.1)
    port = port_file.read_text().splitlines()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
        pages = [found for found in json.load(answer) if found["type"] == "page"]
    return str(pages[0]["webSocketDebuggerUrl"])
