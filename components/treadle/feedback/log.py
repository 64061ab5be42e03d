"""Read the prediction log, and join the labels that came since to it by id.

Files that were cut short are named and left out, never taken for an end of the log.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from treadle import labels, predictions
from treadle.answers import Output
from treadle.ports import ObjectStore
from treadle.prepared import UNKNOWN_CLASS
from treadle.records import Kind, ModelVersion, Signature

# A window has no more rows than this: the newest.
MOST_ROWS = 1_000_000
ROLE = "champion"
# How far a server's clock may be ahead of this one's.
AHEAD = timedelta(minutes=5)
Mask = npt.NDArray[np.bool_]
Answers = npt.NDArray[np.float64] | npt.NDArray[np.int64]


@dataclass(frozen=True)
class Logged:
    """Rows that one version answered as champion, in the order of time: ids, times (microseconds
    since 1970), features as the model read them, and its output, (n,) values or (n, classes)
    probabilities. ``is_new`` marks those in files that weren't looked at before."""

    table: pa.Table
    at: npt.NDArray[np.int64]
    output: Output
    is_new: Mask
    unreadable: list[str]
    repeated: int = 0
    ahead: int = 0

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.at)

    @cached_property
    def columns(self) -> dict[str, pa.Array]:
        """The features."""
        whole = self.table["features"].combine_chunks()
        return {field.name: whole.field(field.name) for field in whole.type}

    def only(self, kept: Mask) -> "Logged":
        """Return some of the rows."""
        if kept.all():
            return self
        return replace(
            self,
            table=self.table.filter(pa.array(kept)),
            at=self.at[kept],
            output=self.output[kept],
            is_new=self.is_new[kept],
        )

    def looked_at(self) -> "Logged":
        """Return the rows with none of them new."""
        return replace(self, is_new=np.zeros(self.rows, dtype=bool))


@dataclass(frozen=True)
class Labelled:
    """Labels of logged rows: which rows have one (``known``), and the answers of those, as numbers
    or as codes into the signature's classes. ``unknown_class`` counts labels of other classes;
    those rows have none. ``unreadable`` are files of labels that were left out."""

    known: Mask
    answers: Answers
    unknown_class: int = 0
    unreadable: list[str] = field(default_factory=list)


def keys_of(model: str, store: ObjectStore) -> list[str]:
    """Return the keys of a model's log, oldest hour first."""
    return list(store.keys(f"{predictions.PREFIX}/{model}/"))


def hour_in(key: str) -> datetime:
    """Return the hour of a file of the log."""
    _, _, day, hour, _ = key.split("/")
    return datetime.strptime(f"{day} {hour}", "%Y-%m-%d %H").replace(tzinfo=UTC)


def read(
    keys: Sequence[str],
    version: ModelVersion,
    seen: set[str],
    new_from: datetime | None,
    since: datetime | None,
    most_rows: int,
    now: datetime,
    store: ObjectStore,
) -> Logged:
    """Return the newest rows of the log, ``most_rows`` at most, none from an hour before ``since``.
    New are the files of the hour ``new_from`` and later that aren't
    ``seen`` (None: all are).

    An id that comes twice counts once, as it was answered first. Rows from later than ``now`` are
    from a server whose clock is ahead: they are counted, and they stay.
    """
    found: list[tuple[pa.Table, bool]] = []
    unreadable: list[str] = []
    rows = 0
    hour = None
    for key in reversed(_own(keys, version, since)):
        # Within an hour the names of files say nothing of their time.
        if rows >= most_rows and hour_in(key) != hour:
            break
        hour = hour_in(key)
        try:
            table = _rows(store.local(key), version)
        except (pa.ArrowException, OSError):
            unreadable.append(key)
            continue
        fresh = new_from is None or hour_in(key) >= new_from
        found.append((table, fresh and key not in seen))
        rows += table.num_rows
    found.sort(key=lambda each: _begin(each[0]))
    whole = [table for table, _ in found] or [predictions.schema(version.signature).empty_table()]
    is_new = np.repeat([new for _, new in found], [len(table) for table, _ in found])
    logged = _ordered(pa.concat_tables(whole), is_new.astype(bool), unreadable, version, now)
    return logged.only(np.arange(logged.rows) >= logged.rows - most_rows)


