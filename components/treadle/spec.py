"""The spec: everything that describes one model, and nothing that describes a machine.

Each section is what one stage takes; it reaches the step as JSON. Every field carries the words
that ``treadle init`` writes beside it.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from treadle.errors import nearest
from treadle.feedback_spec import Feedback
from treadle.records import Check, How, Kind, Nulls, OutOfRange, Severity, Task, Unseen
from treadle.section import Section


class Format(StrEnum):
    """How a table is written."""

    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    EXCEL = "excel"


class ValueType(StrEnum):
    """What the values of a column of text are."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    DATE = "date"
    TIME = "time"


class Table(Section):
    """One table to read. What is left out is found in the table itself, and reported."""

    path: str = Field(
        description="file, glob or directory (CSV, TSV, JSON lines, Parquet, Excel; .gz, .zst or "
        ".zip too; directories named column=value are columns); s3:// or http(s):// address; "
        "package://PACKAGE/PATH for a file that an installed Python package ships; DuckDB file or "
        "SQLAlchemy URL of a database"
    )
    format: Format | None = Field(
        default=None, description="csv, json, parquet or excel; by the file's ending"
    )
    query: str | None = Field(default=None, description="databases: a table's name, or a query")
    sheet: str | None = Field(default=None, description="Excel: the sheet; the first if left out")
    delimiter: str | None = Field(default=None, description="CSV: found by itself when left out")
    quote: str | None = Field(default=None, max_length=1, description='CSV: as in "; "" for none')
    encoding: str | None = Field(default=None, description="CSV, JSON: as in utf-8 or cp1252")
    header: bool | None = Field(
        default=None, description="CSV, Excel: found by itself (Excel: there) when left out"
    )
    names: list[str] | None = Field(default=None, description="CSV, Excel: names for the columns")
    skip_rows: int = Field(default=0, ge=0, description="CSV, Excel: lines to skip at the top")
    nulls: list[str] | None = Field(
        default=None,
        description="CSV: words that mean no value; else empty, NA, NULL and null, and in columns "
        "of numbers, booleans or times N/A, nan, None, - and ? too",
    )
    decimal: Literal[".", ","] | None = Field(default=None, description="CSV: the decimal mark")
    thousands: Literal[".", ",", " ", "'", "\u00a0", "\u202f"] | None = Field(
        default=None, description="CSV: the mark between thousands"
    )
    dates: list[str] | None = Field(
        default=None,
        min_length=1,
        description='CSV: how dates are written, as in ["%d.%m.%Y", "%d.%m.%Y %H:%M"]',
    )
    types: dict[str, ValueType | list[str]] = Field(
        default_factory=dict,
        description="columns whose type is not to be found: text, integer, number, boolean, date, "
        "time, or its categories in their order, as in {size: [S, M, L]}",
    )


class Source(Section):
    """Where the rows come from: tables by name and the query that joins them."""

    tables: dict[str, Table] = Field(description="the tables, by the names the query uses")
    sql: str | None = Field(
        default=None,
        description="a DuckDB query over the tables; may be left out where there is only one",
    )
    dataset: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9-]{0,62}$",
        description="the name under which `treadle data` lists the rows; the model's if left out",
    )

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: object) -> object:
        """``source: data.csv`` and ``source: {path: data.csv}`` mean one table named ``data``."""
        if isinstance(value, str):
            return {"tables": {"data": {"path": value}}}
        if isinstance(value, dict) and "path" in value:
            table = {key: given for key, given in value.items() if key != "dataset"}
            named = {"dataset": value["dataset"]} if "dataset" in value else {}
            return {"tables": {"data": table}, **named}
        return value

    @model_validator(mode="after")
    def _query_where_needed(self) -> Self:
        if not self.tables:
            raise ValueError("names no table")
        if len(self.tables) > 1 and not self.sql:
            raise ValueError(f"has {len(self.tables)} tables, so it needs `sql` to join them")
        return self


