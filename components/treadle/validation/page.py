"""The validation page: what is in the table, what was noticed, and each column's picture, what
matters most first."""

from datetime import UTC, datetime
from html import escape

from treadle import report
from treadle.records import ColumnDrift, ColumnProfile, Kind
from treadle.validation.gate import Validated

# Bars of a category's commonest values in a picture; the rest is one bar.
_SHOWN = 19


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
    items = "".join(f"<li>{escape(f.words)}</li>" for f in validated.findings)
    return f"<h3>Noticed</h3><ul>{items}</ul>"


def _columns(validated: Validated, target: str) -> str:
    drifts = {drift.column: drift for drift in validated.drifts}
    columns = sorted(
        validated.profile.columns, key=lambda c: _weight(c, validated, drifts), reverse=True
    )
    rows = [_row(column, drifts.get(column.name), validated, target) for column in columns]
    header = ["column", "read as", "nulls", "distinct", "range or commonest values", "now"]
    if validated.known is None:
        return "<h3>Columns</h3>" + report.table(header, rows, numeric=(2, 3))
    legend = (
        "<p class='soft'>Bars are this table, the line is the champion's. Distance is "
        "Jensen-Shannon: 0 equal, 1 nothing in common. What matters most comes first.</p>"
    )
    header[-1:] = ["now and then", "distance", "what moved most"]
    return "<h3>Columns</h3>" + legend + report.table(header, rows, numeric=(2, 3, 6))


def _weight(
    column: ColumnProfile, validated: Validated, drifts: dict[str, ColumnDrift]
) -> tuple[int, float]:
    """Say how much a column matters: what was noticed of it, then how far it has moved."""
    noticed = sum(finding.column == column.name for finding in validated.findings)
    drift = drifts.get(column.name)
    return noticed, drift.distance if drift and drift.significant else 0.0


def _row(
    column: ColumnProfile, drift: ColumnDrift | None, validated: Validated, target: str
) -> list[str]:
    name = escape(column.name) + (" <b>(target)</b>" if column.name == target else "")
    nulls = f"{column.null_share:.1%}" if column.nulls else ""
    row = [name, column.kind.value, nulls, f"{column.distinct:,}", _range(column)]
    if validated.known is None:
        return [*row, _bars(column)]
    was = validated.known.schema.column(column.name)
    if drift is None:
        words = "new" if was is None else ""
        return [*row, _bars(column), "", words]
    distance = f"{drift.distance:.2f}" if drift.significant else f"({drift.distance:.2f})"
    moved = escape(drift.words) if drift.significant else "could be chance"
    return [*row, _both(column, drift), distance, moved if drift.distance else ""]


def _range(column: ColumnProfile) -> str:
    if column.kind is Kind.TIME and column.minimum is not None and column.maximum is not None:
        days = [datetime.fromtimestamp(t, UTC).date() for t in (column.minimum, column.maximum)]
        return f"{days[0]} … {days[1]}"
    if column.minimum is not None:
        return f"{report.number(column.minimum)} … {report.number(column.maximum)}"
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
