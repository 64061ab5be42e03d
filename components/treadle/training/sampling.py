"""Training rows that fitting has no memory for: some of them are drawn, and it is said."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from treadle import prepared
from treadle.errors import DataError
from treadle.progress import say
from treadle.records import Signature
from treadle.spec import TrainingOptions

# What each worker needs beside the shared matrix, in matrices: boosting works on float64, which is
# two, and keeps its bins and gradients.
COPIES = 3
MIN_ROWS = 1_000
_GIB = 2**30


@contextmanager
def fitting(
    directory: Path, options: TrainingOptions, free_bytes: int | None, workers: int
) -> Iterator[tuple[Path, list[str]]]:
    """Yield a prepared directory that fits into memory, and notes on what was left out: the given
    one, or a copy with a part of its rows. Raises DataError where not even MIN_ROWS would fit."""
    allowed = options.memory_gib * _GIB if options.memory_gib else free_bytes
    rows, width = np.load(directory / "fit_x.npy", mmap_mode="r").shape
    needed = 4 * rows * width * (1 + COPIES * workers)
    if allowed is None or needed <= allowed:
        yield directory, []
        return
    share = allowed / needed
    if rows * share < min(MIN_ROWS, rows):
        raise DataError(
            f"fitting takes {needed / _GIB:.1f} GiB for {rows:,} rows of {width:,} columns, and "
            f"there are {max(allowed, 0) / _GIB:.2f} GiB: not enough for {MIN_ROWS:,} rows; give "
            "it more memory (training.memory_gib, resources.steps.train.memory), or leave columns "
            "out (preprocessing.exclude)"
        )
    words = (
        f"fitting all rows takes about {needed / _GIB:.1f} GiB, and "
        f"{'training.memory_gib allows' if options.memory_gib else 'there are'} "
        f"{allowed / _GIB:.1f} GiB: {share:.1%} of the training rows are used, drawn at random"
    )
    signature = Signature.read(directory / prepared.SIGNATURE)
    words += ", each class by its share" if signature.classes else ""
    say(f"train: {words}")
    with TemporaryDirectory(prefix="treadle-drawn-") as scratch:
        _draw(directory, Path(scratch), share, options.seed, bool(signature.classes))
        yield Path(scratch), [words]


def _draw(source: Path, out: Path, share: float, seed: int, classes: bool) -> None:
    """Copy a prepared directory with a part of its training rows. Whatever is drawn from the fit
    and the tuning part is what is drawn from the whole."""
    import pyarrow as pa  # seldom needed, and long to import
    import pyarrow.parquet as pq

    for path in source.glob("*.json"):
        shutil.copyfile(path, out / path.name)
    answers = np.load(source / "train_y.npy")
    tuning = np.load(source / prepared.TUNING_ROWS)
    kept = _drawn(answers if classes else np.zeros(len(answers), np.int64), tuning, share, seed)
    np.save(out / prepared.TUNING_ROWS, tuning[kept])
    for part, rows in (("fit", kept[~tuning]), ("tuning", kept[tuning]), ("train", kept)):
        for name in (f"{part}_x.npy", f"{part}_y.npy", f"{part}_w.npy"):
            if (source / name).exists():
                np.save(out / name, np.load(source / name, mmap_mode="r")[rows])
    file = pq.ParquetFile(source / prepared.TRAIN)
    with pq.ParquetWriter(out / prepared.TRAIN, file.schema_arrow, compression="zstd") as writer:
        begin = 0
        for batch in file.iter_batches():
            wanted = kept[begin : begin + len(batch)]
            writer.write_batch(batch.filter(pa.array(wanted)))
            begin += len(batch)


def _drawn(
    classes: npt.NDArray[Any], tuning: npt.NDArray[np.bool_], share: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Return which rows are drawn: of each class, of the fit and of the tuning part, its share, and
    at least one."""
    random = np.random.default_rng(seed)
    kept = np.zeros(len(classes), dtype=bool)
    for code in np.unique(classes):
        for part in (tuning, ~tuning):
            places = np.flatnonzero((classes == code) & part)
            if len(places):
                count = max(1, int(len(places) * share))
                kept[random.choice(places, count, replace=False)] = True
    return kept