def _begin(table: pa.Table) -> int:
    """Return when a file begins: files of one server, one after another, are in order then."""
    return int(table["at"][0].value) if table.num_rows else 0


def read_any(
    keys: Sequence[str], version: ModelVersion, now: datetime, store: ObjectStore
) -> Logged:
    """Return the newest rows that any version answered as champion whose features are this
    version's too. Files that can't be read are left out."""
    wanted = predictions.schema(version.signature)
    found, rows = [], 0
    for key in reversed(keys):
        if rows >= MOST_ROWS:
            break
        try:
            table = pq.read_table(store.local(key))
        except (pa.ArrowException, OSError):
            continue
        if table.schema.field("features").type == wanted.field("features").type:
            found.append(_answered(table))
            rows += found[-1].num_rows
    whole = pa.concat_tables(found) if found else _answered(wanted.empty_table())
    return _ordered(whole, np.ones(whole.num_rows, dtype=bool), [], version, now)


def _own(keys: Sequence[str], version: ModelVersion, since: datetime | None) -> list[str]:
    """Leave out the files of other versions and earlier hours."""
    first = None if since is None else predictions.hour_of(since)
    return [
        key
        for key in keys
        if key.rpartition("/")[2].startswith(f"{version.digest}-")
        and (first is None or hour_in(key) >= first)
    ]


def _rows(path: Path, version: ModelVersion) -> pa.Table:
    schema = predictions.schema(version.signature)
    wanted = [name for name in schema.names if name not in ("version", "digest")]
    return _answered(pq.read_table(path, schema=schema, columns=wanted))


def _answered(table: pa.Table) -> pa.Table:
    champions = pc.equal(table["role"], ROLE)
    if not pc.all(champions, min_count=0).as_py():
        table = table.filter(champions)
    return table.select(["prediction_id", "at", "prediction", "probabilities", "features"])


def _ordered(
    table: pa.Table, is_new: Mask, unreadable: list[str], version: ModelVersion, now: datetime
) -> Logged:
    at = table["at"].cast(pa.int64()).to_numpy()
    if (np.diff(at) < 0).any():
        order = np.argsort(at, kind="stable")
        table, at, is_new = table.take(pa.array(order)), at[order], is_new[order]
    first = _first(table["prediction_id"])
    logged = Logged(
        table,
        at,
        _output(table, version.signature),
        is_new,
        sorted(unreadable),
        repeated=len(at) - int(first.sum()),
        ahead=int((at > int((now + AHEAD).timestamp() * 1e6)).sum()),
    )
    return logged.only(first)


def without(logged: Logged, times: Sequence[tuple[datetime, datetime]]) -> Logged:
    """Leave out the rows that were looked at before and lie in these times."""
    kept = np.ones(logged.rows, dtype=bool)
    for begin, end in times:
        first, last = (int(at.timestamp() * 1e6) for at in (begin, end))
        kept &= (logged.at < first) | (logged.at > last)
    kept |= logged.is_new
    return logged.only(kept)


def plain(values: pa.Array, kind: Kind) -> pa.Array:
    """Return a logged feature as a table would have it: the shortest decimal that a number was
    rounded from."""
    if kind is Kind.NUMBER:
        return values.cast(pa.string()).cast(pa.float64())
    return pc.greater(values, 0) if kind is Kind.BOOLEAN else values


def _first(ids: pa.ChunkedArray) -> Mask:
    """Mark where each id comes first."""
    first = np.zeros(len(ids), dtype=bool)
    if len(ids):
        codes = ids.combine_chunks().dictionary_encode().indices.to_numpy()
        first[np.unique(codes, return_index=True)[1]] = True
    return first


