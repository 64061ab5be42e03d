"""The validation page: what is in the table and what was noticed."""

from html import escape

from treadle import report
from treadle.records import ColumnProfile, Kind
from treadle.validation.gate import Validated


def render(validated: Validated, rows: int, target: str) -> str:
    """Return the page's HTML; ``rows`` is the snapshot's row count."""
    bad = rows - validated.accepted.rows
    words = f"{validated.accepted.rows:,} of {rows:,} rows are good to learn from"
    reasons = [f"{n:,} rows set aside: {why}" for why, n in validated.quarantined.items()]
    parts = [
        "<h2 id='validation'>The data</h2>",
        report.verdict(words, reasons, good=bad == 0 or None),
        _findings(validated),
        "<h3>Columns</h3>",
        report.table(
            ["column", "read as", "nulls", "distinct", "range or commonest values", ""],
            [_row(column, target) for column in validated.profile.columns],
            numeric=(2, 3),
        ),
    ]
    return report.page("Validation", "".join(parts))


def _findings(validated: Validated) -> str:
    if not validated.findings:
        return "<p class='soft'>Nothing odd was noticed.</p>"
    items = "".join(f"<li>{escape(f.words)}</li>" for f in validated.findings)
    return f"<h3>Noticed</h3><ul>{items}</ul>"


def _row(column: ColumnProfile, target: str) -> list[str]:
    name = escape(column.name) + (" <b>(target)</b>" if column.name == target else "")
    nulls = f"{column.null_share:.1%}" if column.nulls else ""
    return [name, column.kind.value, nulls, f"{column.distinct:,}", _range(column), _bars(column)]


def _range(column: ColumnProfile) -> str:
    if column.kind is Kind.TIME and column.minimum is not None and column.maximum is not None:
        from datetime import UTC, datetime

        days = [datetime.fromtimestamp(t, UTC).date() for t in (column.minimum, column.maximum)]
        return f"{days[0]} … {days[1]}"
    if column.minimum is not None:
        return f"{report.number(column.minimum)} … {report.number(column.maximum)}"
    return escape(", ".join(share.value[:20] for share in column.top[:4]))


def _bars(column: ColumnProfile) -> str:
    counts = column.counts or [share.count for share in column.top[:20]]
    return report.bars(counts, f"distribution of {column.name}") if counts else ""
