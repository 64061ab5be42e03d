"""The part of the analysis page that says for whom it is worse."""

from collections.abc import Iterator, Sequence
from html import escape

from treadle import report
from treadle.analysis import plots
from treadle.evaluation import Comparison, Evaluation, Fairness, Group, Search, Slice
from treadle.records import Metric


def render(found: Evaluation) -> str:
    """Return the slices that were found, those of the spec, and the groups it may be unfair to."""
    parts = ["<h3>For whom it is worse</h3>", _search(found.search, found)]
    if found.slices:
        parts += [
            "<h3>The slices of the spec</h3>",
            plots.slices(_worst_first(found), found.metric(found.primary)),
            f"<details><summary>All {len(found.slices)}, the worst first</summary>"
            f"{_slices(found)}</details>",
        ]
    parts += [_fairness(column) for column in found.fairness]
    return "".join(parts)


def _search(search: Search, found: Evaluation) -> str:
    if not search.looked_at:
        return "<p>There are too few held-out rows to search them for slices.</p>"
    looked = (
        f"{search.looked_at:,} values and pairs of values of the features were looked at; told are "
        "those alone that are worse beyond doubt, given so many looks (Holm, 5 %)."
    )
    if not search.worst:
        return f"<p>No slice stands out: {looked}</p>"
    rows = [
        [escape(s.column), escape(s.value), f"{s.rows:,}", *_measured(s.metric, s.why),
         _excess(s.excess)]
        for s in search.worst
    ]  # fmt: skip
    header = ["column", "value", "rows", found.primary, "95 % interval", "loss a row"]
    return f"<p class='soft'>{looked}</p>{report.table(header, rows, numeric=(2, 3, 4, 5))}"


def _excess(excess: float | None) -> str:
    if excess is None:
        return ""
    return f"+{excess:.0%}" if excess < 1 else f"× {1 + excess:.3g}"


def _measured(metric: Metric | None, why: str | None) -> Iterator[str]:
    if metric is None:
        yield from ("undefined", escape(why or ""))
    else:
        yield from (report.number(metric.value), interval(metric))


def interval(metric: Metric) -> str:
    """Write a metric's interval."""
    return f"{report.number(metric.low)} … {report.number(metric.high)}"


def _worst_first(found: Evaluation) -> list[Slice]:
    up = found.metric(found.primary).higher_is_better

    def place(s: Slice) -> tuple[bool, float]:
        if s.metric is None:
            return True, 0.0
        return False, s.metric.value if up else -s.metric.value

    return sorted(found.slices, key=place)


def _slices(found: Evaluation) -> str:
    header = ["column", "value", "rows", found.primary, "95 % interval"]
    compared = any(s.against for s in found.slices)
    if compared:
        header += ["against the champion", "95 % interval", "p"]
    rows = [
        [escape(s.column), escape(s.value), f"{s.rows:,}", *_measured(s.metric, s.why),
         *(_against(s.against) if compared else ())]
        for s in _worst_first(found)
    ]  # fmt: skip
    return report.table(header, rows, numeric=range(2, len(header)))


def _against(comparison: Comparison | None) -> Sequence[str]:
    if comparison is None:
        return ["", "", ""]
    return [
        f"{comparison.gain:+.1%}",
        f"{comparison.low:+.1%} … {comparison.high:+.1%}",
        f"{comparison.p_value:.2g}",
    ]


def _fairness(found: Fairness) -> str:
    names = list(found.differences)
    rows = [[escape(g.value), f"{g.rows:,}", *_figures(g, names)] for g in found.groups]
    rows.append(
        ["<b>largest difference</b>", "", *(report.number(found.differences[n]) for n in names)]
    )
    if found.ratios:
        rows.append(["<b>smallest ratio</b>", "", *(report.number(found.ratios[n]) for n in names)])
    return (
        f"<h3>How fair it is by {escape(found.column)}</h3>"
        f"<p>{escape(_apart(found))}</p>"
        + report.table([found.column, "rows", *names], rows, numeric=range(1, 2 + len(names)))
    )


def _figures(group: Group, names: Sequence[str]) -> list[str]:
    if group.why is not None:
        return [f"undefined: {escape(group.why)}", *[""] * (len(names) - 1)]
    return [report.number(group.figures[name]) for name in names]


def _apart(found: Fairness) -> str:
    """Say what sets the groups most apart."""
    known = [g for g in found.groups if g.why is None]
    if len(known) < 2:
        return "Fewer than two groups are large enough to be compared."
    name, difference = max(found.differences.items(), key=lambda item: _order(item[1]))
    figures = {g.value: g.figures[name] for g in known if g.figures[name] == g.figures[name]}
    if not figures:
        return "No figure is defined in two groups."
    low, high = min(figures, key=figures.__getitem__), max(figures, key=figures.__getitem__)
    return (
        f"The groups are most apart by “{name}”: {report.number(figures[high])} for {high}, "
        f"{report.number(figures[low])} for {low}, a difference of {report.number(difference)}."
    )


def _order(value: float) -> float:
    return value if value == value else -1.0
