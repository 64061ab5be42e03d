"""What ``treadle models`` prints."""

import json
import re
from datetime import datetime

from treadle import runtime
from treadle.errors import SpecError
from treadle.records import Bound, ModelVersion, Query
from treadle.registry import comparison


def of_all(limit: int, page: int, as_json: bool) -> str:
    """Return a line a model: its champion and how good it is."""
    registry = runtime.registry()
    names = registry.names()
    begin = limit * (page - 1)
    champions = {name: registry.aliased(name, "champion") for name in names[begin : begin + limit]}
    if as_json:
        found = [_brief(name, version) for name, version in champions.items()]
        return json.dumps({"models": found, "total": len(names)}, ensure_ascii=False)
    if not names:
        home = runtime.settings().home
        return f"no models in {home} yet: treadle run SPEC makes one (or name another --home)"
    rows = [["MODEL", "CHAMPION", "METRIC", "TRAINED"]]
    rows += [_row(name, version) for name, version in champions.items()]
    last = begin + len(champions)
    if last - begin == len(names):
        return columns(rows)
    more = f"; --page {page + 1} shows more, --find TEXT finds one" if last < len(names) else ""
    return f"{columns(rows)}\n\n{begin + 1:,} to {last:,} of {len(names):,} models{more}"


def found(wanted: Query, limit: int, page: int, as_json: bool) -> str:
    """Return a line for each version that is looked for."""
    versions = runtime.registry().find(wanted, limit + 1, limit * (page - 1))
    shown = versions[:limit]
    has_more = len(versions) > limit
    if as_json:
        listed = [version.model_dump(mode="json", exclude={"lineage"}) for version in shown]
        return json.dumps({"versions": listed, "more": has_more}, ensure_ascii=False)
    if not shown:
        return "no version is like that"
    rows = [["MODEL", "VERSION", "SEMVER", "ALIASES", "METRIC", "TRAINED"]]
    rows += [
        [v.name, str(v.version), v.semver, ", ".join(v.aliases), _metric(v), _when(v)]
        for v in shown
    ]
    return columns(rows) + (f"\n\nthere are more: --page {page + 1}" if has_more else "")


def compared(name: str, one: str, other: str, as_json: bool) -> str:
    """Return two versions side by side: their metrics, and all else that differs."""
    versions = [runtime.version(name, words) for words in (one, other)]
    differences = comparison.compare(*versions)
    if as_json:
        listed = [difference.model_dump() for difference in differences]
        sides = dict(zip(("one", "other"), [v.version for v in versions], strict=True))
        return json.dumps({"model": name, **sides, "compared": listed}, ensure_ascii=False)
    rows = [[name.upper(), *(f"{v.version} ({v.semver})" for v in versions)]]
    rows += [[d.what, d.one, d.other] for d in differences]
    return columns(rows)


_BOUND = re.compile(r"\s*(\w+)\s*([<>]=?)\s*(\S+)\s*")


def query(text: str, tags: list[str], owner: str | None, bounds: list[str]) -> Query:
    """Read what is looked for from the command line. Raises SpecError where it can't be meant."""
    wanted: dict[str, str] = {} if owner is None else {"treadle.owner": owner}
    for words in tags:
        key, equals, value = words.partition("=")
        if not equals:
            raise SpecError(f"--tag {words!r} has no value: say it as in --tag team=risk")
        wanted[key.strip()] = value.strip()
    return Query(words=text.split(), tags=wanted, bounds=[_bound(words) for words in bounds])


def _bound(words: str) -> Bound:
    parts = _BOUND.fullmatch(words)
    try:
        if parts is None:
            raise ValueError(words)
        return Bound(metric=parts[1], sign=parts[2], value=float(parts[3]))
    except ValueError as error:
        raise SpecError(
            f"--where {words!r} is no bound on a metric: say it as in --where 'rmse<30'"
        ) from error


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


def columns(rows: list[list[str]], *, strip: bool = True) -> str:
    """Return rows as a table: the columns under each other. Lines are equally long where they
    aren't to be stripped."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() if strip else line for line in lines)
