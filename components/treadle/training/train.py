"""Search, refit the winner on all training rows, export it as a bundle."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import numpy as np

from treadle import prepared
from treadle.errors import SpecError, nearest
from treadle.halving import Crew, Halving
from treadle.ledger import Ledger
from treadle.metrics import measure
from treadle.ports import ObjectStore
from treadle.records import (
    Candidate,
    How,
    Kind,
    Parameter,
    Parity,
    Recipe,
    Signature,
    Task,
    Training,
    Trial,
)
from treadle.search import Proposer, SearchCluster, SearchProblem
from treadle.spec import Direction, Family, TrainingOptions
from treadle.training import boosters, candidate, remote, sampling, tuning
from treadle.training.families import Objective
from treadle.training.search_space import Space, space_of, within

if TYPE_CHECKING:
    from treadle.training.segments import Spread

AT_ONCE = frozenset({Family.LINEAR, Family.MLP, Family.NEIGHBOURS})
# Each answer of neighbours looks at all rows, which the bundle carries.
MOST_NEIGHBOURS = 20_000
PATIENCE_S = 60.0
# Trials, and notes on how the search went.
Searched = tuple[list[Trial], list[str]]


@dataclass(frozen=True)
class Means:
    """What training may use: who proposes candidates and who grows them, a cluster if there is one,
    the object store, and this machine's cores and memory (None: don't ask)."""

    propose: Callable[[SearchProblem], Proposer]
    crew: Crew
    cluster: SearchCluster | None
    spread: "Spread"
    store: ObjectStore
    cores: int
    free_bytes: int | None = None


def run(
    model: str,
    directory: Path,
    options: TrainingOptions,
    means: Means,
    out: Path,
    start_from: Candidate | None = None,
) -> tuple[Training, Parity]:
    """Train on the prepared ``directory`` and write the bundle to ``out``; ``start_from`` is tried
    first. Rows are drawn where fitting all of them takes more memory than there is."""
    with sampling.fitting(directory, options, means.free_bytes, means.cores) as (chosen, drawn):
        return _run(model, chosen, options, means, out, start_from, drawn)


def _run(
    model: str,
    directory: Path,
    options: TrainingOptions,
    means: Means,
    out: Path,
    start_from: Candidate | None,
    drawn: list[str],
) -> tuple[Training, Parity]:
    problem, objective = pose(model, directory, options, start_from)
    Thread(target=_import_ahead, args=(means, problem), daemon=True).start()
    started = time.monotonic()
    if means.cluster:
        trials, notes = remote.submit(
            problem, model, options, means.cluster, means.store, start_from
        )
    else:
        trials, notes = search(problem, means.propose, means.crew, means.store, means.cores)
    searched = time.monotonic() - started
    best = choose(trials)
    from treadle.training import learning_curve, refit

    learning = learning_curve.points(
        best, directory, objective, means.cores, options.learning_curve_s
    )
    started = time.monotonic()
    rows = prepared.load_training(directory)
    signature = Signature.read(directory / prepared.SIGNATURE)
    pipeline = refit.fit(best, directory, rows, objective, means.cores)
    refitted = time.monotonic() - started
    segmented = None
    if options.segments:
        from treadle.training import segments

        pooled = segments.Pooled(problem, objective, trials, best, rows, pipeline)
        fitters = segments.Means(means.cluster, means.spread, means.cores, means.crew.always)
        segmented = segments.fit(pooled, options, fitters, means.store)
    training = Training(
        metric=problem.metric,
        higher_is_better=problem.higher_is_better,
        trials=trials,
        best=best,
        search_seconds=searched,
        refit_seconds=refitted,
        fit_rows=len(rows.columns),
        notes=drawn + notes,
        segments=segmented.index if segmented else None,
        learning=learning,
    )
    parity = refit.write_bundle(pipeline, rows, signature, directory, out, segmented)
    remote.clear(problem.name, means.store)
    return training, parity


def _import_ahead(means: Means, problem: SearchProblem) -> None:
    """Import what takes seconds while candidates are fitted, in the order in which it is needed:
    what proposes candidates after the first ones, then what the refit takes. Where the step itself
    comes to these imports earlier, it waits for them, and its clock counts that."""
    if not means.cluster:
        means.propose(problem)
    import_module("treadle.training.refit")


def pose(
    model: str,
    directory: Path,
    options: TrainingOptions,
    start_from: Candidate | None = None,
    name: str | None = None,
) -> tuple[SearchProblem, Objective]:
    """Return the problem that the prepared rows and the spec pose, under a name that follows from
    them unless one is given. Raises SpecError where they don't fit each other."""
    signature = Signature.read(directory / prepared.SIGNATURE)
    wanted = measure(signature.task, options.objective_metric)
    if options.quantile is not None and signature.task is not Task.REGRESSION:
        raise SpecError(f"training.quantile: there are no quantiles in a {signature.task} task")
    if options.balance_classes and signature.task is Task.REGRESSION:
        raise SpecError("training.balance_classes: a regression has no classes")
    objective = Objective(
        task=signature.task,
        classes=len(signature.classes),
        metric=wanted.name,
        seed=options.seed,
        quantile=options.quantile,
        balanced=options.balance_classes,
        monotonic=_monotonic(options, directory),
    )
    check_segments(signature, options.segments)
    _check_size(options, directory)
    boosters.load(options.families)
    spaces = {f: space_of(f, options.spaces.get(f, {})) for f in options.families}
    problem = SearchProblem(
        name=name or _name(model, directory, options, start_from),
        metric=wanted.name,
        higher_is_better=wanted.higher_is_better,
        spaces={family.value: space.dimensions for family, space in spaces.items()},
        first=_first(spaces, start_from),
        at_once=frozenset(family.value for family in AT_ONCE),
        make_grow=partial(candidate.make_grow, objective),
        data=directory,
        trials=options.trials,
        budget_s=options.budget_s,
        timeout_s=options.trial_timeout_s or max(options.budget_s, PATIENCE_S),
        seed=options.seed,
    )
    return problem, objective


