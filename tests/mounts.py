"""File systems of a test's own: small ones, and ones that can't be written to."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

linux_root = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root on Linux may mount a tmpfs"
)


def mount(*arguments: str) -> None:
    """Run ``mount``."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@contextmanager
def mounted_tmpfs(place: Path, options: str) -> Iterator[Path]:
    """Mount a tmpfs at a directory that isn't there yet; skip where nobody may."""
    place.mkdir()
    try:
        mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine lets nobody mount a tmpfs: {error}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