def _as_text(value: object) -> object:
    """Take YAML's 3, 3.0 and true for the texts by which a category knows them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() else str(value)
    return value


def _as_list(value: object) -> object:
    """Take one name for a list of it."""
    return [value] if isinstance(value, str) else value


def _not_false(value: object) -> object:
    """Take YAML's false, which it reads where ``off`` is written, for the word."""
    return "off" if value is False else value


HowHard = Annotated[Severity, BeforeValidator(_not_false)]


class Checks(Section):
    """Each check: hard (sets the row aside, or stops where no row is to blame), soft, or off."""

    rules: HowHard = Field(
        default=Severity.HARD,
        description="what `columns` states of values: kind, required, minimum, maximum, allowed",
    )
    missing: HowHard = Field(
        default=Severity.HARD, description="a column that the champion reads is gone"
    )
    retyped: HowHard = Field(
        default=Severity.HARD, description="values can't be read as what the column was before"
    )
    extra: HowHard = Field(default=Severity.SOFT, description="a column is new")
    reordered: HowHard = Field(default=Severity.SOFT, description="columns changed places")
    out_of_range: HowHard = Field(
        default=Severity.SOFT, description="numbers lie beyond those seen before"
    )
    new_category: HowHard = Field(
        default=Severity.SOFT, description="categories were never seen before"
    )
    null_share: HowHard = Field(
        default=Severity.SOFT, description="the share of nulls moved by null_share_by"
    )
    drift: HowHard = Field(
        default=Severity.SOFT, description="numbers or shares of categories moved by drift_at"
    )
    leak: HowHard = Field(
        default=Severity.SOFT, description="a column by itself gives the target away"
    )
    after_prediction: HowHard = Field(
        default=Severity.SOFT, description="values are from after the prediction_time"
    )
    odd: HowHard = Field(
        default=Severity.SOFT, description="a column is empty, constant, an identifier, or has gaps"
    )