def _output(table: pa.Table, signature: Signature) -> Output:
    if not signature.task.is_classification:
        values: Output = table["prediction"].to_numpy().astype(np.float64)
        return values
    flat = table["probabilities"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat).reshape(table.num_rows, len(signature.classes))


def join(logged: Logged, model: str, signature: Signature, store: ObjectStore) -> Labelled:
    """Return the labels of logged rows: of each row's, the one that became known last."""
    nothing = Labelled(np.zeros(logged.rows, dtype=bool), np.empty(0))
    if not logged.rows:
        return nothing
    # A label may have come before its server's clock says that it was asked.
    since = datetime.fromtimestamp(logged.at[0] / 1e6, UTC) - timedelta(hours=1)
    tables, unreadable = _tables(labels.keys(model, since, store), store)
    if not tables:
        return replace(nothing, unreadable=unreadable)
    given = pa.concat_tables(tables).sort_by([("at", "descending"), ("received_at", "descending")])
    places = pc.index_in(logged.table["prediction_id"], value_set=given["prediction_id"])
    known = places.is_valid().to_numpy()
    values = given["label"].take(places.drop_null())
    if not signature.task.is_classification:
        answers = values.to_numpy().astype(np.float64)
        return Labelled(known, answers, unreadable=unreadable)
    codes = pc.index_in(values, value_set=pa.array(signature.classes))
    coded = codes.fill_null(UNKNOWN_CLASS).to_numpy().astype(np.int64)
    known = known.copy()
    strange = coded == UNKNOWN_CLASS
    known[np.flatnonzero(known)[strange]] = False
    return Labelled(known, coded[~strange], int(strange.sum()), unreadable)


def _tables(keys: Iterator[str], store: ObjectStore) -> tuple[list[pa.Table], list[str]]:
    """Return the files that can be read, and the keys of those that can't."""
    found, unreadable = [], []
    for key in keys:
        try:
            found.append(pq.read_table(store.local(key)))
        except (pa.ArrowException, OSError):
            unreadable.append(key)
    return found, unreadable


def joined_counts(model: str, store: ObjectStore) -> dict[str, int]:
    """Count a model's labels: how many there are, of how many predictions, how many were sent again
    with another value, and how many are of no prediction that was logged (they stay, and count as
    soon as it is); and files that can't be read."""
    given, unreadable = _tables(labels.keys(model, None, store), store)
    if not given:
        nothing = dict.fromkeys(("labels", "predictions", "corrected", "not_joined"), 0)
        return {**nothing, "unreadable_files": len(unreadable)}
    logged = [str(store.local(key)) for key in keys_of(model, store) if _is_whole(key, store)]
    source = f"read_parquet({logged!r})" if logged else "(SELECT NULL AS prediction_id)"
    query = (
        "SELECT count(*), count(DISTINCT prediction_id), (SELECT count(*) FROM (SELECT 1 FROM given"
        " GROUP BY prediction_id HAVING count(DISTINCT label) > 1)), count(DISTINCT prediction_id) "
        "FILTER (prediction_id NOT IN (SELECT prediction_id FROM logged WHERE prediction_id IS NOT "
        "NULL)) FROM given"
    )
    with duckdb.connect() as connection:
        connection.register("given", pa.concat_tables(given))
        connection.execute(f"CREATE VIEW logged AS SELECT prediction_id FROM {source}")
        ((count, ids, corrected, unknown),) = connection.sql(query).fetchall()
    return {"labels": count, "predictions": ids, "corrected": corrected, "not_joined": unknown,
            "unreadable_files": len(unreadable)}  # fmt: skip


def _is_whole(key: str, store: ObjectStore) -> bool:
    try:
        pq.read_metadata(store.local(key))
    except (pa.ArrowException, OSError):
        return False
    return True
