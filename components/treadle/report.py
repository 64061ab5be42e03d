"""HTML for people: one self-contained page, readable on a phone, dark and light, no network.

A stage writes a whole page; ``body_of`` takes its inside out again, so that the launcher can put
the stages' pages into one.
"""

import io
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The ink that figures are drawn in; on the page it becomes that of the text.
_INK = "#111111"
_FIGURE = "figure-"
_BEGIN, _END = "<!-- stage -->", "<!-- /stage -->"
_STYLE = """
:root{color-scheme:light dark;--ink:#1d2329;--soft:#5b6670;--line:#d9dee3;--page:#fff;
--card:#f6f7f9;--good:#1a7f4b;--bad:#b3261e;--warn:#8a5a00;--mark:#3568b8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ec;--soft:#9aa5af;--line:#353c44;--page:#14181c;
--card:#1c2228;--good:#4cc38a;--bad:#ff8a80;--warn:#e0b050;--mark:#7fa8ea}}
*{box-sizing:border-box}body{margin:0 auto;padding:1.2rem;max-width:64rem;background:var(--page);
color:var(--ink);font:16px/1.5 system-ui,sans-serif;overflow-wrap:anywhere}table{
overflow-wrap:normal}h1{font-size:1.7rem;margin:.2em 0}
h2{font-size:1.25rem;margin:2em 0 .4em;padding-top:.6em;border-top:1px solid var(--line)}
h3{font-size:1.02rem;margin:1.4em 0 .3em}p{margin:.5em 0}.soft{color:var(--soft)}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.9rem;min-width:24rem}
th,td{text-align:left;padding:.28rem .7rem;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.why{min-width:14rem;overflow-wrap:anywhere}.when{white-space:nowrap}.name{min-width:6.5rem}
.good{color:var(--good)}.bad{color:var(--bad)}.warn{color:var(--warn)}
.verdict{overflow-wrap:anywhere;background:var(--card);border-left:4px solid var(--mark);
padding:.7rem 1rem;margin:1rem 0}
.verdict.good{border-color:var(--good);color:inherit}.verdict.bad{border-color:var(--bad);
color:inherit}.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1rem 0}
.tile{background:var(--card);padding:.6rem 1rem;border-radius:6px;min-width:9rem}
.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}figure{margin:1rem 0}
figure svg{max-width:100%;height:auto;display:block}.figures{display:grid;gap:.4rem 1.6rem;
grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr))}figcaption{color:var(--soft);font-size:.88rem}
pre{background:var(--card);padding:.8rem;overflow-x:auto;font-size:.85rem;border-radius:6px}
nav a{margin-right:1rem}a{color:var(--mark)}svg.bars{height:26px;width:110px;display:block}
svg.bars rect{fill:var(--mark)}svg.bars path{fill:none;stroke:var(--warn);stroke-width:1.4}
"""


