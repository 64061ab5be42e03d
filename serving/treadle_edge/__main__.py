"""The command line on a device. Results go to stdout, faults to stderr; exit code 0: done, 1:
failed, 2: misuse."""

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

# One thread is enough; more of them only take memory.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from treadle.errors import DataError, EnvironmentFault, SpecError, TreadleError
from treadle_edge.device import Device, in_words
from treadle_edge.settings import Settings


def main() -> int:
    """Run a command; return its exit code."""
    given = _arguments()
    try:
        settings = Settings.read(given.root)
        return int(given.command(Device(given.root), settings, given) or 0)
    except TreadleError as error:
        print(f"treadle-edge: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"treadle-edge: {in_words(error, given.root)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="treadle-edge", description="Runs a model here.")
    parser.add_argument(
        "--root", type=Path, default=Path.cwd(), help="the folder that treadle export made"
    )
    commands = parser.add_subparsers(required=True, metavar="predict | serve | update | status")
    predicts = commands.add_parser("predict", help='answer {"rows": [...]}, from a file or stdin')
    predicts.add_argument("file", nargs="?", default="-")
    predicts.set_defaults(command=predict)
    serves = commands.add_parser("serve", help="answer over HTTP")
    serves.add_argument("--host", default="127.0.0.1")
    serves.add_argument("--port", type=int, default=3000)
    serves.add_argument("--update-every", type=float, default=0, metavar="SECONDS",
                        help="follow the champion; 0: don't")  # fmt: skip
    serves.set_defaults(command=serve)
    updates = commands.add_parser("update", help="install the champion, if it is another one")
    updates.add_argument("--again", action="store_true", help="also one that was refused here")
    updates.set_defaults(command=update)
    commands.add_parser("status", help="which model answers, and is it good").set_defaults(
        command=status
    )
    return parser.parse_args()


def predict(device: Device, settings: Settings, given: argparse.Namespace) -> None:
    """Answer rows."""
    from treadle_edge.server import rows_of

    try:
        body = sys.stdin.buffer.read() if given.file == "-" else Path(given.file).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"there is no file {given.file}") from error
    rows = rows_of(body)
    model = device.opened(settings.key)
    _print(model.answer(rows))


def serve(device: Device, settings: Settings, given: argparse.Namespace) -> None:
    """Answer over HTTP until the system says stop."""
    from treadle_edge import server

    if not 0 <= given.port < 65536:
        raise SpecError(f"--port {given.port} is no port: choose one from 1 to 65535")
    current = server.Current(device, settings.key)
    try:
        running = server.Server((given.host, given.port), current)
    except OSError as error:
        words = f"can't listen on {given.host} port {given.port}: {error.strerror or error}"
        raise EnvironmentFault(words) from error
    ended = threading.Event()
    server.every(server.LOOK_EVERY_S, current.follow, ended)
    if given.update_every > 0:
        server.every(given.update_every, lambda: server.update_beside(str(device.root)), ended)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: threading.Thread(target=running.shutdown).start())
    host, port = running.server_address[:2]
    print(f"http://{host!s}:{port}", flush=True)
    with running:
        running.serve_forever(poll_interval=0.2)
        ended.set()
        running.drain(5)


def update(device: Device, settings: Settings, given: argparse.Namespace) -> None:
    """Install the champion, if it is another one."""
    from treadle_edge import updating

    _print(updating.update(device, settings, given.again))


def status(device: Device, settings: Settings, given: argparse.Namespace) -> None:
    """Say which model answers; raises where none is good."""
    model = device.opened(settings.key)
    state = device.state()
    _print({**model.identity, "previous": state.previous, "refused": state.refused,
            "source": settings.source, "signed": settings.key is not None})  # fmt: skip


def _print(content: dict[str, Any]) -> None:
    print(json.dumps(content, ensure_ascii=False))


if __name__ == "__main__":
    sys.exit(main())
