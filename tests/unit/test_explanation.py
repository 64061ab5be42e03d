"""Explanations are Shapley values, exact where they say so."""

from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from treadle.explanation import EXACT_UP_TO, explain_row


@dataclass
class Formula:
    """A model that is a formula of its columns, and the bundle around it."""

    of: Any

    @property
    def model(self) -> "Formula":
        return self

    def output(self, columns: dict[str, Any]) -> Any:
        return self.of(*columns.values())


def row(*values: float) -> dict[str, Any]:
    return {f"x{i}": np.array([value]) for i, value in enumerate(values)}


def found(of: Any, *values: float) -> Any:
    return explain_row(Formula(of), row(*values), row(*[0.0] * len(values)))  # type: ignore[arg-type]


def by_definition(of: Any, values: list[float]) -> list[float]:
    """The mean over every order of what a value adds when its turn comes."""
    parts = np.zeros(len(values))
    orders = list(permutations(range(len(values))))
    for order in orders:
        now = [0.0] * len(values)
        for place in order:
            before = of(*[np.array([v]) for v in now])[0]
            now[place] = values[place]
            parts[place] += (of(*[np.array([v]) for v in now])[0] - before) / len(orders)
    return list(parts)


def test_with_few_features_parts_are_the_mean_over_every_order() -> None:
    def of(a: Any, b: Any, c: Any, d: Any) -> Any:
        return a * b * c + np.maximum(b, d) - 3 * a

    why = found(of, 2.0, -1.5, 3.0, 0.5)
    wanted = by_definition(of, [2.0, -1.5, 3.0, 0.5])
    assert [why.parts[f"x{i}"] for i in range(4)] == pytest.approx(wanted)
    assert why.error == 0


def test_parts_add_up_to_what_the_answer_differs_by() -> None:
    def of(*x: Any) -> Any:
        return np.prod([np.cos(v) for v in x], axis=0) + x[0] * x[1] * x[2]

    for many in (3, EXACT_UP_TO, EXACT_UP_TO + 4):
        why = found(of, *np.linspace(0.2, 2, many))
        assert sum(why.parts.values()) == pytest.approx(why.output - why.usual)


def test_with_many_features_parts_are_exact_while_two_act_together() -> None:
    many = EXACT_UP_TO + 6

    def of(*x: Any) -> Any:
        return sum(x) + x[0] * x[1] - 2 * x[3] * x[9]

    values = list(np.arange(1.0, many + 1))
    why = found(of, *values)
    wanted = np.array(values)
    for one, other, times in ((0, 1, 1), (3, 9, -2)):
        wanted[[one, other]] += times * values[one] * values[other] / 2
    assert [why.parts[f"x{i}"] for i in range(many)] == pytest.approx(list(wanted))
    assert why.error == pytest.approx(0, abs=1e-9)


def test_with_many_features_that_all_act_together_it_is_told_how_far_off_parts_may_be() -> None:
    why = found(lambda *x: np.prod(x, axis=0), *[2.0] * (EXACT_UP_TO + 2))
    assert why.error > 0
    assert why == found(lambda *x: np.prod(x, axis=0), *[2.0] * (EXACT_UP_TO + 2))


def test_what_is_as_usual_adds_nothing() -> None:
    why = found(lambda a, b, c: a + b + c, 0.0, 3.0, np.nan)
    assert why.parts["x0"] == 0
    same = explain_row(Formula(lambda a: a), row(np.nan), row(np.nan))  # type: ignore[arg-type]
    assert same.parts == {"x0": 0.0}


def test_a_class_is_explained_by_its_probability() -> None:
    why = found(lambda a, b: np.column_stack([1 - a, a, b * 0]), 0.75, 1.0)
    assert why.parts == {"x0": 0.75, "x1": 0.0}
    assert (why.output, why.usual) == (0.75, 0.0)
