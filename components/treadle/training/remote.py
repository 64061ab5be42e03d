"""A search on a cluster: what it needs and what it finds go through the object store.

    searches/<name>/task.json      what to do (records.ClusterTask)
    searches/<name>/data/          the prepared directory's files that candidates are fitted on
    searches/<name>/reports/       every report, as it comes (training/ledger.py)
    searches/<name>/result.json    the trials (records.SearchResult)
    searches/<name>/segments/      the models of segments (training/remote_segments.py)

The name is a digest of data and options, so whoever asks for the same search again finds what
there is of it. No matrix goes through Ray's job API or its client, whatever its size.
"""

import platform
from collections.abc import Sequence
from pathlib import Path

from treadle import __version__
from treadle.code import code_digest
from treadle.errors import EnvironmentFault
from treadle.ports import ObjectStore
from treadle.prepared import RECIPE, SIGNATURE, SPLIT
from treadle.progress import say
from treadle.records import Candidate, ClusterTask, SearchResult, Trial
from treadle.search import ClusterWork, SearchCluster, SearchProblem
from treadle.spec import TrainingOptions

_FILES = ("*.npy", SIGNATURE, RECIPE, SPLIT)


def submit(
    problem: SearchProblem,
    model: str,
    options: TrainingOptions,
    cluster: SearchCluster,
    store: ObjectStore,
    start_from: Candidate | None = None,
) -> tuple[list[Trial], list[str]]:
    """Run a search on a cluster; return its trials and notes."""
    task = ClusterTask(
        model=model,
        options=options.model_dump_json(),
        versions=own_versions() | cluster.versions(),
        start_from=start_from,
    )
    prefix = f"searches/{problem.name}"
    if not store.exists(f"{prefix}/result.json"):
        files = [path for pattern in _FILES for path in sorted(problem.data.glob(pattern))]
        for path in files:
            if not store.exists(f"{prefix}/data/{path.name}"):
                store.put_file(f"{prefix}/data/{path.name}", path)
        size_mib = sum(path.stat().st_size for path in files) / 2**20
        say(f"train: {size_mib:,.0f} MiB of matrices are in the object store")
        store.put_bytes(f"{prefix}/task.json", task.model_dump_json().encode())
        cluster.run(problem.name, ClusterWork.SEARCH)
    result = SearchResult.model_validate_json(store.get_bytes(f"{prefix}/result.json"))
    return result.trials, result.notes


def own_versions() -> dict[str, str]:
    """Return what must be the same on both sides, so that both find the same."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "Treadle": f"{__version__}+{code_digest()}"}


def check_versions(theirs: dict[str, str], ours: dict[str, str]) -> None:
    """Raise EnvironmentFault where the cluster differs from who submitted."""
    for name, wanted in theirs.items():
        found = ours.get(name, wanted)
        if found != wanted:
            raise EnvironmentFault(
                f"the cluster has {name} {found}, and the search was submitted with {wanted}: run "
                "both from the same image (TREADLE_STEP_IMAGE)"
            )


def fetch(name: str, store: ObjectStore, directory: Path) -> ClusterTask:
    """Lay out a submitted search's data in ``directory``; return what to do with them."""
    prefix = f"searches/{name}"
    task = ClusterTask.model_validate_json(store.get_bytes(f"{prefix}/task.json"))
    for key in store.keys(f"{prefix}/data/"):
        (directory / Path(key).name).symlink_to(store.local(key).absolute())
    return task


def keep(name: str, trials: Sequence[Trial], notes: Sequence[str], store: ObjectStore) -> None:
    """Put what was found where the submitter looks for it."""
    result = SearchResult(trials=list(trials), notes=list(notes))
    store.put_bytes(f"searches/{name}/result.json", result.model_dump_json().encode())


def clear(name: str, store: ObjectStore) -> None:
    """Forget a search: what it found is in the bundle."""
    for key in list(store.keys(f"searches/{name}/")):
        store.delete(key)
