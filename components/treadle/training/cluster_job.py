"""``python -m treadle.training.cluster_job NAME``: a search, as a job of a Ray cluster.

It reads what was submitted from the object store and leaves there what it finds.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from treadle import runtime
from treadle.errors import EnvironmentFault, StoreError, TreadleError
from treadle.spec import TrainingOptions
from treadle.training import remote, train


def main(name: str) -> int:
    """Run the search; return the exit code. A fault's words are the last line of the log."""
    try:
        with TemporaryDirectory(prefix="treadle-search-") as scratch:
            _search(name, Path(scratch))
    except TreadleError as error:
        print(f"{error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _search(name: str, directory: Path) -> None:
    store = runtime.object_store()
    try:
        task = remote.fetch(name, store, directory)
    except StoreError as error:
        raise EnvironmentFault(
            f"the cluster can't read the search from {store.uri('searches')}: {error}; use an "
            "object store that both sides reach, and give the cluster's nodes its keys"
        ) from error
    remote.check_versions(task.versions, remote.own_versions())
    options = TrainingOptions.model_validate_json(task.options)
    problem, _ = train.pose(task.model, directory, options, task.start_from, name)
    trials, notes = train.search(
        problem, runtime.proposer, runtime.cluster_crew(name), store, runtime.cores()
    )
    remote.keep(name, trials, notes, store)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
