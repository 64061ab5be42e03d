"""One model per segment, served as one."""

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from treadle import segments as served
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.optuna import TpeProposer
from treadle.analysis import segments_page
from treadle.analysis.examined import examine
from treadle.bundle import Bundle
from treadle.errors import ModelError, SpecError
from treadle.halving import Crew
from treadle.kinds import kinds_of
from treadle.preprocessing import prepare
from treadle.profile import profile
from treadle.records import SegmentModel, Training
from treadle.snapshots import publish
from treadle.spec import Family, Preprocessing, TrainingOptions
from treadle.training import refit, segment_models, segments, train

REGIONS = [f"r{i}" for i in range(8)]
OPTIONS = TrainingOptions(
    families=[Family.LINEAR], trials=2, segments=["region"], segment_rows=60, segment_trials=2
)
CREW = Crew(lambda _: pytest.fail("Ray was started"), start_s=1e9, cores=1)


def table(classes: bool = False) -> pa.Table:
    """What x means differs by region, and is forgotten in r7, which has few rows."""
    random = np.random.default_rng(0)
    region = np.concatenate([np.repeat(REGIONS[:7], 150), np.repeat("r7", 20)])
    order = random.permutation(len(region))
    region = region[order]
    x = random.normal(size=len(region))
    slope = np.array([int(name[1]) - 3.0 for name in region])
    y: Any = slope * x + 0.1 * random.normal(size=len(region))
    if classes:
        y = np.where(y > 0, "up", "down")
        # A region of one class only.
        y[region == "r6"] = "up"
    return pa.table({"y": y, "x": x, "region": region, "z": random.normal(size=len(region))})


def prepared(store: DirectoryStore, out: Path, rows: pa.Table) -> Any:
    taken = publish(rows.to_reader(), "a table", store)
    found = profile(store.local(taken.data_key), kinds_of(rows.schema, {}))
    return prepare.run(taken, found, "y", None, Preprocessing(), 0.2, "", 0, store, out)


def here(call: Callable[..., Any], shared: Any, chunks: Sequence[Any], size_bytes: int) -> Any:
    for chunk in chunks:
        yield chunk, call(shared, chunk)


def trained(
    directory: Path,
    store: DirectoryStore,
    out: Path,
    options: TrainingOptions = OPTIONS,
    spread: Any = here,
    cores: int = 1,
) -> Training:
    means = train.Means(TpeProposer, CREW, None, spread, store, cores)
    return train.run("m", directory, options, means, out)[0]


def by_key(training: Training) -> dict[str, SegmentModel]:
    assert training.segments is not None
    return {segment.words: segment for segment in training.segments.segments}


def test_segments_that_differ_have_models_of_their_own_and_few_rows_the_pooled_one(
    store: DirectoryStore, tmp_path: Path
) -> None:
    split = prepared(store, tmp_path / "rows", table())
    found = trained(tmp_path / "rows", store, tmp_path / "bundle")
    of = by_key(found)
    own = [name for name, segment in of.items() if segment.family]
    # The slope of r3 is about the mean of all: it may be either.
    assert [name for name in own if name != "r3"] == ["r0", "r1", "r2", "r4", "r5", "r6"]
    for segment in of.values():
        if segment.family and segment.score and segment.pooled_score:
            assert segment.score > segment.pooled_score
    assert of["r7"].why is not None
    assert "fewer than segment_rows (60)" in of["r7"].why
    bundle = Bundle.at(tmp_path / "bundle")
    bundle.prove()
    assert sorted(bundle.files) == sorted(
        [
            "MLmodel",
            "golden.json",
            "reference.json",
            "schema.json",
            "segments.zip",
            "signature.json",
        ]
    )
    rows = [{"x": 1.0, "z": 0.0, "region": name} for name in [*REGIONS, "never seen", None]]
    answers = [answer["prediction"] for answer in bundle.predict_rows(rows)]
    slopes = [-3.0, -2.0, -1.0, None, 1.0, 2.0, 3.0]
    for answer, slope in zip(answers, slopes, strict=False):
        assert slope is None or answer == pytest.approx(slope, abs=0.1)
    assert bundle.predict_rows(rows[::-1]) == bundle.predict_rows(rows)[::-1]
    assert [bundle.predict_rows([row])[0]["prediction"] for row in rows] == pytest.approx(
        answers, abs=1e-5
    )
    import pandas as pd

    from treadle import snapshots

    held_out = pd.read_parquet(store.local(snapshots.load(split.held_out, store).data_key))
    page = segments_page.render(found, examine(bundle, held_out))
    assert f"{len(own)} of 8 segments have a model of their own" in page
    assert "figure-segments" in page
    assert "fewer than segment_rows" in page


