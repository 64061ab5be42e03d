"""The gate: may this model go live? It must be better than knowing nothing, and all that the spec
asks must hold; every reason is put into words."""

import numpy as np

from treadle.analysis.comparison import Against, chance, holm
from treadle.evaluation import Comparison, Evaluation, Footprint, Slice
from treadle.records import Decision
from treadle.spec import Analysis

UNDECIDED = Decision(passed=False, reasons=[])
DOUBT = 0.05
_NOTHING = "always giving the same answer"


def decide(found: Evaluation, options: Analysis, rival: Against | None) -> Decision:
    """Return the decision: what is asked first, then what stands against it."""
    nothing = found.against_nothing
    # Not "<= 0": what can't be measured (nan) doesn't pass.
    if not nothing.low > 0:
        words = gain_words(nothing, _NOTHING)
        return Decision(passed=False, reasons=[f"no better than a constant: {words}"])
    reasons, against = [gain_words(nothing, _NOTHING)], _limits(found.footprint, options)
    if rival is None:
        reasons.append("there is no champion to beat")
    elif rival.same:
        reasons.append(f"it is the champion (version {rival.version}) itself, to the last bit")
    else:
        said, lost = _against_champion(rival, found.slices, options)
        reasons += [said, *_fairness(found)]
        against = [*lost, *against]
    return Decision(passed=not against, reasons=[*reasons, *against])


def _against_champion(
    rival: Against, slices: list[Slice], options: Analysis
) -> tuple[str, list[str]]:
    """Say how it compares, and what of that keeps the champion where it is."""
    said = gain_words(rival.whole, f"the champion (version {rival.version})")
    lost = []
    needed = options.must_beat_by
    if not rival.whole.low > needed:
        lost.append(
            f"so it is not certain to beat the champion by more than {needed:.1%} "
            "(analysis.must_beat_by): the champion stays"
        )
    worse = lost_slices(slices, options)
    for place, p_value in worse[:5]:
        comparison = place.against
        assert comparison is not None
        lost.append(
            f"where {place.column} is {place.value}, {comparison.metric} is "
            f"{-comparison.gain:.1%} worse than the champion's on {comparison.rows:,} rows "
            f"(p = {p_value:.2g}, adjusted for the number of slices; analysis.must_not_lose_on): "
            "the champion stays"
        )
    if len(worse) > 5:
        lost.append(f"... and on {len(worse) - 5} more slices")
    return said, lost


def _fairness(found: Evaluation) -> list[str]:
    """Say so where the champion knows some of the rows already."""
    if found.champion_learned is None:
        return [
            "whether the champion learned from some of these rows can't be told: its own are no "
            "longer kept, so this may favour it"
        ]
    if not found.champion_learned:
        return []
    known = (
        f"the champion learned from {found.champion_learned:,} of the {found.rows:,} held-out rows"
    )
    if found.compared_rows < found.rows:
        return [f"{known}: it was compared on the other {found.compared_rows:,} alone"]
    return [f"{known}, and too few are left without them: this favours it"]


def lost_slices(slices: list[Slice], options: Analysis) -> list[tuple[Slice, float]]:
    """Return the slices that may not be lost and are, beyond doubt, with the p-value; worst
    first."""
    asked = [s for s in slices if s.against is not None and s.column in options.must_not_lose_on]
    allowed = options.must_not_lose_by
    p_values = holm([_losing(s.against, allowed) for s in asked if s.against is not None])
    lost = [(s, p) for s, p in zip(asked, p_values, strict=True) if p < DOUBT]
    return sorted(lost, key=lambda pair: pair[0].against.gain if pair[0].against else 0.0)


def _losing(comparison: Comparison, allowed: float) -> float:
    """Return how likely so great a loss is, where what is lost is what is allowed."""
    return chance(-(comparison.gain + allowed), comparison.error)


def _limits(footprint: Footprint, options: Analysis) -> list[str]:
    over = []
    latency, size_mib = options.max_latency_ms, footprint.size_bytes / 2**20
    if latency is not None and footprint.high_ms > latency:
        over.append(
            f"95 % of single rows are answered in {footprint.high_ms:.3g} ms, more than the "
            f"{latency:g} that it may take (analysis.max_latency_ms)"
        )
    if options.max_size_mib is not None and size_mib > options.max_size_mib:
        over.append(
            f"the bundle has {size_mib:.3g} MiB, more than the {options.max_size_mib:g} that it "
            "may have (analysis.max_size_mib)"
        )
    return over


def gain_words(comparison: Comparison, rival: str) -> str:
    """Say how a model compares, with interval and p-value."""
    name = comparison.metric
    if np.isnan(comparison.gain):
        return f"{name} can't be compared with {rival}: it is undefined on these rows"
    doubt = f"95 % interval {comparison.low:+.1%} to {comparison.high:+.1%}"
    chance_words = "p < 0.0001" if comparison.p_value < 1e-4 else f"p = {comparison.p_value:.2g}"
    if comparison.gain < -1 and comparison.ours > comparison.theirs > 0:
        # An error of several times the other's: shares of it say nothing to anyone.
        times, low, high = (
            1 - value for value in (comparison.gain, comparison.high, comparison.low)
        )
        said, doubt = f"{times:.3g} times that of", f"95 % interval {low:.3g} to {high:.3g} times"
    else:
        better = "better" if comparison.gain >= 0 else "worse"
        said = f"{abs(comparison.gain):.1%} {better} than"
    return f"{name} is {said} {rival} on the same rows ({doubt}, {chance_words})"
