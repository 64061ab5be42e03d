"""Flights replayed through the loop's own look and decision, with and without faults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from parts.loop_champions import BEGIN, Trained, trained

from treadle import labels, metrics, predictions
from treadle.adapters.filesystem import DirectoryStore
from treadle.feedback import look
from treadle.feedback.decision import decide
from treadle.feedback.log import Logged
from treadle.feedback.look import Champion, Window
from treadle.feedback_spec import Feedback
from treadle.labels import Label
from treadle.monitoring import Counted, Monitoring, Verdict
from treadle.signature import read_frame

Frame = pd.DataFrame
Fault = Callable[[Frame, np.random.Generator], Frame]
TARGET, METRIC = "arr_delay", "mae"
SPLIT = {"split": "time", "split_column": "scheduled", "test_share": 0.25}
WINDOW_ROWS, LOOK_ROWS, MOST_DELAY = 8_000, 500, 3_000
OPTIONS = Feedback()


def learned(year: Frame, first: int, last: int, place: Path) -> Trained:
    """Learn from some months of the flights."""
    rows = pa.Table.from_pandas(of_months(year, first, last), preserve_index=False)
    return trained(rows, TARGET, METRIC, SPLIT, place)


def of_months(year: Frame, first: int, last: int) -> Frame:
    """Return the flights of some months."""
    month = year["scheduled"].dt.month
    return year[(month >= first) & (month <= last)].reset_index(drop=True)


@dataclass(frozen=True)
class Scenario:
    """A champion, rows that were looked at before, and rows that come now; from ``begin`` on they
    have the fault."""

    seed: int
    before: Frame
    coming: Frame
    fault: str | None = None
    begin: int = 0


def stable(held_out: Frame, seed: int) -> Scenario:
    """Days of a world that hasn't changed: whole days that training held out, drawn again."""
    random = np.random.default_rng(seed)
    return Scenario(seed, _days(held_out, WINDOW_ROWS, random),
                    _days(held_out, WINDOW_ROWS, random))  # fmt: skip


