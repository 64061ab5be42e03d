"""Profile and validation of a table beside pandera, Great Expectations and ydata-profiling, and
drift beside Evidently, each from the same Parquet file, imports left out.

Ours is the whole gate as the pipeline runs it, in its first and only run in a process: the profile,
the spec's rules, the champion's schema, drift of every column, leaks, the quarantine, and its page.
Great Expectations checks what the gate holds against the champion's table, as its tutorial has it:
a context, a suite, a batch that is validated. By column these are the type, nulls, distinct values,
range, mean, quantiles and histogram of numbers, the values and their shares of categories with few,
the length and the commonest value of those with many. ydata-profiling's report is computed and not
drawn; it checks nothing. It comes twice: as it comes (with correlations and interactions, which we
don't have), and its minimal one. pandera checks types, nulls, ranges and the values of categories
with few, and profiles nothing.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench import Bench, Clock, Ratio, Side, times_faster, times_slower, work

VALIDATION_FASTER, DRIFT_FASTER, AS_FAST = 10.0, 20.0, 1.0
LARGE = 10_000_000
FEW = 40


def measure(bench: Bench) -> Iterator[Ratio]:
    """Flights against every peer; 10 million generated rows against pandera, and in the large size
    against all."""
    flights, target = bench.flights_parquet("arr_delay IS NOT NULL"), "arr_delay"
    halves = [bench.flights_parquet(f"month {sign} 6") for sign in ("<=", ">")]
    yield from _validation(bench, "flights", flights, target, 5, peers=_CHECKERS)
    yield from _drift(bench, "flights", *halves, times=5)
    large = bench.generated_parquet(LARGE)
    # Its report as it comes needs more memory than 10 million rows leave.
    some = {name: limit for name, limit in _CHECKERS.items() if name != "ydata-profiling"}
    few = some if bench.full else {"pandera": AS_FAST}
    yield from _validation(bench, "10 million rows", large, "score", 3, peers=few)
    if bench.full:
        later = bench.generated_parquet(LARGE, seed=7)
        yield from _drift(bench, "10 million rows", large, later, times=1)


_CHECKERS = {
    "pandera": AS_FAST,
    "great-expectations": VALIDATION_FASTER,
    "ydata-profiling": VALIDATION_FASTER,
    "ydata-profiling, minimal": 0.0,
}


def _validation(
    bench: Bench, data: str, table: Path, target: str, times: int, peers: dict[str, float]
) -> Iterator[Ratio]:
    facts = _facts(table, target)
    sides = {"ours": Side("checks", "validate", (table, target, facts), times=times)}
    for name in peers:
        # Of what takes half a minute, one time is enough.
        often = 1 if name == "ydata-profiling" else times
        sides[name] = Side("checks", name, (table, facts), name.partition(",")[0], often)
    runs = bench.race(sides)
    for name, limit in peers.items():
        if name not in runs:
            continue
        measure = f"profile and validation, {data}"
        if name == "pandera":
            yield times_slower(measure, runs["ours"], "pandera's checks alone", runs[name], limit)
        else:
            yield times_faster(measure, runs["ours"], name, runs[name], limit)


def _drift(bench: Bench, data: str, was: Path, now: Path, times: int) -> Iterator[Ratio]:
    runs = bench.race(
        {
            "evidently": Side("checks", "evidently", (was, now), "evidently"),
            "drift": Side("checks", "drift", (was, now), times=times),
            "whole": Side("checks", "profile_and_drift", (was, now), times=times),
        }
    )
    if (theirs := runs.get("evidently")) is None:
        return
    yield times_faster(f"drift, {data}", runs["drift"], "evidently", theirs, DRIFT_FASTER)
    measure = f"drift and the reference's profile, {data}"
    yield times_faster(measure, runs["whole"], "evidently", theirs, DRIFT_FASTER)


def _facts(table: Path, target: str) -> Path:
    """Write what holds of a table, for everyone to check: by column its nulls, range, values and
    how they are spread."""
    import pyarrow.parquet as pq

    from treadle.kinds import kinds_of
    from treadle.profile import profile

    facts = {}
    for column in profile(table, kinds_of(pq.read_schema(table), {})).columns:
        fact: dict[str, object] = {"null_share": column.null_share, "distinct": column.distinct}
        if column.kind == "number":
            fact |= {"range": (column.minimum, column.maximum), "mean": column.mean}
            fact |= {"quantiles": column.quantiles, "edges": column.edges, "counts": column.counts}
        elif column.distinct <= FEW and column.kind == "category":
            fact["values"] = {share.value: share.count for share in column.top}
        elif column.lengths:
            fact["lengths"] = (column.lengths.shortest, column.lengths.longest)
            fact["commonest"] = column.top[0].value
        facts[column.name] = fact
    facts.pop(target)
    path = table.with_suffix(".facts.json")
    path.write_text(json.dumps(facts))
    return path


# Treadle


def validate(table: str, target: str, facts: str) -> None:
    """The whole gate: the same rules, the profile, drift from the champion's table, leaks."""
    from treadle import snapshots
    from treadle.adapters.filesystem import DirectoryStore
    from treadle.kinds import kinds_of
    from treadle.profile import profile
    from treadle.records import Column, Snapshot
    from treadle.spec import Validation
    from treadle.validation import gate, page
    from treadle.validation.schema import Known

    schema = snapshots.schema_of(Path(table))
    known = profile(Path(table), kinds_of(schema, {}))
    rules = {}
    for name, fact in json.loads(Path(facts).read_text()).items():
        low, high = fact.get("range", (None, None))
        rules[name] = {
            "kind": kinds_of(schema, {})[name],
            "required": fact["null_share"] == 0,
            "minimum": low,
            "maximum": high,
            "allowed": list(fact["values"]) if "values" in fact else None,
        }
    options = Validation.model_validate({"columns": rules})
    with TemporaryDirectory(prefix="treadle-bench-") as place:
        store = DirectoryStore(Path(place))
        columns = [Column(name=field.name, type=str(field.type)) for field in schema]
        taken = Snapshot(digest="0", rows=known.rows, columns=columns, size_bytes=0, source=table)
        store.put_file(taken.data_key, Path(table))
        champion, aside = Known(known, frozenset(rules)), Path(place) / "aside"
        with Clock():
            found = gate.run(taken, target, options, champion, store, aside)
            page.render(found, taken.rows, target)
    assert not found.quarantined, found.quarantined


