"""Which held-out rows the champion learned from: on those it would look better than it is.

With another seed or another split, and after rows were added to a table that is split at random,
what is held out now isn't what was held out then.
"""

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from treadle import snapshots
from treadle.ports import ObjectStore
from treadle.records import Lineage, Split
from treadle.spec import SplitBy
from treadle.sql import connected, quoted, text

Mask = npt.NDArray[np.bool_]


def by_champion(champion: Lineage, split: Split, rows: int, store: ObjectStore) -> Mask | None:
    """Mark those of the split's ``rows`` held-out rows that the champion learned from; None where
    that can't be told, since the champion's rows are no longer kept.

    Rows are the same where all columns are that both snapshots have. One that the champion's own
    split held out too wasn't learned from.
    """
    marked = np.zeros(rows, dtype=bool)
    if champion.split.held_out == split.held_out or _later(champion.split, split):
        return marked
    keys = [champion.snapshot.data_key, _data_key(champion.split), _data_key(split)]
    if not all(store.exists(key) for key in keys):
        return None
    paths = [store.local(key) for key in keys]
    names = _common([snapshots.schema_of(path) for path in paths])
    if not names:
        return marked
    row = f"hash({', '.join(quoted(name) for name in names)})"
    all_rows, then, now = (f"read_parquet({text(str(path))}" for path in paths)
    with connected() as connection:
        found = connection.sql(
            f"SELECT file_row_number FROM {now}, file_row_number = true) "
            f"WHERE {row} IN (SELECT {row} FROM {all_rows})) "
            f"AND {row} NOT IN (SELECT {row} FROM {then}))"
        ).fetchnumpy()["file_row_number"]
    marked[np.asarray(found, dtype=np.int64)] = True
    return marked


def _later(then: Split, now: Split) -> bool:
    """Say whether both splits are by the same time, and what is held out now begins no earlier."""
    if not (then.by == now.by == SplitBy.TIME and then.column == now.column):
        return False
    if then.cutoff is None or now.cutoff is None:
        return False
    return datetime.fromisoformat(then.cutoff) <= datetime.fromisoformat(now.cutoff)


def _data_key(split: Split) -> str:
    return f"snapshots/{split.held_out}/data.parquet"


def _common(schemas: list[pa.Schema]) -> list[str]:
    """Return the columns that are in all, with the same type."""
    first, *others = schemas
    return [
        field.name
        for field in first
        if all(field.name in other.names and other.field(field.name).type == field.type
               for other in others)
    ]  # fmt: skip
