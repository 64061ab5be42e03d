"""The feedback page."""

from html import escape

from treadle import report
from treadle.records import Monitoring, Verdict

_WORDS = {
    Verdict.HEALTHY: "Healthy: keep it",
    Verdict.WATCH: "Watch: still good, but its inputs move",
    Verdict.RETRAIN: "Retrain",
}
_GOOD = {Verdict.HEALTHY: True, Verdict.WATCH: None, Verdict.RETRAIN: False}


def render(found: Monitoring, model: str) -> str:
    """Return the page's HTML."""
    rows = [
        [
            escape(drift.column),
            f"{drift.distance:.3f}",
            "" if drift.shift is None else f"{drift.shift:.2f}",
            "yes" if drift.significant else "could be chance",
            escape(drift.words),
        ]
        for drift in found.columns
    ]
    header = ["column", "distance", "spreads", "believable", "what moved most"]
    body = (
        "<h2 id='feedback'>Is it still good later on</h2>"
        + report.verdict(_WORDS[found.verdict], found.reasons, good=_GOOD[found.verdict])
        + f"<p>{escape(model)} on {found.window} ({found.rows:,} rows), against the rows it was "
        "trained on. Distance is Jensen-Shannon: 0 equal, 1 nothing in common; spreads say how far "
        "numbers have moved (Wasserstein).</p>" + report.table(header, rows, numeric=(1, 2))
    )
    return report.page("Feedback", body)