def _first(
    spaces: dict[Family, Space], start_from: Candidate | None
) -> list[tuple[str, dict[str, Parameter]]]:
    """Return what is tried before any is drawn: ``start_from``, as far as the spaces reach, and
    each family's good guess."""
    first = [(family.value, space.first) for family, space in spaces.items()]
    if start_from and start_from.family in spaces:
        warm = within(spaces[Family(start_from.family)], start_from.parameters)
        first = [(start_from.family, warm), *(one for one in first if one[1] != warm)]
    return first


def _name(
    model: str, directory: Path, options: TrainingOptions, start_from: Candidate | None
) -> str:
    """Return a name under which an interrupted search is found again: same data, same options."""
    whole = f"{prepared.digest(directory)}\0{options.model_dump_json()}"
    if start_from:
        whole += f"\0{start_from.model_dump_json()}"
    return f"{model}-{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def search(
    problem: SearchProblem,
    propose: Callable[[SearchProblem], Proposer],
    crew: Crew,
    store: ObjectStore,
    cores: int,
) -> Searched:
    """Run the search on this machine, or on the cluster that this process is a job of."""
    halving = Halving(problem, propose, Ledger(store, problem.name))
    tuning.lead(halving, crew, cores)
    return halving.trials(), halving.notes


def check_segments(signature: Signature, names: Sequence[str]) -> None:
    """Raise SpecError for a column that can't part the rows."""
    of = {feature.name: feature for feature in signature.features}
    for name in names:
        if name not in of:
            raise SpecError(
                f"training.segments: {name!r} is no feature of this model{nearest(name, of)}"
            )
        if of[name].kind is not Kind.CATEGORY or of[name].tokens:
            kind = "text" if of[name].tokens else of[name].kind.value
            raise SpecError(
                f"training.segments: {name!r} is a {kind}, and segments are categories; to take "
                f"its values as such, say validation: {{columns: {{{name}: {{kind: category}}}}}}"
            )


def _check_size(options: TrainingOptions, directory: Path) -> None:
    """Raise SpecError for a family that isn't for tables of this size."""
    if Family.NEIGHBOURS not in options.families:
        return
    rows = len(np.load(directory / "train_y.npy", mmap_mode="r"))
    if rows > MOST_NEIGHBOURS:
        raise SpecError(
            f"training.families: neighbours looks at all training rows for each answer, and there "
            f"are {rows:,}: it is for {MOST_NEIGHBOURS:,} at most; leave it out"
        )


def _monotonic(options: TrainingOptions, directory: Path) -> tuple[int, ...]:
    """Return a direction for each column of the matrix: the numbers come first, one column each."""
    if not options.monotonic:
        return ()
    recipe = Recipe.read(directory / prepared.RECIPE)
    numbers = [name for name, how in recipe.features.items() if how is How.NUMBER]
    for name in options.monotonic:
        if name not in numbers:
            why = "is no number" if name in recipe.features else "is no feature of this model"
            raise SpecError(f"training.monotonic: {name!r} {why}{nearest(name, numbers)}")
    width = int(np.load(directory / "fit_x.npy", mmap_mode="r").shape[1])
    signs = {Direction.INCREASING: 1, Direction.DECREASING: -1}
    given = [signs[options.monotonic[name]] if name in options.monotonic else 0 for name in numbers]
    return tuple(given + [0] * (width - len(given)))


def choose(trials: list[Trial]) -> Trial:
    """Return the trial with the best score at whichever rung, where the refit stops too; the
    earlier one where two tie. What was stopped early is a model like any other."""
    reported = [trial for trial in trials if trial.score is not None]
    return max(reported, key=lambda trial: (trial.score or 0.0, -trial.number))
