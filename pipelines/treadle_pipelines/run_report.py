"""Put the stages' pages into one report, with what the run came to and what it cost."""

import json
from html import escape
from pathlib import Path
from typing import Any

from treadle import report
from treadle.spec import Spec
from treadle.writing import written_aside
from treadle_pipelines.local import STAGES, Run


def write(current: Run, spec: Spec, home: Path) -> Path:
    """Write the report of a finished run, and its figures as JSON beside it; return the report's
    path, which is the same for every run of a model's version."""
    version = current.results["register"]["version"]
    path = home / "reports" / f"{spec.name}-{version}.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = json.dumps(summary(current, spec, path), ensure_ascii=False, indent=1)
    with written_aside(path) as aside:
        aside.write_text(render(current, spec), encoding="utf-8")
    with written_aside(path.with_suffix(".json")) as aside:
        aside.write_text(figures, encoding="utf-8")
    return path


def render(current: Run, spec: Spec) -> str:
    """Return the report's HTML."""
    paths = list(current.results["register"]["pages"].values())
    paths += [current.results["feedback"]["page"]] if "feedback" in current.results else []
    pages = [report.body_of(Path(path).read_text(encoding="utf-8")) for path in paths]
    body = _head(current, spec) + "".join(pages) + _deployment(current) + _costs(current)
    return report.page(f"{spec.name}: report", body + _spec(spec))


def _head(current: Run, spec: Spec) -> str:
    results = current.results
    registered, deployed = results["register"], results["deploy"]
    metric = registered["metric"]
    state = "champion" if deployed["promoted"] else "challenger"
    tiles = [
        (f"{metric['value']:.4g}", f"{metric['name']} on held-out rows"),
        (f"{registered['rows']:,}", "rows ingested"),
        (registered["family"], f"best of {registered['trials']} candidates"),
        (f"{current.seconds:.0f} s", "from table to served model"),
    ]
    if "feedback" in results:
        tiles.append((results["feedback"]["verdict"], f"on {results['feedback']['window']}"))
    about = " · ".join(escape(words) for words in (spec.description, spec.owner) if words)
    return (
        f"<h1>{escape(spec.name)} <span class='soft'>version {registered['version']} "
        f"({registered['semver']}), {state}</span></h1><p>{about}</p>"
        f"<p class='soft'>Predicts {escape(spec.target)}. Bundle {registered['digest']}, snapshot "
        f"{registered['snapshot']}, run {escape(current.run_id)}.</p>"
        "<nav><a href='#analysis'>How good</a><a href='#training'>Training</a>"
        "<a href='#card'>Card</a><a href='#validation'>Data</a><a href='#feedback'>Later on</a>"
        "<a href='#deployment'>Serving</a><a href='#costs'>Costs</a></nav>" + report.tiles(tiles)
    )


def _deployment(current: Run) -> str:
    deployed = current.results["deploy"]
    if not deployed["promoted"]:
        return "<h2 id='deployment'>Serving</h2>" + report.verdict(
            "It waits for a person's approval"
            if deployed["awaits_approval"]
            else "Not deployed: the champion stays",
            deployed["reasons"],
            good=False,
        )
    return (
        "<h2 id='deployment'>Serving</h2>"
        f"<p>A model server was started, answered with this version's digest, and gave the same "
        f"answers as the bundle. One row took {deployed['latency_ms']:.1f} ms over HTTP:</p>"
        f"<pre>POST /v1/models/{escape(deployed['model'])}/predict\n{escape(deployed['request'])}"
        f"\n\n{escape(deployed['answer'])}</pre>"
    )


def _costs(current: Run) -> str:
    rows: list[list[str]] = []
    ran = {times.stage: times for times in current.times}
    for stage, times in ran.items():
        rows.append([stage, f"{times.work_s:.2f} s", f"{times.overhead_s:.2f} s"])
    cached = [stage for stage in STAGES[:5] if stage not in ran]
    rows += [[stage, "taken from an earlier run", ""] for stage in cached]
    return (
        "<h2 id='costs'>What it cost</h2><p>Work is what a step does; beyond it lie starting a "
        "process, imports and the pipeline's own bookkeeping.</p>"
        + report.table(["step", "work", "beyond it"], rows, numeric=(1, 2))
    )


def _spec(spec: Spec) -> str:
    import yaml

    text = yaml.safe_dump(spec.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    return f"<details><summary>The whole spec</summary><pre>{escape(text)}</pre></details>"


def summary(current: Run, spec: Spec, path: Path) -> dict[str, Any]:
    """Return what a machine wants to know of a run."""
    results = current.results
    return {
        "model": spec.name,
        "run": current.run_id,
        "version": results["register"]["version"],
        "semver": results["register"]["semver"],
        "digest": results["register"]["digest"],
        "promoted": results["deploy"]["promoted"],
        "awaits_approval": results["deploy"]["awaits_approval"],
        "reasons": results["deploy"]["reasons"],
        "metric": results["register"]["metric"],
        "prediction": {k: results["deploy"][k] for k in ("server", "request", "answer")},
        "feedback": results.get("feedback", {}).get("verdict"),
        "seconds": round(current.seconds, 2),
        "steps": [vars(times) for times in current.times],
        "report": str(path),
    }