class ColumnRule(Section):
    """What you know of one column."""

    kind: Kind | None = Field(default=None, description="number, boolean, category or time")
    required: bool = Field(default=False, description="quarantine rows where it is null")
    minimum: float | None = Field(
        default=None, allow_inf_nan=False, description="quarantine rows below it"
    )
    maximum: float | None = Field(
        default=None, allow_inf_nan=False, description="quarantine rows above it"
    )
    allowed: list[Annotated[str, BeforeValidator(_as_text)]] | None = Field(
        default=None, description="quarantine any other value"
    )
    known_at: str | None = Field(
        default=None, description="the column that says when this one's value became known"
    )
    checks: dict[Check, HowHard] = Field(
        default_factory=dict, description="how hard checks are for this column"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


class Validation(Section):
    """Stage 2: the gate before anything is learned."""

    max_quarantined: float = Field(
        default=0.05, ge=0, le=1, description="stop when a larger share of rows is quarantined"
    )
    min_rows: int = Field(default=50, ge=10, description="stop with fewer good rows than this")
    null_share_by: float = Field(
        default=0.01, gt=0, lt=1, description="a share of nulls that moved so far is told"
    )
    drift_at: float = Field(
        default=0.2, gt=0, lt=1, description="a column that moved so far is told (Jensen-Shannon)"
    )
    prediction_time: str | None = Field(
        default=None,
        description="the column that says when each row is predicted: what is later isn't known",
    )
    checks: Checks = Checks()
    columns: dict[str, ColumnRule] = Field(
        default_factory=dict,
        description="rules per column: kind, required, minimum, maximum, allowed, known_at, checks",
    )

    def severity(self, check: Check, column: str | None = None) -> Severity:
        """Return how hard a check is, for a column where it has a word of its own."""
        own = self.columns[column].checks if column in self.columns else {}
        general: Severity = getattr(self.checks, check.value)
        return own.get(check, general)


class SplitBy(StrEnum):
    """How to part the rows."""

    RANDOM = "random"
    STRATUM = "stratum"
    TIME = "time"
    GROUP = "group"


class ColumnTreatment(Section):
    """How one column becomes numbers; what is left out is chosen by itself."""

    how: How | None = Field(
        default=None,
        description="number · one_hot, target_encoded, words or characters (of a text, weighted "
        "by TF-IDF) · time, seasonal_time",
    )
    nulls: Nulls | None = Field(
        default=None,
        description="median, mean or zero of a number; own (a category of its own) or commonest",
    )
    out_of_range: OutOfRange = Field(
        default=OutOfRange.KEEP,
        description="numbers beyond those of the training rows: keep, clip or null",
    )
    unseen: Unseen = Field(
        default=Unseen.RARE,
        description="categories that training didn't see: as the rare ones, or as null",
    )
    rare_rows: int | None = Field(
        default=None, ge=0, description="categories with fewer training rows are taken together"
    )


class Preprocessing(Section):
    """Stage 3: which rows and columns the model learns from."""

    exclude: list[str] = Field(default_factory=list, description="columns the model must not see")
    split: SplitBy = Field(
        default=SplitBy.RANDOM,
        description="random, stratum (keeps class shares), time (train on the past) or group",
    )
    split_column: str | None = Field(
        default=None, description="the column of a split by time or group"
    )
    test_share: float = Field(
        default=0.2, gt=0, lt=0.9, description="share of rows held out for analysis"
    )
    onehot_up_to: int = Field(
        default=8,
        ge=0,
        description="categories with more values than this are target-encoded, not one-hot",
    )
    rare_rows: int = Field(
        default=10,
        ge=0,
        description="one-hot categories with fewer training rows than this are taken together",
    )
    shared_rows: HowHard = Field(
        default=Severity.SOFT,
        description="rows that are held out and learned from alike: hard (not learned from), soft "
        "(reported) or off",
    )
    columns: dict[str, ColumnTreatment] = Field(
        default_factory=dict,
        description="how columns become numbers: how, nulls, out_of_range, unseen, rare_rows",
    )

    @model_validator(mode="after")
    def _column_where_needed(self) -> Self:
        needed = self.split in (SplitBy.TIME, SplitBy.GROUP)
        if needed and not self.split_column:
            raise ValueError(f"split: {self.split.value} needs split_column")
        if self.split_column and not needed:
            raise ValueError(f"split_column is set, but split is {self.split.value}")
        return self


class Family(StrEnum):
    """A kind of model."""

    LINEAR = "linear"
    HIST_GRADIENT_BOOSTING = "hist_gradient_boosting"
    FOREST = "forest"
    MLP = "mlp"
    NEIGHBOURS = "neighbours"
    LIGHTGBM = "lightgbm"
    XGBOOST = "xgboost"


# What of each family there is to search; training/search_space.py says where.
PARAMETERS: dict[Family, tuple[str, ...]] = {
    Family.LINEAR: ("regularisation",),
    Family.HIST_GRADIENT_BOOSTING: (
        "learning_rate",
        "max_leaf_nodes",
        "min_samples_leaf",
        "l2_regularization",
    ),
    Family.FOREST: ("max_leaf_nodes", "min_samples_leaf", "max_features"),
    Family.MLP: ("width", "depth", "learning_rate", "regularisation"),
    Family.NEIGHBOURS: ("neighbours",),
    Family.LIGHTGBM: ("learning_rate", "num_leaves", "min_child_samples", "reg_lambda"),
    Family.XGBOOST: ("learning_rate", "max_depth", "min_child_weight", "reg_lambda"),
}
BOOSTING = (Family.HIST_GRADIENT_BOOSTING, Family.LIGHTGBM, Family.XGBOOST)


class Direction(StrEnum):
    """Which way a prediction may go as a number grows."""

    INCREASING = "increasing"
    DECREASING = "decreasing"


class MetricName(StrEnum):
    """What the search optimises and the gate compares."""

    AUTO = "auto"
    RMSE = "rmse"
    MAE = "mae"
    R2 = "r2"
    ROC_AUC = "roc_auc"
    LOG_LOSS = "log_loss"
    ACCURACY = "accuracy"


# scikit-learn's scorers by their names there, by task; those that go by our names are above.
_CLASSES = ("balanced_accuracy", "f1_macro", "f1_micro", "f1_weighted", "precision_macro",
            "recall_macro", "jaccard_macro", "matthews_corrcoef")  # fmt: skip
SCORERS: dict[Task, tuple[str, ...]] = {
    Task.REGRESSION: (
        "neg_median_absolute_error", "neg_mean_absolute_percentage_error", "neg_max_error",
        "neg_mean_squared_log_error", "neg_mean_poisson_deviance", "neg_mean_gamma_deviance",
        "explained_variance", "d2_absolute_error_score",
    ),
    Task.BINARY: (*_CLASSES, "f1", "precision", "recall", "average_precision", "neg_brier_score"),
    Task.MULTICLASS: (*_CLASSES, "roc_auc_ovr", "roc_auc_ovo"),
}  # fmt: skip


class Interval(Section):
    """A part of a parameter's range."""

    low: float = Field(allow_inf_nan=False, description="at least")
    high: float = Field(allow_inf_nan=False, description="at most")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        return self


# A parameter's fixed value, the values to choose from, or a part of its range.
Narrowed = bool | int | float | str | list[bool | int | float | str] | Interval


class TrainingOptions(Section):
    """Stage 4: the search."""

    families: Annotated[list[Family], Field(min_length=1)] = Field(
        default=[Family.LINEAR, Family.HIST_GRADIENT_BOOSTING, Family.FOREST],
        description="linear, hist_gradient_boosting, forest, mlp, neighbours (small tables); with "
        "the extra `boosting`: lightgbm, xgboost",
    )
    spaces: dict[Family, dict[str, Narrowed]] = Field(
        default_factory=dict,
        description="narrow a family's search, as in {forest: {max_leaf_nodes: {low: 64, high: "
        "256}, max_features: [0.5, 1.0], min_samples_leaf: 4}}",
    )
    trials: int = Field(default=16, ge=1, description="how many candidates to try")
    budget_s: float = Field(
        default=120.0, gt=0, description="seconds after which the search ends with the best so far"
    )
    warm_start: bool = Field(
        default=False, description="try what the champion is made of before anything else"
    )
    memory_gib: float | None = Field(
        default=None,
        gt=0,
        description="memory that fitting may take; where the training rows need more, some are "
        "drawn; left out: what is free",
    )
    trial_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="end a candidate that reports nothing for so long; left out: as budget_s, at "
        "least 60",
    )
    tuning_share: float = Field(
        default=0.2, gt=0, lt=0.9, description="share of the training rows that scores candidates"
    )
    metric: str = Field(
        default=MetricName.AUTO.value,
        description="rmse, mae, r2 · roc_auc, log_loss, accuracy, or a scikit-learn scorer by its "
        "name, as in f1_macro; auto: rmse, roc_auc (binary), log_loss (multi-class)",
    )
    quantile: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="regression: predict this quantile and not the mean (0.9: nine in ten answers "
        "lie below); boosting only, and the metric is its pinball loss",
    )
    sample_weight: str | None = Field(
        default=None,
        description="a column that says how much each row counts in fitting; it is no feature",
    )
    balance_classes: bool = Field(
        default=False, description="let every class weigh the same, however rare it is"
    )
    monotonic: dict[str, Direction] = Field(
        default_factory=dict,
        description="numbers that the prediction may only follow, as in {distance: increasing}; "
        "boosting and forests",
    )
    segments: Annotated[list[str], BeforeValidator(_as_list)] = Field(
        default_factory=list,
        description="columns whose values each get a model, as carrier or [carrier, origin], where "
        "that scores better than the pooled one; served as one model",
    )
    segment_rows: int = Field(
        default=100, ge=20, description="segments with fewer training rows have the pooled model"
    )
    segment_trials: int = Field(
        default=4, ge=1, le=32, description="how many of the best candidates each segment tries"
    )
    learning_curve_s: float = Field(
        default=10,
        ge=0,
        allow_inf_nan=False,
        description="seconds for learning whether more rows would help, at most; 0: not asked",
    )
    seed: int = Field(default=0, ge=0, description="one seed for everything that is drawn")

    @model_validator(mode="after")
    def _known_parameters(self) -> Self:
        for family, narrowed in self.spaces.items():
            if family not in self.families:
                raise ValueError(f"spaces narrows {family}, which is not one of its families")
            for name in narrowed:
                if name not in PARAMETERS[family]:
                    known = PARAMETERS[family]
                    near = nearest(name, known) or f"; it has {', '.join(known)}"
                    raise ValueError(f"spaces: {family} has no parameter {name!r}{near}")
        return self

    @property
    def objective_metric(self) -> str:
        """What the search optimises, the gate compares and feedback watches."""
        return self.metric if self.quantile is None else f"pinball_{self.quantile:g}"

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, name: str) -> str:
        known = [*MetricName, *(scorer for of_task in SCORERS.values() for scorer in of_task)]
        if name not in known:
            near = nearest(name, known) or f"; these are: {', '.join(dict.fromkeys(known))}"
            raise ValueError(f"there is no metric {name!r}{near}")
        return name

    @model_validator(mode="after")
    def _families_that_can(self) -> Self:
        if self.quantile is not None:
            _refuse(self.families, BOOSTING, "quantile")
            if self.metric != MetricName.AUTO:
                raise ValueError("quantile: its metric is the pinball loss; leave metric out")
        if self.monotonic:
            _refuse(self.families, (*BOOSTING, Family.FOREST), "monotonic")
        weighing = [family for family in Family if family is not Family.NEIGHBOURS]
        if self.balance_classes:
            _refuse(self.families, weighing, "balance_classes")
        if self.sample_weight is not None:
            _refuse(self.families, weighing, "sample_weight")
        return self