def drift(was: str, now: str) -> None:
    """Drift of every column from a profile, as a model carries one."""
    from treadle.profile import profile

    kinds = _kinds(was)
    reference = profile(Path(was), kinds)
    with Clock():
        _compare(reference, now)


def profile_and_drift(was: str, now: str) -> None:
    """Drift of every column between two files."""
    from treadle import drift  # noqa: F401 - an import isn't timed
    from treadle.profile import profile

    kinds = _kinds(was)
    with Clock():
        _compare(profile(Path(was), kinds), now)


def _kinds(table: str) -> Any:
    import pyarrow.parquet as pq

    from treadle.kinds import kinds_of

    return kinds_of(pq.read_schema(table), {})


def _compare(reference: Any, now: str) -> None:
    from treadle.drift import compare_profiled
    from treadle.profile import profile_and_count

    kinds = {column.name: column.kind for column in reference.columns}
    seen = profile_and_count(Path(now), kinds, reference.columns)
    found = compare_profiled(Path(now), reference.columns, seen.profile, seen.counted)
    assert len(found) == sum(kind != "time" for kind in kinds.values())


# The others


def pandera(table: str, facts: str) -> None:
    """A schema of the same facts, held against the whole frame, every failure asked for."""
    import pandas as pd
    import pandera.pandas as pa

    known = json.loads(Path(facts).read_text())
    types = pd.read_parquet(table).dtypes
    columns = {}
    for name, fact in known.items():
        checks = []
        if "range" in fact:
            checks.append(pa.Check.in_range(*fact["range"]))
        if "values" in fact:
            checks.append(pa.Check.isin(list(fact["values"])))
        columns[name] = pa.Column(types[name], checks, nullable=fact["null_share"] > 0)
    schema = pa.DataFrameSchema(columns)
    with Clock():
        schema.validate(pd.read_parquet(table), lazy=True)


