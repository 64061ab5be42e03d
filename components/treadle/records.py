"""The records that stages hand to each other. They cross processes, so each is a frozen pydantic
model that reads and writes JSON."""

import math
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """Immutable, no unknown fields, JSON in and out."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Read the record from a JSON file."""
        return cls.model_validate_json(Path(path).read_bytes())

    def write(self, path: Path | str) -> None:
        """Write the record as JSON."""
        Path(path).write_text(self.model_dump_json(indent=1), encoding="utf-8")


class Task(StrEnum):
    """What is predicted."""

    REGRESSION = "regression"
    BINARY = "binary"
    MULTICLASS = "multiclass"

    @property
    def is_classification(self) -> bool:
        """Say whether the answer is one of a set of classes."""
        return self is not Task.REGRESSION


class Kind(StrEnum):
    """How a column is read as a feature."""

    NUMBER = "number"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    TIME = "time"


class Tokens(StrEnum):
    """What a text is taken apart into."""

    WORDS = "words"
    CHARACTERS = "characters"


class Column(Record):
    """One column of a snapshot: ``type`` is Arrow's name for its type, ``categories`` the values
    of one whose categories have an order."""

    name: str
    type: str
    categories: list[str] | None = None


class Snapshot(Record):
    """An immutable dataset, named by the digest of its content."""

    digest: str
    rows: int
    columns: list[Column]
    size_bytes: int
    source: str
    notes: list[str] = Field(default_factory=list)
    parts: list[str] = Field(
        default_factory=list, description="digests of the snapshots whose rows these are, in order"
    )

    @property
    def data_key(self) -> str:
        """The object store's key of the Parquet file."""
        return f"snapshots/{self.digest}/data.parquet"


class SourceFile(Record):
    """A file as it was when it was read; ``stamp`` changes when its content does."""

    path: str
    size_bytes: int
    stamp: str


class DatasetVersion(Record):
    """The rows of a dataset at one time: the snapshots that hold them, in order. ``digest`` names
    the rows as a whole, ``reading`` how they were read."""

    dataset: str
    digest: str
    snapshots: list[str]
    rows: int
    created_at: datetime
    reading: str
    files: list[SourceFile]


class Share(Record):
    """A value and how many rows hold it."""

    value: str
    count: int


class Lengths(Record):
    """How long the texts of a category are: in characters, and in words on average."""

    shortest: int
    longest: int
    mean: float
    mean_words: float


class Gap(Record):
    """The days without a row between a time's first and last: how many, and where most of them
    are in a row (``start`` in epoch seconds)."""

    missing_days: int
    longest_days: int
    start: float


class ColumnProfile(Record):
    """What was found in a column. ``edges`` and ``counts`` are a histogram of a number or a time
    (epoch seconds) for the eye: ``len(edges) == len(counts) + 1``; ``cells`` counts the same values
    between quantiles, for comparison (``profile.cell_edges``). ``top`` are a
    category's values, the commonest first: all where they are no more than 10,000, else 1,000 (of
    a sample, counted in all rows), as of texts and identifiers. ``distinct`` is exact up to 10,000
    and may be approximate beyond."""

    name: str
    kind: Kind
    rows: int
    nulls: int
    distinct: int
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    whole: bool = Field(default=False, description="every value is a whole number")
    quantiles: list[float] = Field(default_factory=list)
    edges: list[float] = Field(default_factory=list)
    counts: list[int] = Field(default_factory=list)
    cells: list[int] = Field(default_factory=list)
    top: list[Share] = Field(default_factory=list)
    lengths: Lengths | None = None
    gap: Gap | None = None

    @property
    def null_share(self) -> float:
        """Nulls as a share of the rows; 0 for an empty column."""
        return self.nulls / self.rows if self.rows else 0.0


class Profile(Record):
    """The profile of a table, one entry a column, in the table's order."""

    rows: int
    columns: list[ColumnProfile]

    def column(self, name: str) -> ColumnProfile | None:
        """Return the column's profile, or None."""
        return next((c for c in self.columns if c.name == name), None)


