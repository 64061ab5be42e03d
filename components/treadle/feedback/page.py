"""Pages on how models do at work: one of a model, one of the fleet."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from treadle import report
from treadle.monitoring import Entry, EntryKind, Evidence, Fleet, FleetRow, Monitoring, Verdict
from treadle.records import Metric
from treadle.report import number

_WORDS = {
    Verdict.HEALTHY: "Healthy: keep it",
    Verdict.WATCH: "Watch: its inputs move",
    Verdict.RETRAIN: "Retrain",
    Verdict.ROLL_BACK: "Roll back: the champion before was better",
    Verdict.INCIDENT: "Data incident: mend its source, nothing is learned from it",
}
_GOOD = {
    Verdict.HEALTHY: True,
    Verdict.WATCH: None,
    Verdict.RETRAIN: False,
    Verdict.ROLL_BACK: False,
    Verdict.INCIDENT: False,
}
# The worst first.
_ORDER = [
    Verdict.INCIDENT,
    Verdict.ROLL_BACK,
    Verdict.RETRAIN,
    Verdict.WATCH,
    Verdict.HEALTHY,
    None,
]
_TONE = {Verdict.HEALTHY: "good", Verdict.WATCH: "warn", None: "soft"}
MOST_STEPS = 8


def render(found: Monitoring, model: str) -> str:
    """Return the page of one look."""
    return report.page("Feedback", _look(found, model))


def of_model(found: Monitoring, model: str, entries: Sequence[Entry]) -> str:
    """Return the page of a model: its newest look, and what was decided before (``entries``, oldest
    first)."""
    last = entries[-1].state if entries else None
    trend = "" if last is None else _trends(found.evidence, last.trend, last.drifts)
    return report.page(
        f"{model} at work", f"<h1>{escape(model)} at work</h1>{trend}{_look(found, model)}"
        + _past(entries)
    )  # fmt: skip


def _trends(seen: Evidence, trend: Sequence[float], drifts: Sequence[float]) -> str:
    name = seen.metric.name if seen.metric else "metric"
    courses = {name: trend, "furthest drift": drifts}
    return "".join(
        f"<p class='soft'>{escape(words)}</p>{report.line(values, f'the course of {words}')}"
        for words, values in courses.items()
        if len(values) > 1
    )


def _look(found: Monitoring, model: str) -> str:
    seen = found.evidence
    return (
        "<h2 id='feedback'>Is it still good later on</h2>"
        + report.verdict(_WORDS[found.verdict], found.reasons, good=_GOOD[found.verdict])
        + _tiles(seen)
        + f"<p>{escape(model)} version {seen.version} on {escape(seen.window)} ({seen.rows:,} rows "
        "looked at), against the rows it was trained on. Distance is Jensen-Shannon: 0 equal, 1 "
        "nothing in common; spreads say how far numbers have moved (Wasserstein).</p>"
        + _drifts(seen)
        + _steps(seen)
    )


def _tiles(seen: Evidence) -> str:
    tiles = []
    if seen.metric:
        tiles.append((_interval(seen.metric), f"{seen.metric.name}, {seen.labelled:,} labels"))
    if seen.estimate and seen.estimate.metric:
        tiles.append((_interval(seen.estimate.metric), "estimated without labels"))
    if seen.reference:
        tiles.append((number(seen.reference.value), f"{seen.reference.name} when it was trained"))
    if seen.against:
        tiles.append((f"{seen.against.gain:+.1%}", f"beside version {seen.against.version}"))
    if seen.skew:
        tiles.append(
            (f"{seen.skew.largest_difference:.1g}", "furthest that serving is from training")
        )
    why = seen.estimate.why if seen.estimate and not seen.estimate.metric else ""
    return report.tiles(tiles) + (f"<p class='soft'>No estimate: {escape(why)}.</p>" if why else "")


def _interval(metric: Metric) -> str:
    return f"{number(metric.value)} ({number(metric.low)} … {number(metric.high)})"


def _drifts(seen: Evidence) -> str:
    rows = [
        [
            escape(drift.column),
            f"{drift.distance:.3f}",
            "" if drift.shift is None else f"{drift.shift:.2f}",
            "yes" if drift.significant else "could be chance",
            f"<div class='why'>{escape(drift.words)}</div>",
            report.bars(drift.now, f"{drift.column} now, and in training", drift.was),
        ]
        for drift in [*([seen.prediction] if seen.prediction else []), *seen.columns]
    ]
    header = ["column", "distance", "spreads", "believable", "what moved most", "now (line: then)"]
    return report.table(header, rows, numeric=(1, 2)) if rows else ""


def _steps(seen: Evidence) -> str:
    if not seen.steps:
        return ""
    rows = [
        [
            escape(step.column),
            f"{step.distance:.3f}",
            f"{step.usual.distance:.3f}",
            "" if step.shift is None else f"{step.shift:.2f}",
            f"{step.nulls[0]:.1%}",
            f"{step.nulls[1]:.1%}",
            "" if step.unseen is None else f"{step.unseen:.1%}",
        ]
        for step in seen.steps[:MOST_STEPS]
    ]
    header = [
        "column",
        "step",
        "furthest in training",
        "spreads",
        "null before",
        "null now",
        "unseen",
    ]
    return (
        "<h3>Since the look before</h3><p>What jumps further than it ever did while the training "
        "rows were collected is a fault upstream.</p>"
        + report.table(header, rows, numeric=(1, 2, 3, 4, 5, 6))
    )


def _past(entries: Sequence[Entry]) -> str:
    rows = [
        [
            f"<div class='when'>{entry.at:%Y-%m-%d %H:%M}</div>",
            escape(_what(entry)),
            f"<div class='why'>{escape('; '.join(entry.reasons[:3]))}</div>",
            escape(entry.who),
        ]
        for entry in reversed(entries)
    ]
    header = ["when (UTC)", "what", "why", "who"]
    return "<h2>What was decided</h2>" + report.table(header, rows) if rows else ""


def _what(entry: Entry) -> str:
    if entry.kind is EntryKind.BEGUN:
        return entry.kind.value
    return (entry.outcome or entry.verdict or entry.kind).value


def of_fleet(fleet: Fleet, link: str | None) -> str:
    """Return the page of every model, the worst first; ``link`` is the address of a model's page,
    with ``{}`` for its name."""
    ordered = sorted(fleet.rows, key=badness)
    counted = Counter(standing(row) for row in ordered)
    tiles = [(f"{count:,}", words) for words, count in counted.items()]
    header = [
        "model",
        "verdict",
        "why",
        "course",
        "now",
        "trained",
        "drift",
        "rows",
        "last look",
    ]
    table = report.table(header, [_line(row, link) for row in ordered], numeric=(4, 5, 6, 7))
    return report.page(
        "Models at work",
        f"<h1>Models at work</h1><p class='soft'>As of {fleet.at:%Y-%m-%d %H:%M} UTC, the worst "
        f"first.</p>{report.tiles(tiles)}{table}",
    )


def standing(row: FleetRow) -> str:
    """Return how a model stands, in a word or two."""
    if row.fault:
        return "can't be looked at"
    return row.verdict.value if row.verdict else "not looked at yet"


def badness(row: FleetRow) -> tuple[bool, bool, int, float, str]:
    """Return what models are ordered by, the worst first."""
    return (
        row.fault is None,
        not row.needs_person,
        _ORDER.index(row.verdict),
        -(row.furthest or 0.0),
        row.model,
    )


def _line(row: FleetRow, link: str | None) -> list[str]:
    name = escape(row.model)
    shown = f'<a href="{escape(link.format(row.model))}">{name}</a>' if link and row.at else name
    tone = "bad" if row.fault else _TONE.get(row.verdict, "bad")
    outcome = f"<br><span class='soft'>{escape(row.outcome.value)}</span>" if row.outcome else ""
    why = row.fault or (row.reasons[0] if row.reasons else row.note)
    name_of = row.reference.name if row.reference else ""
    return [
        f"<div class='name'>{shown} <span class='soft'>v{row.version}</span></div>",
        f"<b class='{tone}'>{escape(standing(row))}</b>{outcome}",
        f"<div class='why'>{escape(why)}</div>",
        report.line(row.trend, f"the course of {row.model}"),
        number(row.metric.value) if row.metric else "",
        f"{number(row.reference.value)} {escape(name_of)}" if row.reference else "",
        "" if row.furthest is None else f"{row.furthest:.2f}",
        f"{row.rows:,}" if row.at else "",
        f"<div class='when'>{row.at:%m-%d %H:%M}</div>" if row.at else "",
    ]