def _refuse(families: Sequence[Family], able: Sequence[Family], key: str) -> None:
    """Refuse families that can't do what ``key`` asks."""
    for family in families:
        if family not in able:
            raise ValueError(
                f"{key}: {family} can't do that; name families among {', '.join(able)}"
            )


class Costs(Section):
    """What a wrong answer costs, of two classes; the second in order is the positive one."""

    false_positive: float = Field(
        default=1, ge=0, allow_inf_nan=False, description="calling it the second class wrongly"
    )
    false_negative: float = Field(
        default=1, ge=0, allow_inf_nan=False, description="missing the second class"
    )

    @model_validator(mode="after")
    def _cost_something(self) -> Self:
        if not self.false_positive + self.false_negative:
            raise ValueError("false_positive and false_negative can't both cost nothing")
        return self


class Analysis(Section):
    """Stage 5: how good it is, for whom, and whether it may go live."""

    slices: list[str] = Field(
        default_factory=list, description="columns whose values are looked at one by one"
    )
    sensitive: list[str] = Field(
        default_factory=list, description="columns by whose values it is asked how fair it is"
    )
    costs: Costs | None = Field(
        default=None,
        description="two classes: what errors cost, as in {false_positive: 1, false_negative: 5}; "
        "a threshold is chosen by it",
    )
    bootstrap: int = Field(default=200, ge=20, description="rounds behind each interval")
    explain_s: float = Field(
        default=10, gt=0, description="seconds for explaining single rows, at most"
    )
    must_beat_by: float = Field(
        default=0.0,
        ge=0,
        description="how much of the champion's error a challenger must take off (0.01: 1 %)",
    )
    must_not_lose_on: list[str] = Field(
        default_factory=list,
        description="columns on none of whose values a challenger may be worse than the champion",
    )
    must_not_lose_by: float = Field(
        default=0.0, ge=0, description="... by more than this share (0.01: 1 %), beyond doubt"
    )
    max_latency_ms: float | None = Field(
        default=None, gt=0, description="milliseconds in which 95 % of single rows are answered"
    )
    max_size_mib: float | None = Field(
        default=None, gt=0, description="the bundle's largest size, in MiB"
    )