class Check(StrEnum):
    """What validation looks for; the spec says how hard each is."""

    RULES = "rules"
    MISSING = "missing"
    EXTRA = "extra"
    REORDERED = "reordered"
    RETYPED = "retyped"
    OUT_OF_RANGE = "out_of_range"
    NEW_CATEGORY = "new_category"
    NULL_SHARE = "null_share"
    DRIFT = "drift"
    LEAK = "leak"
    AFTER_PREDICTION = "after_prediction"
    ODD = "odd"


class Severity(StrEnum):
    """What becomes of a check that fails: the row is set aside (or the run stops, where no row is
    to blame), it is reported, or nothing."""

    HARD = "hard"
    SOFT = "soft"
    OFF = "off"


class Finding(Record):
    """Something validation noticed, in words. A hard one stops the run; rows that a hard check set
    aside are no finding, they are in the quarantine."""

    column: str | None
    check: Check
    words: str
    hard: bool = False


class Decision(Record):
    """What a gate said, with its reasons in words."""

    passed: bool
    reasons: list[str]


class Feature(Record):
    """One input of a model; ``tokens`` says what a category that is a text is taken apart into."""

    name: str
    kind: Kind
    nullable: bool = True
    tokens: Tokens | None = None

    @property
    def read_as(self) -> str:
        """What ``encoding`` reads the values as."""
        return (self.tokens or self.kind).value


class Signature(Record):
    """A model's input and output schema. ``classes`` are the labels in the order of the model's
    probabilities; empty for regression."""

    task: Task
    target: str
    features: list[Feature]
    classes: list[str] = Field(default_factory=list)
    ignored: list[str] = Field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The features' names, in order."""
        return [feature.name for feature in self.features]


class How(StrEnum):
    """How a feature becomes numbers."""

    NUMBER = "number"
    ONE_HOT = "one_hot"
    TARGET_ENCODED = "target_encoded"
    TIME = "time"
    SEASONAL_TIME = "seasonal_time"
    WORDS = "words"
    CHARACTERS = "characters"


class Nulls(StrEnum):
    """What a null becomes: a number, a value of its own, or the commonest category."""

    MEDIAN = "median"
    MEAN = "mean"
    ZERO = "zero"
    COMMONEST = "commonest"
    OWN = "own"


class OutOfRange(StrEnum):
    """What a number beyond those of the training rows becomes."""

    KEEP = "keep"
    CLIP = "clip"
    NULL = "null"


class Unseen(StrEnum):
    """What a category that the training rows don't hold counts as."""

    RARE = "rare"
    NULL = "null"


class Treatment(Record):
    """What becomes of a feature's nulls, and of values that training saw seldom or never."""

    nulls: Nulls
    out_of_range: OutOfRange = OutOfRange.KEEP
    unseen: Unseen = Unseen.RARE
    rare_rows: int = Field(default=0, description="a category with fewer training rows is rare")


class Recipe(Record):
    """A transformer that is not built yet: how each feature becomes numbers."""

    task: Task
    seed: int
    features: dict[str, How]
    treatments: dict[str, Treatment]


class Split(Record):
    """How rows were parted. ``cutoff`` is the first time of the held-out part (ISO 8601)."""

    by: str
    column: str | None
    seed: int
    train_rows: int
    test_rows: int
    cutoff: str | None = None
    tuning_rows: int
    shared_rows: int = Field(
        default=0, description="held-out rows that are also among those learned from"
    )
    held_out: str = Field(description="digest of the snapshot that holds the held-out rows")


Parameter = str | float | int | bool


class Candidate(Record):
    """A family and its parameters, by the order in which they were proposed."""

    number: int
    family: str
    parameters: dict[str, Parameter]


class Report(Record):
    """What became of growing a candidate until it had ``units``: its score, or why there is none;
    and its ``promise``, by which it is held against others at this rung (None: by its score).
    ``seconds`` is what this rung took; ``overhead_s`` what its worker spent beside on handing it
    over; ``at_s`` when it ended, counted from the search's start. A fault that is ``final`` isn't
    worth another attempt."""

    candidate: Candidate
    units: int
    score: float | None
    promise: float | None = None
    seconds: float
    overhead_s: float = 0.0
    at_s: float = 0.0
    fault: str | None = None
    final: bool = False