def test_a_segments_classes_may_be_fewer_and_their_order_holds(
    store: DirectoryStore, tmp_path: Path
) -> None:
    prepared(store, tmp_path / "rows", table(classes=True))
    found = trained(tmp_path / "rows", store, tmp_path / "bundle")
    of = by_key(found)
    assert of["r6"].why == "its rows are of one class only"
    assert of["r0"].family
    (down, up) = Bundle.at(tmp_path / "bundle").predict_rows(
        [{"x": 2.0, "z": 0.0, "region": "r0"}, {"x": -2.0, "z": 0.0, "region": "r0"}]
    )
    assert (down["prediction"], up["prediction"]) == ("down", "up")
    assert sum(down["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_the_same_segments_are_found_here_and_by_others_and_fitted_again(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "rows"
    prepared(store, directory, table())
    trained(directory, store, tmp_path / "one")
    monkeypatch.setattr(segments, "LEAST_S", 0.0)
    spread: list[int] = []

    def there(call: Any, shared: Any, chunks: Any, size_bytes: int) -> Any:
        spread.append(len(chunks))
        assert size_bytes > 0
        yield from here(call, shared, chunks[::-1], size_bytes)

    monkeypatch.setattr(segments, "PROBES", 1)
    monkeypatch.setattr(segments, "CHUNK", 2)
    trained(directory, store, tmp_path / "two", spread=there, cores=2)
    assert spread == [4]
    assert Bundle.at(tmp_path / "one").digest == Bundle.at(tmp_path / "two").digest
    # What is registered is enough to make it again.
    problem, objective = train.pose("m", directory, OPTIONS)
    known = served.read_index(tmp_path / "one" / "segments.zip")
    found = trained(directory, store, tmp_path / "three")
    from treadle.prepared import load_training
    from treadle.records import Signature

    rows = load_training(directory)
    pipeline = refit.fit(found.best, directory, rows, objective, 1)
    pooled = segments.Pooled(problem, objective, found.trials, found.best, rows, pipeline)
    again = segments.refit(pooled, known, OPTIONS, 1)
    signature = Signature.read(directory / "signature.json")
    refit.write_bundle(pipeline, rows, signature, directory, tmp_path / "again", again)
    assert Bundle.at(tmp_path / "again").digest == Bundle.at(tmp_path / "one").digest


def test_a_segment_that_fails_once_is_fitted_and_one_that_always_fails_is_named(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Five models, one fails once: it must not be lost, nor take the others with it.
    prepared(store, tmp_path / "rows", table())
    fitted = segment_models._fit
    failed: list[str] = []

    def failing(shared: Any, segment: Any) -> Any:
        (name,) = segment.key
        if name == "r1" or (name == "r2" and name not in failed):
            failed.append(name)
            raise OSError("the disk was away")
        return fitted(shared, segment)

    monkeypatch.setattr(segment_models, "_fit", failing)
    of = by_key(trained(tmp_path / "rows", store, tmp_path / "bundle"))
    assert sorted(failed) == ["r1", "r1", "r2"]
    assert of["r2"].family == "linear"
    assert of["r1"].family is None
    assert of["r1"].why == "OSError: the disk was away"


def test_an_interrupted_run_goes_on_with_the_segments_that_are_left(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "rows"
    prepared(store, directory, table())
    fitted = segment_models._fit
    seen: list[tuple[str, ...]] = []

    def counting(shared: Any, segment: Any) -> Any:
        if len(seen) == 3:
            seen.append(("interrupted",))
            raise KeyboardInterrupt
        seen.append(segment.key)
        return fitted(shared, segment)

    monkeypatch.setattr(segment_models, "_fit", counting)
    with pytest.raises(KeyboardInterrupt):
        trained(directory, store, tmp_path / "one")
    trained(directory, store, tmp_path / "one")
    assert len(seen) == len(set(seen)) == 8
    assert not list(store.keys("searches/")), "nothing is left of it"


def test_time_that_is_up_leaves_the_rest_to_the_pooled_model(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared(store, tmp_path / "rows", table())
    monkeypatch.setattr(segments, "PROBES", 2)
    monkeypatch.setattr(segments._Fitting, "is_late", lambda self: True)
    of = by_key(trained(tmp_path / "rows", store, tmp_path / "bundle"))
    late = [name for name, s in of.items() if s.why and "budget_s" in s.why]
    assert len(late) == 6


@pytest.mark.parametrize(
    ("name", "words"),
    [("regio", "'regio' is no feature of this model; did you mean 'region'?"),
     ("x", "'x' is a number, and segments are categories")],
)  # fmt: skip
def test_columns_that_part_nothing_are_refused_before_the_search(
    name: str, words: str, store: DirectoryStore, tmp_path: Path
) -> None:
    prepared(store, tmp_path / "rows", table())
    with pytest.raises(SpecError, match=r"training\.segments") as refused:
        train.pose("m", tmp_path / "rows", TrainingOptions(segments=[name]))
    assert words in str(refused.value)


def test_one_column_may_be_named_without_a_list() -> None:
    assert TrainingOptions.model_validate({"segments": "carrier"}).segments == ["carrier"]


def test_a_file_of_segments_that_is_not_whole_is_said(tmp_path: Path) -> None:
    (tmp_path / "segments.zip").write_bytes(base64.b64decode("UEsDBA=="))
    with pytest.raises(ModelError, match="can't be loaded"):
        served.SegmentedModel(tmp_path / "segments.zip", 0)
