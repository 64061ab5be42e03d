"""``python -m treadle.training.cluster_job WORK NAME``: a search, or the models of its segments, as
a job of a Ray cluster.

It reads what was submitted from the object store and leaves there what it finds.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from treadle import runtime
from treadle.errors import EnvironmentFault, StoreError, TreadleError
from treadle.ports import ObjectStore
from treadle.search import ClusterWork
from treadle.spec import TrainingOptions
from treadle.training import remote, train


def main(work: str, name: str) -> int:
    """Do the work; return the exit code. A fault's words are the last line of the log."""
    try:
        if ClusterWork(work) is ClusterWork.SEARCH:
            with TemporaryDirectory(prefix="treadle-search-") as scratch:
                _search(name, Path(scratch))
        else:
            _segments(name)
    except TreadleError as error:
        print(f"{error}", file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _search(name: str, directory: Path) -> None:
    store = runtime.object_store()
    try:
        task = remote.fetch(name, store, directory)
    except StoreError as error:
        raise _out_of_reach(store, error) from error
    remote.check_versions(task.versions, remote.own_versions())
    options = TrainingOptions.model_validate_json(task.options)
    problem, _ = train.pose(task.model, directory, options, task.start_from, name)
    trials, notes = train.search(
        problem, runtime.proposer, runtime.cluster_crew(name), store, runtime.cores()
    )
    remote.keep(name, trials, notes, store)


def _segments(name: str) -> None:
    from treadle.training import remote_segments, segments

    store = runtime.object_store()
    try:
        task, shared, places, ledger = remote_segments.fetch(name, store)
    except StoreError as error:
        raise _out_of_reach(store, error) from error
    remote.check_versions(task.versions, remote.own_versions())
    cores, spread, always = runtime.cluster_spread()
    means = segments.Means(None, spread, cores, always)
    fitted = segments.fit_all(shared, places, means, ledger, task.budget_s)
    remote_segments.keep(name, fitted, store)


def _out_of_reach(store: ObjectStore, error: StoreError) -> EnvironmentFault:
    return EnvironmentFault(
        f"the cluster can't read the search from {store.uri('searches')}: {error}; use an "
        "object store that both sides reach, and give the cluster's nodes its keys"
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
