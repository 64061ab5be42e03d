"""The records of analysis: how good a model is, for whom, why, and what the gate made of it."""

from pydantic import Field

from treadle.records import Decision, Metric, Record


class Comparison(Record):
    """A model against another on the same rows. ``gain`` is by how much the metric is better, as a
    share of the other's; it, its 95 % interval and the two-sided ``p_value`` are from one paired
    bootstrap. nan is what couldn't be measured."""

    metric: str
    rows: int
    ours: float
    theirs: float
    gain: float
    low: float
    high: float
    error: float = Field(description="standard error of the gain")
    p_value: float


class Slice(Record):
    """A named subpopulation; ``column`` and ``value`` are two each, with × between, where it is one
    of two columns at once. ``metric`` is None, with ``why``, where it is undefined. ``excess`` is
    by how much a row's loss is higher than elsewhere, as a share, for a slice that was searched
    for; ``against`` holds it against the champion."""

    column: str
    value: str
    rows: int
    metric: Metric | None
    why: str | None = None
    excess: float | None = None
    against: Comparison | None = None


class Search(Record):
    """The slices that were found by looking at ``looked_at`` of them: the worst first, those alone
    whose loss is higher than elsewhere when so many were looked at (Holm, 5 %)."""

    looked_at: int
    worst: list[Slice]


class Importance(Record):
    """What the metric loses when a feature is shuffled, with its 95 % interval over shuffles."""

    feature: str
    lost: float
    low: float
    high: float


class Dependence(Record):
    """How the model's output goes with a feature, all others as they are: the mean over rows at
    each place, and between what the middle half of them lies, each row taken to the same level: the
    wider, the more it depends on other features where this one goes. Places are numbers, epoch
    seconds of a time, or the words of a category."""

    feature: str
    kind: str
    places: list[float | str]
    mean: list[float]
    low: list[float]
    high: list[float]


class Part(Record):
    """What a feature's value adds to a prediction."""

    feature: str
    value: str
    adds: float


class Explained(Record):
    """Why one held-out row got its answer (treadle.explanation)."""

    words: str = Field(description="why this row is shown")
    predicted: str
    actual: str
    usual: float = Field(description="the answer to a row of usual values")
    output: float = Field(description="the answer, or the probability of the predicted class")
    error: float = Field(description="largest standard error of a part; 0: exact")
    parts: list[Part]


class Bin(Record):
    """Rows that were given like probabilities: the mean of those, and the share of what happened
    with its 95 % interval."""

    rows: int
    said: float
    happened: float
    low: float
    high: float


class Calibration(Record):
    """Whether probabilities mean what they say: those of the second class of two, or of the
    predicted one of several. ``error`` is the expected calibration error, ``brier`` the mean square
    of what probabilities are off by."""

    error: Metric
    brier: Metric
    bins: list[Bin]


class Threshold(Record):
    """From which probability on to call it the second class, where the two kinds of errors cost
    what the spec says. ``cost`` is a row's mean cost at a threshold that was chosen on other rows,
    ``cost_at_half`` at 0.5, ``cost_of_neither`` of always saying the same, whichever is cheaper;
    ``curve`` is (threshold, cost)."""

    label: str
    false_positive: float
    false_negative: float
    value: float
    expected: float = Field(description="what it would be, if probabilities were what they say")
    cost: float
    cost_at_half: float
    cost_of_neither: float
    curve: list[tuple[float, float]]


class Residuals(Record):
    """What is left of the answers: actual less predicted. ``quantiles`` are at 5, 25, 50, 75 and
    95 %; ``within`` is (share of rows, how far off they are at most)."""

    mean: float
    low: float
    high: float
    quantiles: list[float]
    within: list[tuple[float, float]]


class Group(Record):
    """Rows with one value of a sensitive column: figures by name, or ``why`` there are none."""

    value: str
    rows: int
    figures: dict[str, float] = Field(default_factory=dict)
    why: str | None = None


class Fairness(Record):
    """How a model treats the values of a sensitive column. ``differences`` are between the highest
    and the lowest group's figure, ``ratios`` of the lowest over the highest."""

    column: str
    groups: list[Group]
    differences: dict[str, float]
    ratios: dict[str, float]


class Footprint(Record):
    """What answering takes: the bundle's size, and milliseconds in which half and 95 % of single
    rows were answered, within this process."""

    size_bytes: int
    median_ms: float
    high_ms: float


class Evaluation(Record):
    """What analysis found on the held-out rows."""

    rows: int
    primary: str
    metrics: list[Metric]
    baseline: list[Metric]
    champion: list[Metric] = Field(default_factory=list)
    champion_version: int | None = None
    champion_digest: str | None = None
    champion_learned: int | None = Field(
        default=0, description="held-out rows that the champion learned from; None: not known"
    )
    compared_rows: int = Field(default=0, description="rows on which it was held against that")
    against_nothing: Comparison
    against_champion: Comparison | None = None
    slices: list[Slice]
    search: Search
    importances: list[Importance]
    dependence: list[Dependence]
    explained: list[Explained]
    residuals: Residuals | None = None
    calibration: Calibration | None = None
    threshold: Threshold | None = None
    fairness: list[Fairness] = Field(default_factory=list)
    roc: list[tuple[float, float, float]] = Field(
        default_factory=list, description="false and true positive rate, threshold"
    )
    classes: list[str] = Field(default_factory=list, description="as in the signature")
    confusion: list[list[int]] = Field(
        default_factory=list, description="rows by actual class, then by predicted"
    )
    footprint: Footprint
    decision: Decision

    def metric(self, name: str) -> Metric:
        """Return the metric of that name. Raises KeyError for one that wasn't computed."""
        found = {m.name: m for m in self.metrics}
        return found[name]