class Trial(Record):
    """One evaluated candidate. ``curve`` is (resource units used, score) at each report; the score
    is the metric's value with higher better. ``fault`` is why it ended early, if it did."""

    number: int
    family: str
    parameters: dict[str, Parameter]
    curve: list[tuple[int, float]]
    seconds: float
    stopped_early: bool = False
    fault: str | None = None

    @property
    def score(self) -> float | None:
        """The best score reported, nan left out; None for a trial that never reported one."""
        return max((score for _, score in self.curve if not math.isnan(score)), default=None)

    @property
    def units(self) -> int | None:
        """The resource with which it had its best score, the least of it where several tie."""
        return next((units for units, score in self.curve if score == self.score), None)


class ClusterTask(Record):
    """A search as it is submitted to a cluster: the spec's section as JSON, and the versions that
    must be the same there."""

    model: str
    options: str
    versions: dict[str, str]
    start_from: Candidate | None = None


class SearchResult(Record):
    """What a search on a cluster found, and notes on how it went."""

    trials: list[Trial]
    notes: list[str]


class SegmentModel(Record):
    """What answers a segment's rows: a model of its own, or the pooled one, then with ``why`` and
    with no ``family``. Scores are those of its tuning rows, higher better; ``classes`` are the
    codes that its probabilities stand for."""

    key: list[str]
    rows: int
    tuning_rows: int
    family: str | None = None
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    units: int | None = None
    classes: list[int] = Field(default_factory=list)
    score: float | None = None
    pooled_score: float | None = None
    why: str | None = None

    @property
    def words(self) -> str:
        """The segment in words."""
        return " · ".join(self.key)


class FittedSegment(Record):
    """A segment with its ONNX graph in base 64, if it has one of its own. What ``failed`` may do
    better another time."""

    model: SegmentModel
    graph: str | None = None
    failed: bool = False


class FittedSegments(Record):
    """Some of them."""

    segments: list[FittedSegment]


class SegmentPlace(Record):
    """Where a segment's rows lie among all, which are sorted by segment: from, and up to."""

    key: list[str]
    fit: tuple[int, int]
    tuning: tuple[int, int]
    whole: tuple[int, int]


class SegmentsTask(Record):
    """Segments as they are submitted to a cluster. ``objective`` and ``choices`` are training's
    own, as JSON."""

    versions: dict[str, str]
    made_of: str
    objective: str
    choices: str
    min_rows: int
    timeout_s: float
    budget_s: float
    places: list[SegmentPlace]


class SegmentIndex(Record):
    """All segments of a model, and the columns whose values they are."""

    columns: list[str]
    segments: list[SegmentModel]

    @property
    def own(self) -> int:
        """How many have a model of their own."""
        return sum(segment.family is not None for segment in self.segments)


class LearningPoint(Record):
    """The winner's score when it is fitted on so many rows: on rows that it learned from, and on
    those that it didn't."""

    rows: int
    learned: float
    unseen: float


class Training(Record):
    """The outcome of training: every trial, the winner and how it was refitted. Trials' scores are
    the metric with its sign turned so that higher is better."""

    metric: str
    higher_is_better: bool
    trials: list[Trial]
    best: Trial
    search_seconds: float
    refit_seconds: float
    fit_rows: int
    notes: list[str] = Field(default_factory=list)
    segments: SegmentIndex | None = None
    learning: list[LearningPoint] = Field(default_factory=list)

    def value(self, score: float) -> float:
        """Turn a score back into the metric's value."""
        return score if self.higher_is_better else -score


class Parity(Record):
    """How far the ONNX graph's answers are from scikit-learn's on real rows."""

    rows: int
    largest_difference: float
    equal_labels: float | None
    tolerance: float
    passed: bool


class Metric(Record):
    """A metric with its 95 % bootstrap interval; ``higher_is_better`` says which way is up."""

    name: str
    value: float
    low: float
    high: float
    higher_is_better: bool


