"""Search, refit the winner on all training rows, export it as a bundle."""

import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

from treadle import prepared
from treadle.metrics import measure
from treadle.records import Parity, Signature, Task, Training, Trial
from treadle.search import Grow, SearchProblem
from treadle.spec import MetricName, TrainingOptions
from treadle.training.search_space import SPACES

Search = Callable[[SearchProblem], list[Trial]]


def run(
    name: str, directory: Path, options: TrainingOptions, search: Search, out: Path, cores: int
) -> tuple[Training, Parity]:
    """Train on the prepared ``directory`` and write the bundle to ``out``."""
    signature = Signature.read(directory / prepared.SIGNATURE)
    wanted = measure(signature.task, options.metric)
    problem = SearchProblem(
        name=name,
        metric=wanted.name.value,
        higher_is_better=wanted.higher_is_better,
        spaces={family.value: SPACES[family].dimensions for family in options.families},
        first={family.value: SPACES[family].first for family in options.families},
        make_grow=partial(
            _make_grow, signature.task, len(signature.classes), options.metric, options.seed
        ),
        meanwhile=_preload,
        data=directory,
        trials=options.trials,
        budget_s=options.budget_s,
        seed=options.seed,
    )
    started = time.monotonic()
    trials = search(problem)
    searched = time.monotonic() - started
    best = choose(trials)
    from treadle.training import refit

    started = time.monotonic()
    columns, answers = prepared.load_training(directory)
    pipeline = refit.fit(best, directory, columns, answers, signature, options.seed, cores)
    training = Training(
        metric=wanted.name.value,
        higher_is_better=wanted.higher_is_better,
        trials=trials,
        best=best,
        search_seconds=searched,
        refit_seconds=time.monotonic() - started,
        fit_rows=len(columns),
    )
    parity = refit.write_bundle(pipeline, columns, answers, signature, directory, out)
    return training, parity


def _preload() -> None:
    """Import what the refit needs: it takes seconds, which the search has to spare."""
    import_module("treadle.training.refit")


def _make_grow(task: Task, classes: int, metric: MetricName, seed: int) -> Grow:
    """Import the models where they are fitted, not where the search is led."""
    from treadle.training import candidate

    return candidate.make_grow(task, classes, metric, seed)


def choose(trials: list[Trial]) -> Trial:
    """Return the trial with the best score at its last report; the earlier one where two tie.

    Trials that ran to the end go first: a score after a third of the rounds says less.
    """
    reported = [t for t in trials if t.score is not None and t.score == t.score]
    finished = [trial for trial in reported if not trial.stopped_early] or reported
    return max(finished, key=lambda trial: (trial.score or 0.0, -trial.number))
