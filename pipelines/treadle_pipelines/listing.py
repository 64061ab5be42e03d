"""What ``treadle models`` prints."""

import json
from datetime import datetime

from treadle import runtime
from treadle.records import ModelVersion


def of_all(as_json: bool) -> str:
    """Return a line a model: its champion and how good it is."""
    registry = runtime.registry()
    champions = {name: registry.aliased(name, "champion") for name in registry.names()}
    if as_json:
        found = [_brief(name, version) for name, version in champions.items()]
        return json.dumps({"models": found}, ensure_ascii=False)
    if not champions:
        home = runtime.settings().home
        return f"no models in {home} yet: treadle run SPEC makes one (or name another --home)"
    rows = [["MODEL", "CHAMPION", "METRIC", "TRAINED"]]
    rows += [_row(name, version) for name, version in champions.items()]
    return columns(rows)


def _brief(name: str, version: ModelVersion | None) -> dict[str, object]:
    champion = None if version is None else version.model_dump(mode="json", exclude={"lineage"})
    return {"name": name, "champion": champion}


def _row(name: str, version: ModelVersion | None) -> list[str]:
    if version is None:
        return [name, "none", "", ""]
    return [name, f"{version.version} ({version.semver})", _metric(version), _when(version)]


def of_model(name: str, as_json: bool) -> str:
    """Return a line a version, newest first, and where the newest comes from."""
    versions = runtime.registry().versions(name)
    if as_json:
        found = [version.model_dump(mode="json") for version in versions]
        return json.dumps({"name": name, "versions": found}, ensure_ascii=False)
    rows = [["VERSION", "SEMVER", "ALIASES", "FAMILY", "METRIC", "TRAINED", "DIGEST"]]
    rows += [
        [
            str(v.version), v.semver, ", ".join(v.aliases), v.lineage.family, _metric(v),
            _when(v), v.digest[:12],
        ]
        for v in versions
    ]  # fmt: skip
    newest = versions[0].lineage
    return "\n".join(
        [
            columns(rows),
            "",
            f"version {versions[0].version} comes from",
            f"  snapshot  {newest.snapshot.digest} ({newest.snapshot.rows:,} rows of "
            f"{newest.snapshot.source})",
            f"  split     {newest.split.by}, {newest.split.train_rows:,} rows to learn from, "
            f"{newest.split.test_rows:,} held out",
            f"  code      {newest.code}{f', commit {newest.commit}' if newest.commit else ''}",
            f"  run       {newest.run_id}",
        ]
    )


def _metric(version: ModelVersion) -> str:
    first = version.metrics[0]
    return f"{first.name} {first.value:.4g} ({first.low:.4g} … {first.high:.4g})"


def _when(version: ModelVersion) -> str:
    return local_time(version.created_at)


def local_time(at: datetime) -> str:
    """Return a time as the clock on this machine's wall shows it."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M")


def columns(rows: list[list[str]]) -> str:
    """Return rows as a table: the columns under each other."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