def page(title: str, body: str) -> str:
    """Return a whole HTML page around ``body``."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f"{_BEGIN}{body}{_END}</body></html>\n"
    )


def body_of(html: str) -> str:
    """Return what ``page`` was given as its body."""
    return html.partition(_BEGIN)[2].rpartition(_END)[0]


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[int] = ()) -> str:
    """Return a table. Cells are HTML (escape what comes from data); ``numeric`` are the columns
    to align right."""

    def cells(tag: str, values: Sequence[str]) -> str:
        right = ' class="n"'
        return "".join(
            f"<{tag}{right if i in numeric else ''}>{value}</{tag}>"
            for i, value in enumerate(values)
        )

    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", header)}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def verdict(words: str, reasons: Sequence[str], good: bool | None = None) -> str:
    """Return a box with a conclusion and its reasons."""
    tone = {True: " good", False: " bad", None: ""}[good]
    items = "".join(f"<li>{escape(reason)}</li>" for reason in reasons)
    return f'<div class="verdict{tone}"><b>{escape(words)}</b><ul>{items}</ul></div>'


def tiles(values: Sequence[tuple[str, str]]) -> str:
    """Return a row of (figure, what it is)."""
    inner = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span class="soft">{escape(words)}</span></div>'
        for value, words in values
    )
    return f'<div class="tiles">{inner}</div>'


def bars(counts: Sequence[int], words: str, before: Sequence[int] = ()) -> str:
    """Return a tiny histogram; ``words`` describe it for who can't see it. With the counts of
    ``before``, it shows shares: now as bars, then as a line over them."""
    whole = [sum(values) or 1 for values in (counts, before)]
    now, then = (
        [n / size for n in values] for values, size in zip((counts, before), whole, strict=True)
    )
    most = max([*now, *then], default=0) or 1
    width = 110 / max(len(counts), 1)

    def height(share: float) -> str:
        return f"{26 - 25 * share / most:.1f}"

    rects = "".join(
        f'<rect x="{i * width:.1f}" y="{height(share)}" width="{max(width - 1, 0.8):.1f}" '
        f'height="{25 * share / most:.1f}"/>'
        for i, share in enumerate(now)
    )
    steps = "".join(f"V{height(share)}h{width:.1f}" for share in then)
    line = f'<path d="M0 26{steps}V26"/>' if then else ""
    return (
        f'<svg class="bars" viewBox="0 0 110 26" role="img" aria-label="{escape(words)}">'
        f"{rects}{line}</svg>"
    )


def line(values: Sequence[float], words: str) -> str:
    """Return a tiny line of values over time, its end marked; ``words`` describe it for who can't
    see it. Nothing for fewer than two."""
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step = 106 / (len(values) - 1)

    def place(position: int) -> tuple[float, float]:
        share = (values[position] - low) / (high - low) if high > low else 0.5
        return 2 + step * position, 24 - 22 * share

    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, range(len(values))))
    x, y = place(len(values) - 1)
    return (
        f'<svg class="bars" viewBox="0 0 110 26" role="img" aria-label="{escape(words)}">'
        f'<polyline points="{points}" fill="none" stroke="var(--mark)" stroke-width="1.6"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="var(--mark)"/></svg>'
    )


def figure(drawing: "Figure", name: str, caption: str) -> str:
    """Return a matplotlib figure as inline SVG. Its ink follows the page's; ``name`` (letters,
    digits, dashes) tells it from the page's others."""
    buffer = io.StringIO()
    # Names within an SVG are the whole page's: without a salt of its own, figures take each
    # other's marks.
    import matplotlib

    with matplotlib.rc_context({"svg.hashsalt": name}):
        drawing.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    # Only what is referred to keeps its name.
    svg = re.sub(r' id="([^"]+)"', lambda mark: mark[0] if f"#{mark[1]}" in svg else "", svg)
    svg = svg.replace(_INK, "currentColor")
    words = escape(caption, quote=True)
    svg = svg.replace("<svg ", f'<svg role="img" aria-label="{words}" ', 1)
    return f'<figure id="{_FIGURE}{name}">{svg}<figcaption>{escape(caption)}</figcaption></figure>'


def figures(drawn: Iterable[str]) -> str:
    """Return figures side by side, as many as there is room for."""
    return f'<div class="figures">{"".join(drawn)}</div>'


def drawings_of(html: str) -> dict[str, str]:
    """Return a page's figures by name, each an SVG that stands by itself, on white."""
    found = re.findall(rf'<figure id="{_FIGURE}([\w-]+)">(<svg.*?</svg>)', html, re.DOTALL)
    alone = 'xmlns="http://www.w3.org/2000/svg" style="background:#fff;color:#111" '
    return {
        name: "<svg " + alone + re.sub(r' xmlns="[^"]*"', "", svg, count=1)[len("<svg ") :]
        for name, svg in found
    }


def new_figure(width: float = 4.2, height: float = 3.0) -> "Figure":
    """Return an empty figure in the report's style; sizes in inches. One of 4.2 is as wide as a
    phone."""
    import matplotlib
    from matplotlib.figure import Figure

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    ink: dict[Any, Any] = dict.fromkeys(inked, _INK)
    matplotlib.rcParams.update(
        ink
        | {
            "svg.fonttype": "none",
            "font.size": 10,
            "font.family": "sans-serif",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )
    return Figure(figsize=(width, height), layout="constrained")


def number(value: float | None) -> str:
    """Write a number for a person: four significant digits, thousands apart; nothing for None."""
    if value is None:
        return ""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