def faulty(held_out: Frame, seed: int) -> Scenario:
    """The same world, in which a fault begins within the first look."""
    random = np.random.default_rng(10_000 + seed)
    every = faults()
    name = list(every)[seed % len(every)]
    before = _days(held_out, WINDOW_ROWS // 2, random)
    begin = int(random.integers(0, LOOK_ROWS))
    clean = _days(held_out, begin, random)
    spoilt = every[name](_days(held_out, MOST_DELAY, random), random)
    return Scenario(seed, before, pd.concat([clean, spoilt], ignore_index=True), name, begin)


def _days(held_out: Frame, rows: int, random: np.random.Generator) -> Frame:
    days = list(held_out.groupby(held_out["scheduled"].dt.date).indices.values())
    picked: list[npt.NDArray[np.int64]] = [np.empty(0, dtype=np.int64)]
    while sum(map(len, picked)) < rows:
        picked.append(days[random.integers(len(days))])
    return held_out.iloc[np.concatenate(picked)[:rows]].reset_index(drop=True)


def faults() -> dict[str, Fault]:
    """Return what a source may do wrong, with its size."""
    found: dict[str, Fault] = {}
    for column in ("dep_delay", "carrier", "dest", "distance", "origin", "plane_year", "seats"):
        found[f"20 % of {column} is null"] = partial(_nulls, column)
    for words, column, factor, plus in (
        ("distance in km", "distance", 1.609, 0.0),
        ("dep_delay in seconds", "dep_delay", 60.0, 0.0),
        ("temp in Celsius", "temp", 5 / 9, -160 / 9),
        ("pressure in inches", "pressure", 0.02953, 0.0),
        ("plane_year of two digits", "plane_year", 1.0, -1900.0),
    ):
        found[words] = partial(_scaled, column, factor, plus)
    for column, value in (("carrier", "UA"), ("carrier", "EV"), ("origin", "EWR"),
                          ("manufacturer", "BOEING"), ("engine", "Turbo-fan")):  # fmt: skip
        found[f"{column} {value} renamed"] = partial(_renamed, column, value)
    for column, stuck in (("dep_delay", 0.0), ("carrier", "UA"), ("distance", 500.0)):
        found[f"{column} stuck at {stuck}"] = partial(_stuck, column, stuck)
    found["origin and dest swapped"] = _swapped
    return found


def _nulls(column: str, rows: Frame, random: np.random.Generator) -> Frame:
    return rows.assign(**{column: rows[column].mask(random.random(len(rows)) < 0.2)})


def _scaled(column: str, factor: float, plus: float, rows: Frame, _: object) -> Frame:
    return rows.assign(**{column: rows[column] * factor + plus})


def _renamed(column: str, value: str, rows: Frame, _: object) -> Frame:
    return rows.assign(**{column: rows[column].replace({value: f"{value} (new)"})})


def _stuck(column: str, value: object, rows: Frame, _: object) -> Frame:
    return rows.assign(**{column: value})


def _swapped(rows: Frame, _: object) -> Frame:
    return rows.assign(origin=rows["dest"], dest=rows["origin"])


def on_stable(champion: Champion, scenario: Scenario) -> Verdict:
    """Return the verdict on labelled rows of an unchanged world."""
    _, cells = looked(champion, scenario.before, {}, labelled=False)
    found, _ = looked(champion, scenario.coming, cells, labelled=True)
    return found.verdict


def until_caught(champion: Champion, scenario: Scenario) -> int | None:
    """Look every LOOK_ROWS rows, as the monitor would; return how many rows after its begin a fault
    was called an incident, None where it never was."""
    _, cells = looked(champion, scenario.before, {}, labelled=False)
    for end in range(LOOK_ROWS, len(scenario.coming) + 1, LOOK_ROWS):
        part = scenario.coming.iloc[end - LOOK_ROWS : end]
        found, now = looked(champion, part, cells, labelled=False)
        if found.verdict is Verdict.INCIDENT:
            return end - scenario.begin
        cells = now
    return None


def looked(
    champion: Champion, rows: Frame, cells: Mapping[str, Counted], *, labelled: bool
) -> tuple[Monitoring, dict[str, Counted]]:
    """Look at rows as at logged ones, with their labels or without; return what was decided, and
    what the next look compares with."""
    rows = rows.reset_index(drop=True)
    ids = [f"id-{n}" for n in range(len(rows))]
    with TemporaryDirectory() as place:
        store = DirectoryStore(Path(place))
        if labelled:
            sent = [Label(id_, value) for id_, value in zip(ids, rows[TARGET], strict=True)]
            signature = champion.bundle.signature
            now = BEGIN + timedelta(minutes=1)
            labels.deliver(champion.version.name, signature, sent, now, store)
        log = _logged(champion, rows, ids)
        seen, counts = look.look(champion, log, Window(cells=cells), "", store)
    return decide(seen, OPTIONS), counts


def _logged(champion: Champion, rows: Frame, ids: list[str]) -> Logged:
    """Return rows as the log would hold them."""
    bundle = champion.bundle
    columns, _ = read_frame(rows, bundle.signature)
    output = bundle.model.output(columns)
    at = np.arange(len(rows)) + int(BEGIN.timestamp() * 1e6)
    roles = ["champion"] * len(rows)
    batch = predictions.batch(
        bundle.signature, ids, at, 1, champion.version.digest, roles, columns, output
    )
    table = pa.Table.from_batches([batch]).drop_columns(["version", "digest", "role"])
    every = np.ones(len(rows), dtype=bool)
    return Logged(table, at, np.asarray(output, dtype=np.float64), every, [])


def over_the_year(year: Frame, scratch: Path) -> dict[str, object]:
    """Return the champion's error over March to December: never retrained, retrained where the loop
    decides so and its gate agrees, and retrained every month. Labels are a month late, so that what
    serves in a month has learned from the months up to the last but one."""
    made: dict[int, Trained] = {}

    def upto(month: int) -> Trained:
        if month not in made:
            made[month] = learned(year, 1, month, scratch / f"year-{month}")
        return made[month]

    errors: dict[str, list[float]] = {"off": [], "loop": [], "calendar": []}
    serving, retrained, verdicts = 2, [], []
    cells: dict[str, Counted] = {}
    counts: list[int] = []
    for month in range(3, 13):
        rows = of_months(year, month, month)
        counts.append(len(rows))
        if month - 2 > serving:
            known = of_months(year, month - 2, month - 2)
            found, now = looked(upto(serving).champion(METRIC), known, cells, labelled=True)
            if found.verdict is not Verdict.INCIDENT:
                cells = now
            verdicts.append(f"{month - 2}: {found.verdict.value}")
            if found.verdict is Verdict.RETRAIN and _passes(upto(month - 2), upto(serving)):
                serving, cells = month - 2, {}
                retrained.append(month)
        for name, last in (("off", 2), ("loop", serving), ("calendar", max(month - 2, 2))):
            errors[name].append(_error(upto(last), rows))
    totals = {name: float(np.average(values, weights=counts)) for name, values in errors.items()}
    return {**totals, "metric": METRIC, "loop retrained before months": retrained,
            "looks at months": verdicts, "retrainings by calendar": len(made) - 1}  # fmt: skip


def _output(model: Trained, rows: Frame) -> npt.NDArray[np.float64]:
    columns, _ = read_frame(rows, model.bundle.signature)
    return np.asarray(model.bundle.model.output(columns), dtype=np.float64)


def _error(model: Trained, rows: Frame) -> float:
    return float(np.abs(rows[TARGET].to_numpy(float) - _output(model, rows)).mean())


def _passes(challenger: Trained, champion: Trained) -> bool:
    """The gate: better on the rows that the challenger held out, beyond doubt."""
    rows = challenger.held_out
    answers = rows[TARGET].to_numpy(float)
    ours, theirs = (np.abs(answers - _output(each, rows)) for each in (challenger, champion))

    def gain(kept: npt.NDArray[np.int64]) -> float:
        return float((theirs[kept] - ours[kept]).mean())

    return gain(np.arange(len(rows))) > metrics.block_spread(gain, len(rows))