def great_expectations(table: str, facts: str) -> None:
    """A suite of the same facts."""
    import great_expectations as gx
    import pandas as pd

    known, types = json.loads(Path(facts).read_text()), pd.read_parquet(table).dtypes
    with Clock():
        context = gx.get_context(mode="ephemeral")
        suite = context.suites.add(gx.ExpectationSuite(name="facts"))
        for expectation in _suite(gx.expectations, known, types):
            suite.add_expectation(expectation)
        source = context.data_sources.add_pandas("pandas")
        whole = source.add_dataframe_asset("table").add_batch_definition_whole_dataframe("whole")
        batch = whole.get_batch(batch_parameters={"dataframe": pd.read_parquet(table)})
        # Not by a checkpoint, which stores results: numpy's booleans among them stop its JSON.
        found = batch.validate(suite)
    broken = [r for r in found.results if r.exception_info.get("raised_exception")]
    assert not broken, broken[0]


def _suite(expect: Any, known: dict[str, Any], types: Any) -> Iterator[object]:
    for name, fact in known.items():
        yield expect.ExpectColumnValuesToBeOfType(column=name, type_=types[name].name)
        yield from _expectations(expect, name, fact)
    yield expect.ExpectTableColumnsToMatchOrderedList(column_list=list(types.index))


def _expectations(expect: Any, name: str, fact: dict[str, Any]) -> Iterator[object]:
    """What holds of one column, with some room where a number isn't exact."""
    full = 1 - fact["null_share"]
    yield expect.ExpectColumnValuesToNotBeNull(column=name, mostly=max(full - 0.01, 0))
    few, many = 0.9 * fact["distinct"], 1.1 * fact["distinct"]
    count = expect.ExpectColumnUniqueValueCountToBeBetween
    yield count(column=name, min_value=int(few), max_value=int(many) + 1)
    diverges = expect.ExpectColumnKLDivergenceToBeLessThan
    if "values" in fact:
        values = list(fact["values"])
        yield expect.ExpectColumnValuesToBeInSet(column=name, value_set=values)
        shares = {"values": values, "weights": _shares(fact["values"].values())}
        yield diverges(column=name, partition_object=shares, threshold=0.1)
    if "lengths" in fact:
        low, high = fact["lengths"]
        yield expect.ExpectColumnValueLengthsToBeBetween(column=name, min_value=low, max_value=high)
        commonest = expect.ExpectColumnMostCommonValueToBeInSet
        yield commonest(column=name, value_set=[fact["commonest"]], ties_okay=True)
    if "range" in fact:
        low, high = fact["range"]
        yield expect.ExpectColumnValuesToBeBetween(column=name, min_value=low, max_value=high)
        near = (high - low) / 20 + 1
        mean = fact["mean"]
        means = expect.ExpectColumnMeanToBeBetween
        yield means(column=name, min_value=mean - near, max_value=mean + near)
        yield expect.ExpectColumnQuantileValuesToBeBetween(
            column=name,
            quantile_ranges={
                "quantiles": [0.01, *(step / 20 for step in range(1, 20)), 0.99],
                "value_ranges": [[q - near, q + near] for q in fact["quantiles"]],
            },
        )
        if len(fact["counts"]) > 1:
            bins = {"bins": fact["edges"], "weights": _shares(fact["counts"])}
            held = {"tail_weight_holdout": 0.01, "internal_weight_holdout": 0.01}
            yield diverges(column=name, partition_object=bins, threshold=1, **held)


def _shares(counts: Iterable[int]) -> list[float]:
    counts = list(counts)
    return [count / sum(counts) for count in counts]


def ydata_profiling(table: str, facts: str, minimal: bool = False) -> None:
    """Its report, computed and not drawn."""
    import pandas as pd
    from ydata_profiling import ProfileReport

    with Clock():
        report = ProfileReport(pd.read_parquet(table), minimal=minimal, progress_bar=False)
        report.get_description()


def ydata_profiling_minimal(table: str, facts: str) -> None:
    """The same without correlations, interactions and samples."""
    ydata_profiling(table, facts, minimal=True)


def evidently(was: str, now: str) -> None:
    """Its preset, tests chosen by itself."""
    import pandas as pd
    from evidently import Report
    from evidently.presets import DataDriftPreset

    with Clock():
        Report([DataDriftPreset()]).run(pd.read_parquet(now), pd.read_parquet(was)).dict()


if __name__ == "__main__":
    work(
        {
            "validate": validate,
            "drift": drift,
            "profile_and_drift": profile_and_drift,
            "pandera": pandera,
            "great-expectations": great_expectations,
            "ydata-profiling": ydata_profiling,
            "ydata-profiling, minimal": ydata_profiling_minimal,
            "evidently": evidently,
        }
    )