class Lineage(Record):
    """Run, data, code, parameters and environment behind a version."""

    run_id: str
    snapshot: Snapshot
    split: Split
    spec: str = Field(description="the whole spec, as JSON with every default filled in")
    family: str
    parameters: dict[str, Parameter]
    seed: int
    units: int | None = Field(
        default=None, description="how much of its resource the winner used; None: all"
    )
    code: str = Field(description="Treadle's version and the digest of its source")
    commit: str | None = Field(description="git commit of the working directory, +dirty if so")
    python: str
    packages: dict[str, str]
    environment: str | None = Field(
        default=None, description="key of the whole environment's lock in the object store"
    )
    image: str | None = Field(default=None, description="the container image it was made in")
    dataset: str | None = Field(default=None, description="name of the dataset, and its version")
    dataset_version: int | None = None
    champion: str | None = Field(
        default=None, description="digest of the champion of then, whose schema was enforced"
    )
    who: str = Field(default="", description="who ran it")
    pages: dict[str, str] = Field(
        default_factory=dict, description="the report's pages: name to key in the object store"
    )


class NewVersion(Record):
    """What a model version is made of before the registry gives it a number."""

    name: str
    semver: str
    digest: str
    source: str
    signature: Signature
    metrics: list[Metric]
    lineage: Lineage
    decision: Decision
    registered_at: datetime | None = Field(
        default=None, description="when it was registered, where a backup brought it here"
    )


class ModelVersion(NewVersion):
    """An immutable, registered version."""

    version: int
    created_at: datetime
    aliases: list[str] = Field(default_factory=list)


class Bound(Record):
    """A bound on a metric: ``rmse < 30``."""

    metric: str
    sign: str = Field(pattern="^[<>]=?$")
    value: float = Field(allow_inf_nan=False)

    def holds(self, value: float) -> bool:
        """Say whether a value is within the bound; nan never is."""
        if self.value == value:
            return self.sign.endswith("=")
        return value < self.value if self.sign.startswith("<") else value > self.value


class Query(Record):
    """What versions are looked for: all of it must hold. ``words`` occur in the name, description,
    owner, target, family or features, in any case; ``tags`` are whole values."""

    words: list[str] = Field(default_factory=list)
    tags: dict[str, str] = Field(default_factory=dict)
    bounds: list[Bound] = Field(default_factory=list)
    alias: str | None = None


class ChangeKind(StrEnum):
    """What happened to a model's champion. ``approved``: a person promoted it, where the spec asks
    for one. ``noticed``: it is another than the entry before says, because a promotion was broken
    off or the alias was set elsewhere. ``retired``: it stays as it is, and another version can
    never become it."""

    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"
    APPROVED = "approved"
    NOTICED = "noticed"
    RETIRED = "retired"


class Change(Record):
    """An entry of a model's history: the champion went from one version to another (None: there
    was none). ``id`` tells it from any other."""

    id: str
    kind: ChangeKind
    from_version: int | None
    to_version: int | None
    digest: str | None = Field(description="of the bundle it went to")
    who: str
    why: str
    at: datetime
    retired: int | None = Field(default=None, description="the version that was retired")


class Rollout(Record):
    """What deployment did, with the proof: a request and the answer of the running server."""

    model: str
    version: int
    digest: str
    promoted: bool
    reasons: list[str]
    server: str | None = None
    request: str | None = None
    answer: str | None = None
    latency_ms: float | None = None
    awaits_approval: bool = False

    @staticmethod
    def key(run_id: str) -> str:
        """Return the object store's key of a run's outcome."""
        return f"runs/{run_id}/rollout.json"


class ColumnDrift(Record):
    """Drift of one column by effect size: the Jensen-Shannon distance (base 2, 0 to 1), and for
    numbers also the Wasserstein distance in units of the reference's spread. ``significant`` says
    whether the rows are enough to believe it. ``was`` and ``now`` are the counts behind a picture:
    the reference's histogram or commonest values, then all other values, then nulls."""

    column: str
    distance: float
    shift: float | None = None
    significant: bool
    words: str
    was: list[int] = Field(default_factory=list)
    now: list[int] = Field(default_factory=list)
