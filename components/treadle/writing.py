"""Files and folders that appear whole or not at all: written aside, then put into their place."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4


@contextmanager
def written_aside(path: Path, replace: bool = True) -> Iterator[Path]:
    """Give a path beside ``path`` to write to, of the same ending; what lies there takes its place
    when the block ends well, and is gone when it doesn't. Raises FileExistsError where there is a
    file already and ``replace`` is false: of two who write at once, one wins whole."""
    aside = path.with_name(f".{path.stem}.{uuid4().hex}.part{path.suffix}")
    try:
        yield aside
        if replace:
            aside.replace(path)
        else:
            os.link(aside, path)  # unlike a rename, it fails where another was faster
    finally:
        # After a rename there is none; a fault of the directory is on its way by itself.
        with suppress(OSError):
            aside.unlink()


@contextmanager
def folder_written_aside(path: Path) -> Iterator[Path]:
    """Give an empty folder beside ``path`` to write to, which takes its place when the block ends
    well, and is gone when it doesn't. ``path`` may be an empty folder."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}.part")
    aside.mkdir()
    try:
        yield aside
        aside.replace(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)  # the fault that is on its way says more
        raise
