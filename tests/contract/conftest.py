"""Servers that the contract suites share, started once a session."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # for ``seaweed``, which other suites use too

from seaweed import S3Server, start_seaweedfs

BUCKET = "contract"


@pytest.fixture(scope="session")
def seaweedfs() -> Iterator[S3Server]:
    """A running S3 server with an empty bucket named ``contract``."""
    # Not pytest's own: it keeps the directories of three sessions, and this one gets large.
    with (
        TemporaryDirectory(prefix="seaweedfs-") as directory,
        start_seaweedfs(Path(directory)) as server,
    ):
        server.client().make_bucket(BUCKET)
        yield server
