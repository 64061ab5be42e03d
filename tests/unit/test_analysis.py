"""Analysis says how good a model is, for whom and why, and the gate gives its reasons."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest
from serving_fakes import write_bundle

import chromium
from registries import new_version
from treadle import report, snapshots
from treadle.adapters.filesystem import DirectoryStore
from treadle.analysis import calibration, fairness, importances, page, slices
from treadle.analysis.comparison import chance, compare_rows, holm
from treadle.analysis.evaluate import Rival, evaluate
from treadle.analysis.examined import Examined, examine
from treadle.analysis.gate import gain_words
from treadle.analysis.learned import by_champion
from treadle.bundle import Bundle
from treadle.errors import SpecError
from treadle.evaluation import Evaluation
from treadle.metrics import measure
from treadle.records import Feature, Kind, Parity, Signature, Snapshot, Split, Task, Training, Trial
from treadle.registry import card, figures
from treadle.spec import Analysis, Costs, MetricName, Spec

BINARY = Signature(
    task=Task.BINARY,
    target="churned",
    features=[Feature(name="plan", kind=Kind.CATEGORY), Feature(name="visits", kind=Kind.NUMBER)],
    classes=["no", "yes"],
)
SPLIT = Split(by="random", column=None, seed=0, train_rows=900, test_rows=600, tuning_rows=100,
              held_out="h" * 32)  # fmt: skip
TRIAL = Trial(number=0, family="linear", parameters={}, curve=[(9, -1.0)], seconds=0.1)
TRAINING = Training(metric="rmse", higher_is_better=False, trials=[TRIAL], best=TRIAL,
                    search_seconds=1, refit_seconds=1, fit_rows=900)  # fmt: skip
PARITY = Parity(rows=9, largest_difference=0, equal_labels=None, tolerance=1, passed=True)
AUC = measure(Task.BINARY, MetricName.ROC_AUC)


def table(rows: int = 600, noise: float = 1.0, seed: int = 0) -> pd.DataFrame:
    """Rows whose sum the fake model knows, up to noise."""
    random = np.random.default_rng(seed)
    x, y = random.normal(4, 2, (2, rows))
    colour = random.choice(["red", "blue", "green"], rows, p=[0.5, 0.4, 0.1])
    added = pd.Series(colour).map({"red": 10.0, "blue": 20.0, "green": 0.0}).to_numpy()
    total = x + y + added + random.normal(0, noise, rows)
    return pd.DataFrame({"x": x, "y": y, "colour": colour, "shop": "a", "sum": total})


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_bundle(tmp_path / "bundle")


Evaluate = Callable[..., Evaluation]


@pytest.fixture
def evaluated(bundle: Bundle, tmp_path: Path) -> Evaluate:
    """Evaluates the fake model, which adds up, on a table; ``plus`` is what the champion, if there
    is one, says too much."""

    def run(
        held_out: pd.DataFrame,
        plus: float | None = None,
        learned: Sequence[int] | None = (),
        **options: Any,
    ) -> Evaluation:
        champion = None
        if plus is not None:
            place = tmp_path / f"champion-{len(list(tmp_path.iterdir()))}"
            champion = Rival(3, write_bundle(place, plus), marked(learned, len(held_out)))
        seen = examine(bundle, held_out)
        training = table(seed=1)["sum"].to_numpy()
        wanted = Analysis(bootstrap=100, **options)
        return evaluate(bundle, seen, training, wanted, MetricName.AUTO, 0, champion)

    return run


def marked(rows: Sequence[int] | None, count: int) -> npt.NDArray[np.bool_] | None:
    return None if rows is None else np.isin(np.arange(count), rows)


def seen_binary(
    score: Sequence[float], happened: Sequence[int], plan: Sequence[str] | None = None
) -> Examined:
    scores = np.array(score)
    frame = pd.DataFrame({"plan": plan if plan is not None else "pro", "visits": scores})
    columns: dict[str, Any] = {
        "plan": frame["plan"].to_numpy(dtype=object),
        "visits": scores.astype(np.float32),
    }
    return Examined(
        BINARY, frame, columns, np.array(happened), np.column_stack([1 - scores, scores]),
        np.arange(len(scores)),
    )  # fmt: skip


# The gate


def test_a_model_that_is_better_than_the_champion_goes_through(evaluated: Evaluate) -> None:
    found = evaluated(table(), plus=0.5)
    assert found.decision.passed
    assert re.fullmatch(
        r"rmse is 1\d\.\d% better than the champion \(version 3\) on the same rows \(95 % interval "
        r"\+\d+\.\d% to \+\d+\.\d%, p < 0\.0001\)",
        found.decision.reasons[1],
    )
    assert found.against_champion is not None
    assert found.against_champion.low < found.against_champion.gain < found.against_champion.high


def test_what_is_asked_beyond_being_better_is_in_the_spec(evaluated: Evaluate) -> None:
    found = evaluated(table(), plus=0.5, must_beat_by=0.3)
    assert not found.decision.passed
    assert found.decision.reasons[-1] == (
        "so it is not certain to beat the champion by more than 30.0% (analysis.must_beat_by): the "
        "champion stays"
    )


def test_a_model_that_is_no_better_than_a_constant_stays_out(evaluated: Evaluate) -> None:
    held_out = table()
    held_out["sum"] = held_out["sum"].sample(frac=1, random_state=0).to_numpy()
    found = evaluated(held_out)
    assert not found.decision.passed
    assert found.decision.reasons[0].startswith("no better than a constant: rmse is ")


def test_a_slice_that_may_not_be_lost_keeps_the_champion(evaluated: Evaluate) -> None:
    held_out = table(900)
    # The champion says 3 too much: wrong for all but the green rows, of whom it is right.
    held_out.loc[held_out["colour"] == "green", "sum"] += 3
    assert evaluated(held_out, plus=3.0).decision.passed
    found = evaluated(held_out, plus=3.0, must_not_lose_on=["colour"])
    assert not found.decision.passed
    (reason,) = found.decision.reasons[2:]
    assert reason.startswith("where colour is green, rmse is ")
    assert reason.endswith("analysis.must_not_lose_on): the champion stays")
    green = next(s for s in found.slices if s.value == "green")
    assert green.against is not None
    assert green.against.gain < -1
    assert evaluated(
        held_out, plus=3.0, must_not_lose_on=["colour"], must_not_lose_by=5
    ).decision.passed


def test_a_limit_of_size_or_latency_is_named_with_what_was_found(evaluated: Evaluate) -> None:
    found = evaluated(table(), max_size_mib=0.0001, max_latency_ms=1e-6)
    latency, size = found.decision.reasons[-2:]
    assert not found.decision.passed
    assert "more than the 1e-06 that it may take (analysis.max_latency_ms)" in latency
    assert "more than the 0.0001 that it may have (analysis.max_size_mib)" in size


def test_the_champion_itself_goes_through(evaluated: Evaluate) -> None:
    found = evaluated(table(), plus=0.0, must_not_lose_on=["colour"])
    assert found.decision.passed
    assert "it is the champion (version 3) itself, to the last bit" in found.decision.reasons


def test_rows_that_the_champion_learned_from_do_not_count_for_it(evaluated: Evaluate) -> None:
    held_out = table()
    knows = range(len(held_out) // 2)
    # There the model errs, and the champion doesn't.
    held_out.loc[held_out.index < len(knows), "sum"] += 0.5
    favoured = evaluated(held_out, plus=0.5, slices=["colour"])
    assert not favoured.decision.passed
    found = evaluated(held_out, plus=0.5, learned=knows, slices=["colour"])
    assert found.decision.passed
    assert found.against_champion is not None
    assert found.against_champion.rows == found.compared_rows == 300
    assert found.decision.reasons[2] == (
        "the champion learned from 300 of the 600 held-out rows: it was compared on the other 300 "
        "alone"
    )
    held_against = [place for place in found.slices if place.against is not None]
    assert held_against
    assert all(p.against is not None and p.against.rows < p.rows for p in held_against)


@pytest.mark.parametrize(
    ("learned", "words"),
    [
        (range(10_000), "too few are left without them: this favours it"),
        (None, "can't be told: its own are no longer kept, so this may favour it"),
    ],
)
def test_where_the_champion_knows_the_rows_it_is_said_that_it_is_favoured(
    evaluated: Evaluate, learned: Sequence[int] | None, words: str
) -> None:
    found = evaluated(table(), plus=0.5, learned=learned)
    assert found.decision.reasons[2].endswith(words)
    assert found.compared_rows == found.rows


def split_of(held_out: Snapshot, cutoff: str | None = None) -> Split:
    by, column = ("time", "day") if cutoff else ("random", None)
    return Split(by=by, column=column, seed=0, train_rows=1, test_rows=1, tuning_rows=1,
                 cutoff=cutoff, held_out=held_out.digest)  # fmt: skip


def test_what_the_champion_learned_from_is_found_in_its_own_rows(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)

    def stored(**columns: Sequence[object]) -> Snapshot:
        return snapshots.publish(pa.table(dict(columns)).to_reader(), "a test", store)

    # Row 3 is there twice: held out once, it isn't known for certain to have been learned from.
    its = stored(x=[1, 2, 3, 3, None], y=["a", "b", "c", "c", None], gone=[0, 0, 0, 0, 0])
    its_held_out = stored(x=[3], y=["c"], gone=[0])
    now = stored(x=[9, 3, 2, None, 2], y=["a", "c", "b", None, "a"], new=[1, 1, 1, 1, 1])

    def learned(then: Split, split: Split, rows: int = 5) -> list[bool] | None:
        lineage = new_version("m").lineage.model_copy(update={"snapshot": its, "split": then})
        found = by_champion(lineage, split, rows, store)
        return None if found is None else found.tolist()

    known = [False, False, True, True, False]
    assert learned(split_of(its_held_out), split_of(now)) == known
    assert learned(split_of(its_held_out), split_of(its_held_out), 1) == [False]
    may, june = "2013-05-01T00:00:00Z", "2013-06-01T00:00:00Z"
    assert learned(split_of(its_held_out, may), split_of(now, june)) == [False] * 5
    assert learned(split_of(its_held_out, june), split_of(now, may)) == known
    store.delete(its.data_key)
    assert learned(split_of(its_held_out), split_of(now)) is None


def test_pairing_sees_what_two_intervals_apart_do_not() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(0, 10, 2_000)
    ours, theirs = hard * 0.99, hard
    rmse = measure(Task.REGRESSION, MetricName.RMSE)
    found = compare_rows(rmse, np.zeros(2_000), ours, theirs, 200, 0)
    assert found.gain == pytest.approx(0.01)
    assert 0.009 < found.low <= found.high < 0.011
    assert found.p_value < 1e-6


def test_a_champion_next_to_perfect_does_not_make_interval_and_p_value_contradict_each_other() -> (
    None
):
    mae = measure(Task.REGRESSION, MetricName.MAE)
    random = np.random.default_rng(0)
    theirs = np.where(np.arange(60) < 2, 0.05, 1e-6)  # left out of many a resample
    found = compare_rows(mae, np.zeros(60), random.uniform(0.01, 0.03, 60), theirs, 200, 0)
    assert found.high < 0
    assert found.p_value < 1e-6


def test_an_error_of_many_times_the_others_is_said_in_times() -> None:
    mae = measure(Task.REGRESSION, MetricName.MAE)
    answers, theirs = np.zeros(100), np.linspace(0.9, 1.1, 100)
    found = compare_rows(mae, answers, 50 * theirs, theirs, 100, 0)
    words = r"mae is 50 times that of the champion on the same rows \(95 % interval 49\.?\d* to 50"
    assert re.match(words, gain_words(found, "the champion"))
    found = compare_rows(mae, answers, 0.5 * theirs, theirs, 100, 0)
    assert gain_words(found, "the champion").startswith("mae is 50.0% better than the champion on")


def test_chance_alone_is_hardly_ever_believed() -> None:
    believed = 0
    mae = measure(Task.REGRESSION, MetricName.MAE)
    for seed in range(100):
        answers, one, other = np.random.default_rng(seed).normal(size=(3, 200))
        believed += compare_rows(mae, answers, one, other, 100, seed).p_value < 0.05
    assert believed <= 12


def test_p_values_are_adjusted_for_how_many_there_are() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    adjusted = holm([0.5, float("nan"), 0.02])
    assert adjusted[::2] == pytest.approx([0.5, 0.04])
    assert np.isnan(adjusted[1])
    assert holm([]) == []


def test_a_difference_without_spread_is_certain() -> None:
    assert chance(0.1, 0.0) == 0
    assert chance(0.0, 0.0) == 0.5
    assert np.isnan(chance(float("nan"), 1.0))


# Slices


def test_tiny_slices_and_those_of_one_class_are_undefined_and_not_0() -> None:
    plans = ["free"] * 200 + ["pro"] * 100 + ["team"] * 10
    happened = np.array([0, 1] * 100 + [1] * 100 + [0, 1] * 5)
    score = np.clip(np.random.default_rng(0).normal(0.2 + 0.6 * happened, 0.2), 0, 1)
    seen = seen_binary(list(score), list(happened), plans)
    options = Analysis(slices=["plan"], bootstrap=50)
    found = {s.value: s for s in slices.of_spec(seen, AUC, options, 0, None)}
    assert found["free"].metric is not None
    assert (found["pro"].metric, found["pro"].why) == (None, "one class only")
    assert (found["team"].metric, found["team"].why) == (None, "fewer than 30 rows")


def test_a_number_is_sliced_at_its_quarters_and_nulls_are_a_slice(evaluated: Evaluate) -> None:
    held_out = table()
    held_out["weight"] = np.arange(600.0)
    held_out.loc[:99, "weight"] = np.nan
    found = evaluated(held_out, slices=["weight"])
    assert {s.value: s.rows for s in found.slices} == {
        "up to 224.8": 125, "over 224.8 to 349.5": 125, "over 349.5 to 474.2": 125,
        "over 474.2": 125, "no value": 100,
    }  # fmt: skip


def test_the_worst_slices_are_found_without_being_named(evaluated: Evaluate) -> None:
    held_out = table(4_000)
    bad = (held_out["colour"] == "blue") & (held_out["x"] > held_out["x"].quantile(0.75))
    held_out.loc[bad, "sum"] += np.random.default_rng(1).normal(0, 8, int(bad.sum()))
    worst = evaluated(held_out).search.worst[0]
    assert set(worst.column.split(" × ")) == {"colour", "x"}
    assert "blue" in worst.value
    assert worst.rows == int(bad.sum())
    assert worst.metric is not None
    assert worst.metric.low > 5
    assert worst.excess is not None
    assert worst.excess > 10


def test_where_there_is_nothing_to_find_nothing_is_told(evaluated: Evaluate) -> None:
    found = [evaluated(table(2_000, seed=seed)).search for seed in range(5)]
    assert [len(search.worst) for search in found] == [0] * 5
    assert found[0].looked_at > 30


# Probabilities


def test_probabilities_that_mean_what_they_say_have_next_to_no_error() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(size=20_000)
    honest = seen_binary(list(score), list((random.uniform(size=20_000) < score).astype(int)))
    found = calibration.of(honest, 100, 0)
    assert found.error.value < 0.02
    assert found.brier.value == pytest.approx(1 / 6, abs=0.01)
    assert all(b.low <= b.happened <= b.high for b in found.bins)
    boastful = seen_binary(list(np.where(score > 0.5, 0.99, 0.01)), list(honest.answers))
    assert calibration.of(boastful, 100, 0).error.low > 0.2


def test_the_threshold_costs_least() -> None:
    random = np.random.default_rng(0)
    score = random.uniform(size=20_000)
    seen = seen_binary(list(score), list((random.uniform(size=20_000) < score).astype(int)))
    found = calibration.threshold(seen, Costs(false_positive=1, false_negative=4))
    assert found.expected == 0.2
    assert found.value == pytest.approx(0.2, abs=0.05)
    assert found.cost < found.cost_of_neither < found.cost_at_half
    assert found.cost == pytest.approx(min(cost for _, cost in found.curve), rel=0.05)


def test_a_threshold_may_be_never_and_always() -> None:
    seen = seen_binary([0.1, 0.4, 0.6, 0.9], [0, 1, 1, 0])
    never = calibration.threshold(seen, Costs(false_positive=1, false_negative=0))
    assert never.value > 0.9
    always = calibration.threshold(seen, Costs(false_positive=0, false_negative=1))
    assert always.value <= 0.4


def test_costs_of_more_or_fewer_classes_than_two_are_refused(evaluated: Evaluate) -> None:
    words = r"^analysis.costs are those of two classes; this is a regression task$"
    with pytest.raises(SpecError, match=words):
        evaluated(table(), costs=Costs())


def test_the_roc_curve_goes_from_corner_to_corner_and_its_area_is_the_metric() -> None:
    random = np.random.default_rng(0)
    happened = random.integers(0, 2, 3_000)
    score = np.round(np.clip(random.normal(0.4 + 0.2 * happened, 0.2), 0, 1), 2)
    seen = seen_binary(list(score), list(happened))
    alarms, hits, thresholds = np.array(calibration.roc(seen)).T
    assert (alarms[0], hits[0], alarms[-1], hits[-1]) == (0, 0, 1, 1)
    assert (np.diff(thresholds) < 0).all()
    area = float(np.sum(np.diff(alarms) * (hits[1:] + hits[:-1]) / 2))
    assert area == pytest.approx(AUC.of(seen.answers, seen.output), abs=1e-3)


# Fairness


def test_groups_are_told_apart_by_their_rates() -> None:
    plans = ["free"] * 100 + ["pro"] * 100 + ["team"] * 5
    happened = [1] * 50 + [0] * 50 + [1] * 50 + [0] * 50 + [1] * 5
    # Of the free ones half of those who stay are found, of the pro ones all.
    score = [0.9] * 25 + [0.1] * 75 + [0.9] * 50 + [0.1] * 50 + [0.9] * 5
    found = fairness.of(seen_binary(score, happened, plans), "plan")
    assert found.differences["true positive rate"] == 0.5
    assert found.ratios["called the second class"] == 0.5
    team = next(group for group in found.groups if group.value == "team")
    assert (team.figures, team.why) == ({}, "fewer than 30 rows")


def test_a_rate_that_a_group_can_not_have_is_undefined() -> None:
    plans = ["free"] * 40 + ["pro"] * 40
    seen = seen_binary([0.1] * 40 + [0.9] * 40, [0] * 40 + [0, 1] * 20, plans)
    free = next(g for g in fairness.of(seen, "plan").groups if g.value == "free")
    assert np.isnan(free.figures["true positive rate"])
    assert free.figures["false positive rate"] == 0


# Why


def test_what_matters_ranks_first_and_what_does_not_matters_nothing(
    bundle: Bundle, evaluated: Evaluate
) -> None:
    held_out = table().assign(y=1.0)
    held_out["sum"] = held_out["x"] + 1 + held_out["colour"].map({"red": 10, "blue": 20}).fillna(0)
    ranked = evaluated(held_out).importances
    assert [i.feature for i in ranked] == ["colour", "x", "y"]
    assert ranked[-1].lost == 0
    assert all(i.low <= i.lost <= i.high for i in ranked)


def test_dependence_on_a_feature_is_that_of_the_formula(bundle: Bundle) -> None:
    seen = examine(bundle, table())
    by_colour, by_x = importances.dependence(bundle, seen, ["colour", "x"], 0)
    said = dict(zip(by_colour.places, by_colour.mean, strict=True))
    assert float(said["blue"]) - float(said["red"]) == pytest.approx(10, abs=1e-3)
    assert np.diff(by_x.mean) == pytest.approx(np.diff(np.array(by_x.places, float)), abs=1e-3)


def test_single_rows_are_explained_until_the_time_is_over(evaluated: Evaluate) -> None:
    found = evaluated(table())
    assert len(found.explained) == 3
    for row in found.explained:
        assert sum(p.adds for p in row.parts) == pytest.approx(row.output - row.usual, abs=1e-3)
    assert evaluated(table(), explain_s=1e-9).explained == []


# What a reader sees


def test_the_page_opens_with_the_reasons_and_needs_no_network(
    bundle: Bundle, evaluated: Evaluate
) -> None:
    held_out = table()
    found = evaluated(held_out, plus=0.5, slices=["colour"], sensitive=["colour"])
    html = page.render(found, examine(bundle, held_out), TRAINING, PARITY, SPLIT)
    text = re.sub(r"<style>.*?</style>|<[^>]+>", " ", html, flags=re.DOTALL)
    assert text.index("The gate says yes") < text.index("95 % interval")
    assert html.index(escape(found.decision.reasons[0])) < html.index("<table")
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", html.replace("xlink:", ""))
    assert "How fair it is by colour" in text


@pytest.mark.skipif(chromium.CHROMIUM is None, reason="there is no Chromium here")
def test_the_page_fits_a_phone(bundle: Bundle, evaluated: Evaluate, tmp_path: Path) -> None:
    held_out = table()
    found = evaluated(held_out, slices=["colour"], sensitive=["colour"])
    reasons = [*found.decision.reasons, "of_a_column_with_a_long_name" * 10]
    longer = found.decision.model_copy(update={"reasons": reasons})
    html = page.render(
        found.model_copy(update={"decision": longer}),
        examine(bundle, held_out), TRAINING, PARITY, SPLIT,
    )  # fmt: skip
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    with chromium.browser(tmp_path) as shown:
        shown.size(390, 844)
        shown.open((tmp_path / "page.html").as_uri())
        assert shown.run("document.documentElement.scrollWidth") == 390


def test_the_figures_of_a_page_stand_by_themselves(
    bundle: Bundle, evaluated: Evaluate, tmp_path: Path
) -> None:
    held_out = table()
    found = evaluated(held_out, slices=["colour"])
    html = page.render(found, examine(bundle, held_out), TRAINING, PARITY, SPLIT)
    (tmp_path / "analysis.html").write_text(html, encoding="utf-8")
    written = figures.write([tmp_path / "analysis.html"], tmp_path / "figures")
    assert {"figures/importances.svg", "figures/slices.svg", "figures/predicted-actual.svg",
            "figures/residuals.svg", "figures/trials.svg"} <= set(written)  # fmt: skip
    for path in written.values():
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert len(written) == html.count("<figure")
    # Marks that figures refer to are told apart, though all are in one page.
    marks = re.findall(r' id="([^"]+)"', html)
    assert len(marks) == len(set(marks))


def test_the_card_says_purpose_owner_and_limits(bundle: Bundle, evaluated: Evaluate) -> None:
    spec = Spec(name="sums", target="sum", source="a.csv", description="Adds <up>", owner="Ada")  # type: ignore[arg-type]
    held_out = table()
    held_out.loc[:5, "shop"] = "b"
    found = evaluated(held_out, slices=["shop"])
    snapshot = Snapshot(digest="s" * 32, rows=1_500, columns=[], size_bytes=9, source="a.csv")
    html = card.render(spec, bundle, snapshot, SPLIT, TRAINING, found)
    for words in ("Adds &lt;up&gt;", "Ada", "1,500 rows of a.csv", "How good it is isn't known for "
                  "shop b (fewer than 30 rows)".replace("'", "&#x27;")):  # fmt: skip
        assert words in html


def test_numbers_that_are_none_are_written_as_such() -> None:
    given = [float("nan"), float("inf"), None, 0.0]
    assert [report.number(v) for v in given] == ["undefined", "∞", "", "0"]


def test_an_evaluation_survives_its_json(evaluated: Evaluate) -> None:
    found = evaluated(table(), plus=1.0, slices=["colour", "shop"])
    assert Evaluation.model_validate_json(found.model_dump_json()) == found
