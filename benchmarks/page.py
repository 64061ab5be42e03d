"""One HTML page of what every benchmark came to: ``results/index.html``."""

import io
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import results
from results import RESULTS

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullFormatter

_STYLE = """:root{color-scheme:light}body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;
margin:auto;padding:1rem;color:#1d2329}table{border-collapse:collapse;margin:.5rem 0}
th,td{text-align:left;padding:.3rem .8rem;border-bottom:1px solid #d9dee3}td.n{text-align:right;
font-variant-numeric:tabular-nums}.soft{color:#5b6670}.bad{color:#b3261e}svg{max-width:100%}"""


def write(runs: dict[str, tuple[dict[str, Any], list[Any]]]) -> Path:
    """Write the page: a part for each benchmark, with the machine that it ran on."""
    parts = [_part(name, found, ratios) for name, (found, ratios) in runs.items()]
    html = (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>What Treadle costs</title>"
        f"<style>{_STYLE}</style><h1>What Treadle costs</h1><p class=soft>Bars to the right of 1: "
        f"Treadle is ahead of the peer; to the left: behind, in red where it misses a limit. "
        f"Ratios travel, seconds don't.</p>"
        f"{''.join(parts)}</html>"
    )
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _part(name: str, found: dict[str, Any], ratios: list[Any]) -> str:
    machine = found["machine"]
    where = (f"{found['at'][:16].replace('T', ' ')} UTC, {machine['cores']} cores, "
             f"{machine['memory_gib']:.0f} GiB, Python {machine['python']}")  # fmt: skip
    parts = [f"<h2>{escape(name)}</h2><p class=soft>{escape(where)}</p>"]
    if ratios:
        parts += [plotted(ratios), _listed(ratios)]
    parts.append(_figures(found))
    if growth := found.get("growth"):
        parts.append(_grown(growth))
    if failed := found.get("failed"):
        parts.append(f"<p class=bad>Left out, because they failed: {escape(', '.join(failed))}.")
    return "".join(parts) if ratios or parts[-1] else ""


def plotted(ratios: list[Any]) -> str:
    """Draw each ratio as a bar on a logarithmic axis, as SVG."""
    figure, axes = plt.subplots(figsize=(9, 0.7 + 0.32 * len(ratios)), layout="constrained")
    ahead = [min(max(ratio.ahead, 1e-3), 1e4) for ratio in ratios][::-1]
    colours = [_colour(ratio) for ratio in ratios][::-1]
    axes.barh(range(len(ratios)), [value - 1 for value in ahead], left=1, color=colours, height=0.6)
    axes.set_yticks(range(len(ratios)), [ratio.name for ratio in ratios][::-1], fontsize=8)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.axvline(1, color="#5b6670", linewidth=1)
    axes.set_xlabel("times ahead")
    return _drawn(figure)


def _colour(ratio: Any) -> str:
    """Red misses its limit; green is ahead, and grey behind."""
    if not ratio.holds:
        return "#b3261e"
    return "#1a7f4b" if ratio.ahead >= 1 else "#8a949e"


def _grown(growth: dict[str, Any]) -> str:
    """Draw time by size, on logarithmic axes: a panel for rows and one for models."""
    kinds = sorted({grown["of"] for grown in growth.values()}, reverse=True)
    figure = plt.figure(figsize=(9, 5), layout="constrained")
    panels = figure.subplots(1, len(kinds), squeeze=False)[0]
    for kind, axes in zip(kinds, panels, strict=True):
        for name, grown in growth.items():
            if grown["of"] == kind:
                label = f"{name} ({grown['exponent']:.2f}; {grown['exponent_steady']:.2f})"
                dashes = "--" if name.startswith("MLflow") else "-"
                axes.loglog(grown["sizes"], grown["seconds"], dashes, marker="o", label=label)
        axes.set_xlabel(kind)
        axes.set_ylabel("seconds")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.15), fontsize=8)
    words = "Exponents in brackets: of all sizes; of the larger ones alone. 1 is linear."
    return f"<h3>How time grows</h3><p class=soft>{words}</p>{_drawn(figure)}"


def _drawn(figure: Any) -> str:
    """Return a figure as SVG, and close it."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    plt.close(figure)
    return drawn.getvalue().partition("<svg")[1] + drawn.getvalue().partition("<svg")[2]


def _listed(ratios: list[Any]) -> str:
    rows = [
        f"<tr><td>{escape(ratio.name)}<td class=n>{ratio.number:.3g}"
        f"<td class=n>{'' if ratio.limit is None else f'{ratio.limit:.3g}'}"
        f"<td>{'' if ratio.holds else '<b class=bad>missed</b>'}"
        for ratio in ratios
    ]
    return f"<table><tr><th>measure<th>ratio<th>limit<th>{''.join(rows)}</table>"


def _figures(found: dict[str, Any]) -> str:
    rows = []
    for name, value, limit in results.figures(found):
        over = limit is not None and value > limit
        rows.append(
            f"<tr><td>{escape(name)}<td class=n>{value:.3g}<td class=n>"
            f"{'' if limit is None else f'{limit:g}'}<td>{'<b class=bad>over</b>' if over else ''}"
        )
    head = "<table><tr><th>figure<th>measured<th>limit<th>"
    return f"{head}{''.join(rows)}</table>" if rows else ""