class Stage(StrEnum):
    """The steps of the graphs."""

    INGEST = "ingest"
    VALIDATE = "validate"
    PREPROCESS = "preprocess"
    TRAIN = "train"
    ANALYSE = "analyse"
    REGISTER = "register"
    DEPLOY = "deploy"
    FEEDBACK = "feedback"


_QUANTITY = r"^[0-9]+(\.[0-9]+)?([kMGT]i?)?$"


class StepResources(Section):
    """What a single step asks for instead."""

    cpu: float | None = Field(default=None, gt=0, description="processors it is promised")
    cpu_limit: float | None = Field(default=None, gt=0, description="... and may use at most")
    memory: str | None = Field(default=None, pattern=_QUANTITY, description="as in 4Gi")
    retries: int | None = Field(default=None, ge=0, le=10, description="tries after the first")


class Resources(Section):
    """What a step asks for on a cluster; on this machine it means nothing."""

    cpu: float = Field(default=0.25, gt=0, description="processors that a step is promised")
    cpu_limit: float = Field(default=2, gt=0, description="... and may use at most")
    memory: str = Field(
        default="3Gi", pattern=_QUANTITY, description="memory, promised and at most, as in 3Gi"
    )
    retries: int = Field(
        default=2, ge=0, le=10, description="how often a step that was lost is tried again"
    )
    steps: dict[Stage, StepResources] = Field(
        default_factory=dict,
        description="other values for single steps, as in {train: {cpu_limit: 8, memory: 16Gi}}",
    )

    @model_validator(mode="after")
    def _promise_within_limit(self) -> Self:
        for stage in Stage:
            asked = self.of(stage)
            if asked.cpu > asked.cpu_limit:
                raise ValueError(
                    f"{stage.value} is promised {asked.cpu:g} processors (cpu), more than its "
                    f"cpu_limit of {asked.cpu_limit:g}"
                )
        return self

    def of(self, stage: Stage) -> "Resources":
        """Return what one step asks for."""
        own = self.steps.get(stage, StepResources()).model_dump(exclude_none=True)
        return self.model_copy(update=own | {"steps": {}})


