"""The validation page: what is in the table, what was noticed, and each column's picture, what
matters most first."""

from collections import Counter
from datetime import UTC, datetime
from html import escape

from treadle import report
from treadle.records import ColumnDrift, ColumnProfile, Kind
from treadle.validation.gate import Validated

# Bars of a category's commonest values in a picture; the rest is one bar.
_SHOWN = 19
# What something that was noticed of a column weighs, as a distance.
_NOTICED = 0.05


def render(validated: Validated, rows: int, target: str) -> str:
    """Return the page's HTML; ``rows`` is the snapshot's row count."""
    bad = rows - validated.accepted.rows
    words = f"{validated.accepted.rows:,} of {rows:,} rows are good to learn from"
    reasons = [f"{why}: {n:,} set aside" for why, n in validated.quarantined.items()]
    if validated.set_aside:
        reasons.append(f"they are kept, with their reasons, in {validated.set_aside}")
    parts = [
        "<h2 id='validation'>The data</h2>",
        report.verdict(words, reasons, good=bad == 0 or None),
        _findings(validated),
        _columns(validated, target),
    ]
    return report.page("Validation", "".join(parts))


def _findings(validated: Validated) -> str:
    if not validated.findings:
        return "<p class='soft'>Nothing odd was noticed.</p>"
    weights = _weights(validated)
    first = sorted(validated.findings, key=lambda f: -weights.get(f.column or "", 0.0))
    items = "".join(f"<li>{escape(f.words)}</li>" for f in first)
    return f"<h3>Noticed</h3><ul>{items}</ul>"


def _columns(validated: Validated, target: str) -> str:
    drifts = {drift.column: drift for drift in validated.drifts}
    weights = _weights(validated)
    columns = sorted(validated.profile.columns, key=lambda c: -weights[c.name])
    rows = [_row(column, drifts.get(column.name), validated, target) for column in columns]
    facts = ["read as", "nulls", "distinct", "range or commonest values"]
    if validated.known is None:
        return "<h3>Columns</h3>" + report.table(["column", "now", *facts], rows, numeric=(3, 4))
    legend = (
        "<p class='soft'>Bars are this table, the line is the champion's. Distance is "
        "Jensen-Shannon: 0 equal, 1 nothing in common. What matters most comes first.</p>"
    )
    header = ["column", "now and then", "distance", "what moved most", *facts]
    return "<h3>Columns</h3>" + legend + report.table(header, rows, numeric=(2, 5, 6))


def _weights(validated: Validated) -> dict[str, float]:
    """Say how much each column matters: how far it has moved, and what was noticed of it."""
    moved = {drift.column: drift.distance for drift in validated.drifts if drift.significant}
    noticed = Counter(finding.column for finding in validated.findings)
    names = [column.name for column in validated.profile.columns]
    return {name: moved.get(name, 0.0) + _NOTICED * noticed[name] for name in names}


def _row(
    column: ColumnProfile, drift: ColumnDrift | None, validated: Validated, target: str
) -> list[str]:
    """Return a column's cells: its picture first, so that a phone shows it."""
    name = escape(column.name) + (" <b>(target)</b>" if column.name == target else "")
    nulls = f"{column.null_share:.1%}" if column.nulls else ""
    facts = [column.kind.value, nulls, f"{column.distinct:,}", _range(column)]
    if validated.known is None:
        return [name, _bars(column), *facts]
    was = validated.known.schema.column(column.name)
    if drift is None:
        return [name, _bars(column), "", "new" if was is None else "", *facts]
    distance = f"{drift.distance:.2f}" if drift.significant else f"({drift.distance:.2f})"
    moved = escape(drift.words) if drift.significant else "could be chance"
    words = f'<div style="min-width:11rem">{moved if drift.distance else ""}</div>'
    return [name, _both(column, drift), distance, words, *facts]


def _range(column: ColumnProfile) -> str:
    if column.kind is Kind.TIME and column.minimum is not None and column.maximum is not None:
        days = [datetime.fromtimestamp(t, UTC).date() for t in (column.minimum, column.maximum)]
        return f"{days[0]} … {days[1]}"
    if column.minimum is not None:
        ends = dict.fromkeys(report.number(end) for end in (column.minimum, column.maximum))
        return " … ".join(ends)
    if column.lengths and column.lengths.mean_words > 3:
        return f"texts of {column.lengths.mean_words:.0f} words on average"
    return escape(", ".join(share.value[:20] for share in column.top[:4]))


def _bars(column: ColumnProfile) -> str:
    counts = column.counts or [share.count for share in column.top[: _SHOWN + 1]]
    return report.bars(counts, f"distribution of {column.name}") if counts else ""


def _both(column: ColumnProfile, drift: ColumnDrift) -> str:
    words = f"distribution of {column.name}, now and then"
    return report.bars(_few(drift.now), words, _few(drift.was))


def _few(counts: list[int]) -> list[int]:
    """Keep a picture's bars few: the last two are all other values and nulls."""
    values, rest, nulls = counts[:-2], counts[-2], counts[-1]
    if len(values) <= _SHOWN + 1:
        return [*values, rest, nulls]
    return [*values[:_SHOWN], sum(values[_SHOWN:]) + rest, nulls]
