"""The proposer: Optuna's tree-structured Parzen estimator (Bergstra et al. 2011)."""

from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from treadle.records import Parameter
from treadle.search import Choice, Proposer, Range, SearchProblem

optuna.logging.set_verbosity(optuna.logging.WARNING)


class TpeProposer:
    """Asks Optuna. The same problem and the same scores give the same candidates. What is tried
    first is put to it too, so that it learns from that."""

    def __init__(self, problem: SearchProblem) -> None:
        self._spaces = problem.spaces
        # Candidates of a cohort are proposed together: the constant liar keeps them apart.
        sampler = optuna.samplers.TPESampler(seed=problem.seed, constant_liar=True)
        self._study = optuna.create_study(sampler=sampler, direction="maximize")
        self._asked: list[optuna.Trial] = []
        for family, point in problem.first:
            labelled = {f"{family}.{name}": value for name, value in point.items()}
            self._study.enqueue_trial({"family": family, **labelled})
        for _ in problem.first:
            self.ask()

    def ask(self) -> tuple[str, dict[str, Parameter]]:
        """Return a family and its parameters: the family first, then those it has."""
        trial = self._study.ask()
        self._asked.append(trial)
        family = str(trial.suggest_categorical("family", sorted(self._spaces)))
        dimensions = self._spaces[family].items()
        return family, {name: _suggest(trial, f"{family}.{name}", d) for name, d in dimensions}

    def tell(self, number: int, curve: list[tuple[int, float]], stopped: bool) -> None:
        """Tell Optuna a candidate's scores: of one that was stopped it knows how far it came."""
        trial = self._asked[number]
        for units, score in curve:
            trial.report(score, units)
        if not curve:
            self._study.tell(trial, state=TrialState.FAIL)
        elif stopped:
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, max(score for _, score in curve))


def _suggest(trial: optuna.Trial, label: str, dimension: Range | Choice) -> Any:
    match dimension:
        case Choice(values=values):
            return trial.suggest_categorical(label, list(values))
        case Range(whole=True):
            low, high = int(dimension.low), int(dimension.high)
            return trial.suggest_int(label, low, high, log=dimension.log)
        case Range():
            return trial.suggest_float(label, dimension.low, dimension.high, log=dimension.log)


if TYPE_CHECKING:
    _: type[Proposer] = TpeProposer