class Approval(StrEnum):
    """Whether a person has the last word."""

    NONE = "none"
    REQUIRED = "required"


_OURS = ("treadle.", "mlflow.")


class Spec(Section):
    """A model, from its table to its feedback."""

    name: str = Field(
        pattern=r"^[a-z][a-z0-9-]{0,62}$", description="lower case letters, digits and dashes"
    )
    description: str = Field(default="", description="what it is for, in one sentence")
    owner: str = Field(default="", description="whom to ask")
    tags: dict[str, Annotated[str, BeforeValidator(_as_text)]] = Field(
        default_factory=dict, description="for finding it again, as in {team: risk}"
    )
    approval: Approval = Field(
        default=Approval.NONE,
        description="required: what the gate lets through waits for treadle approve; or none",
    )
    target: str = Field(description="the column to predict")
    task: Task | None = Field(
        default=None, description="regression, binary or multiclass; found by itself if left out"
    )
    source: Source = Field(
        description="one table, as here or as its path alone; or `tables`, by names you give them, "
        "and `sql`, a DuckDB query that joins them"
    )
    validation: Validation = Validation()
    preprocessing: Preprocessing = Preprocessing()
    training: TrainingOptions = TrainingOptions()
    analysis: Analysis = Analysis()
    feedback: Feedback = Feedback()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _target_is_no_feature(self) -> Self:
        if self.target in self.preprocessing.exclude:
            raise ValueError(f"the target {self.target!r} can't be excluded")
        return self

    @model_validator(mode="after")
    def _costs_are_of_two_classes(self) -> Self:
        if self.analysis.costs and self.task not in (None, Task.BINARY):
            raise ValueError(
                f"analysis.costs are those of two classes, and task says {self.task.value}: leave "
                "one of them out"
            )
        return self

    @model_validator(mode="after")
    def _tags_are_plain(self) -> Self:
        for key in self.tags:
            if key.startswith(_OURS) or not re.fullmatch(r"[\w .:/-]{1,100}", key):
                raise ValueError(
                    f"tags: {key!r} can't be a tag's name: up to 100 letters, digits, spaces and "
                    "_ . : / -, not beginning with treadle. or mlflow."
                )
        return self
