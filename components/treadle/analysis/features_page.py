"""The part of the analysis page that says why."""

from treadle import report
from treadle.analysis import feature_plots
from treadle.evaluation import Evaluation
from treadle.records import Signature


def render(found: Evaluation, signature: Signature, commonest: str | None) -> str:
    """Return what the model looks at, and why single rows got their answers; ``commonest`` is the
    class whose probability is shown."""
    shown = f"predicted {signature.target}"
    if commonest is not None:
        shown = f"probability of {commonest}"
    parts = [
        "<h3>What it looks at</h3>",
        report.figures(
            [
                feature_plots.importances(found),
                *feature_plots.dependence(found.dependence, signature, shown),
            ]
        ),
    ]
    if found.explained:
        parts += [
            "<h3>Why single rows got their answers</h3>",
            "<p class='soft'>What each value adds to the answer of a row of usual values (baseline "
            "Shapley values, taken from the model that is served). The server gives the same to "
            "any row with <code>explain</code>.</p>",
            report.figures(feature_plots.explained(found.explained)),
        ]
    return "".join(parts)
