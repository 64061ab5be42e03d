"""The records of the loop: what was seen of a model at work, what was decided, what came of it."""

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from treadle.records import ColumnDrift, Metric, Record

FLEET_KEY = "monitor/fleet.json"


def page_key(model: str | None) -> str:
    """Return the object store's key of a model's page, or of the fleet's."""
    return "monitor/fleet.html" if model is None else f"monitor/models/{model}.html"


class Verdict(StrEnum):
    """What the loop concludes. ``incident``: something upstream is broken, which must be mended
    and not learned."""

    HEALTHY = "healthy"
    WATCH = "watch"
    RETRAIN = "retrain"
    ROLL_BACK = "roll back"
    INCIDENT = "incident"


class Usual(Record):
    """How far a column moved at most from one part of the training rows to the next, of so many
    ``rows`` each: by distance, by its median in spreads, by its share of nulls; and how large a
    share of them lay in one cell at most."""

    rows: int = 0
    distance: float = 0.0
    shift: float = 0.0
    nulls: float = 0.0
    alike: float = 1.0


class Counted(Record):
    """Rows of a column counted over the reference's cells, all other values and nulls last; and the
    median of a number."""

    cells: list[int]
    median: float | None = None


class Step(Record):
    """How far a column moved from the rows before to these: by the Jensen-Shannon distance, what
    chance alone gives taken off, and the median of a number in spreads of the training rows.
    ``nulls`` are shares of the rows, before and now, ``alike`` the largest share that lies in one
    cell now (of numbers, not an outer one), ``unseen`` the share of categories that training didn't
    see (None where that isn't known)."""

    column: str
    distance: float
    shift: float | None = None
    usual: Usual = Usual()
    nulls: tuple[float, float]
    alike: float = 0.0
    unseen: float | None = None
    words: str


class Skew(Record):
    """Logged rows sent once more through the code that training reads tables with: how far the
    answers are from those that were served."""

    rows: int
    largest_difference: float
    passed: bool


class Against(Record):
    """The champion beside the one before it, on the same labelled rows: by how much it is better,
    as a share of the other's metric, with its 95 % interval."""

    version: int
    rows: int
    gain: float
    low: float
    high: float


class Estimate(Record):
    """Performance estimated without labels; ``metric`` is None where that can't be done, and
    ``why`` says so. ``reference`` is what it was on the held-out rows, with their labels."""

    metric: Metric | None
    reference: Metric | None = None
    why: str = ""


class LogState(Record):
    """What is wrong with the log itself: files that can't be read, ids that came twice, rows from
    the future, labels of classes that the model doesn't know."""

    unreadable: list[str] = Field(default_factory=list)
    repeated: int = 0
    ahead: int = 0
    unknown_class: int = 0


class Evidence(Record):
    """What was seen of a champion on later rows. ``rows`` are those whose features were looked at,
    ``labelled`` those by which ``metric`` was measured; ``reference`` is what it was on the rows
    that training held out."""

    model: str
    version: int
    digest: str
    window: str
    rows: int
    since: datetime | None = None
    until: datetime | None = None
    columns: list[ColumnDrift]
    steps: list[Step] = Field(default_factory=list)
    prediction: ColumnDrift | None = None
    labelled: int = 0
    metric: Metric | None = None
    reference: Metric | None = None
    estimate: Estimate | None = None
    against: Against | None = None
    skew: Skew | None = None
    log: LogState = LogState()


class Monitoring(Record):
    """What was seen and decided."""

    verdict: Verdict
    reasons: list[str]
    evidence: Evidence


class EntryKind(StrEnum):
    """What an entry of the loop's record tells. ``decided``: a look and its verdict;
    ``retraining``: it has begun, and from what it learns; ``done``: what came of the decision;
    ``accepted``: a person says that what was taken for an incident is how things are now."""

    DECIDED = "decided"
    BEGUN = "retraining"
    DONE = "done"
    ACCEPTED = "accepted"


class Outcome(StrEnum):
    """What came of a decision."""

    PROMOTED = "promoted"
    KEPT = "kept the champion"
    ROLLED_BACK = "rolled back"
    AWAITS_APPROVAL = "awaits approval"
    NEEDS_PERSON = "needs a person"
    FAILED = "failed"
    OVERTAKEN = "overtaken"


class Learning(Record):
    """What a retraining learns from: the spec as JSON, the snapshot's digest (empty where the
    source is read again), and how many labelled rows it adds to what the champion learned from
    (``added``) and is judged by (``held_out``)."""

    spec: str
    snapshot: str = ""
    added: int = 0
    held_out: int = 0


class Pending(Record):
    """A decision of which nothing has come yet: its entry, the champion that it is about, what to
    learn from once that has begun, or which version to go back to."""

    decision: int
    verdict: Verdict
    version: int
    learning: Learning | None = None
    back_to: int | None = None


class State(Record):
    """What the next look needs to know of those before; every entry carries it, so that the newest
    is enough. ``files`` of the log were looked at in the hour ``new_from`` and later; ``cells`` are
    the counts of the last look at good rows of the champion ``digest``. ``faults`` are the times of
    rows that nothing is learned from (the last ``in_a_row`` of them are of an incident that lasts:
    ``unaccepted`` are its counts), ``begun`` and ``ended`` retrainings of the last days, and
    ``trend`` the course of the metric, ``drifts`` that of the furthest drift, for the eye.
    ``labels`` is how many deliveries of labels there were."""

    digest: str = ""
    files: list[str] = Field(default_factory=list)
    new_from: datetime | None = None
    cells: dict[str, Counted] = Field(default_factory=dict)
    unaccepted: dict[str, Counted] = Field(default_factory=dict)
    faults: list[tuple[datetime, datetime]] = Field(default_factory=list)
    in_a_row: int = 0
    begun: list[datetime] = Field(default_factory=list)
    ended: list[datetime] = Field(default_factory=list)
    trend: list[float] = Field(default_factory=list)
    drifts: list[float] = Field(default_factory=list)
    labels: int = 0
    pending: Pending | None = None


class Entry(Record):
    """An entry of a model's record, appended and never changed."""

    position: int
    kind: EntryKind
    at: datetime
    who: str
    verdict: Verdict | None = None
    reasons: list[str] = Field(default_factory=list)
    evidence: Evidence | None = None
    outcome: Outcome | None = None
    version: int | None = Field(default=None, description="the version that came of it")
    state: State = State()

    @property
    def needs_person(self) -> bool:
        """Say whether it waits for somebody."""
        waits = self.outcome in (Outcome.AWAITS_APPROVAL, Outcome.NEEDS_PERSON, Outcome.FAILED)
        return waits or (self.kind is EntryKind.DECIDED and self.verdict is Verdict.INCIDENT)


class FleetRow(Record):
    """A model in the fleet's table: how it stands, as of the newest entry of its record (None:
    there is none yet). ``fault`` is why it couldn't be looked at."""

    model: str
    version: int
    verdict: Verdict | None = None
    reasons: list[str] = Field(default_factory=list)
    outcome: Outcome | None = None
    at: datetime | None = None
    rows: int = 0
    metric: Metric | None = None
    reference: Metric | None = None
    furthest: float | None = None
    trend: list[float] = Field(default_factory=list)
    position: int | None = None
    needs_person: bool = False
    note: str = ""
    fault: str | None = None


class Fleet(Record):
    """Every model at work, as the last pass left it."""

    at: datetime
    rows: list[FleetRow]
