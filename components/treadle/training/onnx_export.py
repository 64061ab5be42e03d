"""The whole pipeline as one ONNX graph: one input a feature, plain tensors out.

skl2onnx converts the estimators. The transformer is built here: numbers, times and terms are a few
nodes of arithmetic, categories a look-up table, filled by asking the fitted encoder itself, so that
the graph can't disagree with it.

Inputs, each (n, 1): float32 for numbers and booleans, float64 epoch seconds for times, string for
categories. Outputs, in this order: ``prediction`` float32 (n,); or ``label`` string (n,) and
``probabilities`` float32 (n, classes). An underscore is put behind an output's name that a feature
has taken.
"""

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline

from treadle.encoding import NULL_CATEGORY
from treadle.records import Kind, Signature
from treadle.training import onnx_boosters
from treadle.transformers import (
    CIRCLE_STEPS,
    DAY_S,
    WEEK_OFFSET_S,
    WEEK_S,
    YEAR_S,
    Numbers,
    Terms,
    TimeParts,
)

# 20 is the first that splits texts.
OPSETS = {"": 20, "ai.onnx.ml": 3}
_UNSEEN = "\x00unseen"

_INPUT_TYPES = {
    Kind.NUMBER: TensorProto.FLOAT,
    Kind.BOOLEAN: TensorProto.FLOAT,
    Kind.CATEGORY: TensorProto.STRING,
    Kind.TIME: TensorProto.DOUBLE,
}


def export(pipeline: Pipeline, signature: Signature) -> bytes:
    """Return the fitted ``Pipeline([("transformer", …), ("estimator", …)])`` as ONNX bytes."""
    graph = _Graph(_unused("treadle/", signature))
    columns: ColumnTransformer = pipeline["transformer"]["columns"]
    matrix = graph.matrix(columns)
    width = len(columns.get_feature_names_out())
    estimator = estimator_graph(pipeline["estimator"], width, signature.task.is_classification)
    outputs = graph.splice(estimator, matrix, signature)
    return _whole(graph, signature, outputs, estimator.ir_version)


def export_transformer(transformer: Pipeline, signature: Signature) -> bytes:
    """Return the fitted transformer alone as ONNX bytes: features to ``matrix``."""
    graph = _Graph(_unused("treadle/", signature))
    columns: ColumnTransformer = transformer["columns"]
    name = _unused("matrix", signature)
    graph.nodes.append(helper.make_node("Identity", [graph.matrix(columns)], [name]))
    shape = [None, len(columns.get_feature_names_out())]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
    return _whole(graph, signature, outputs, helper.find_min_ir_version_for(opsets))


def _whole(
    graph: "_Graph", signature: Signature, outputs: list[onnx.ValueInfoProto], ir_version: int
) -> bytes:
    inputs = [
        helper.make_tensor_value_info(f.name, _INPUT_TYPES[f.kind], [None, 1])
        for f in signature.features
    ]
    whole = helper.make_graph(graph.nodes, "treadle", inputs, outputs, initializer=graph.constants)
    opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=ir_version)
    model.producer_name = "treadle"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _unused(name: str, signature: Signature) -> str:
    """Return ``name``, with underscores behind it until no feature's name begins like it."""
    while any(feature.startswith(name) for feature in signature.names):
        name += "_"
    return name


class _Graph:
    """Nodes and constants under way; every name inside begins with ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Iterable[str], domain: str = "", **attributes: Any) -> str:
        output = f"{self._prefix}{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"{self._prefix}constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def matrix(self, columns: ColumnTransformer) -> str:
        """Return the output of the whole transformer."""
        steps = [(step, names) for _, step, names in columns.transformers_ if len(names)]
        return self.add("Concat", [self.block(step, names) for step, names in steps], axis=1)

    def block(self, step: Any, names: list[str]) -> str:
        """Return the output of one transformer of the ColumnTransformer."""
        if isinstance(step, Numbers):
            return self._numbers(step, names)
        if isinstance(step, TimeParts):
            return self._time_parts(step, names[0])
        if isinstance(step, Terms):
            return self._terms(step, names[0])
        return self._looked_up(step, names[0])

    def _numbers(self, step: Numbers, names: list[str]) -> str:
        """Numbers.transform, node by node."""
        numbers = self.add("Concat", names, axis=1)
        for op, limit, instead in (
            ("Less", step.low_, step.below_),
            ("Greater", step.high_, step.above_),
        ):
            if np.isfinite(limit).any():
                beyond = self.add(op, [numbers, self.constant(limit.reshape(1, -1))])
                taken = self.constant(instead.reshape(1, -1))
                numbers = self.add("Where", [beyond, taken, numbers])
        null = self.add("IsNaN", [numbers])
        fill = self.constant(step.fill_.reshape(1, -1))
        filled = self.add("Where", [null, fill, numbers])
        flagged = step.flagged_.astype(np.int64)
        if not len(flagged):
            return filled
        flags = self.add("Gather", [null, self.constant(flagged)], axis=1)
        return self.add("Concat", [filled, self.add("Cast", [flags], to=TensorProto.FLOAT)], axis=1)

    def _terms(self, step: Terms, name: str) -> str:
        """Terms.transform: terms are counted as whole numbers, then weighed in float64."""
        flat = self.add("Reshape", [name, self.constant(np.array([-1], dtype=np.int64))])
        # A row without a token still has one, which no term knows.
        tail = self.constant(np.array([f" {NULL_CATEGORY}"], dtype=object))
        tokens = self._split(self.add("StringConcat", [flat, tail]))
        counts = self.add("TfIdfVectorizer", [tokens], mode="TF", **_terms(step))
        exact = self.add("Cast", [counts], to=TensorProto.DOUBLE)
        rarity = self.constant(step.vectorizer_.idf_.astype(np.float64).reshape(1, -1))
        weights = self.add("Mul", [exact, rarity])
        across = self.constant(np.array([1], dtype=np.int64))
        length = self.add("Sqrt", [self.add("ReduceSumSquare", [weights, across], keepdims=1)])
        empty = self.add("Equal", [length, self.double(0.0)])
        divisor = self.add("Where", [empty, self.double(1.0), length])
        return self.add("Cast", [self.add("Div", [weights, divisor])], to=TensorProto.FLOAT)

    def _split(self, texts: str) -> str:
        """Split texts at spaces: (n,) to (n, most tokens)."""
        tokens, count = (f"{self._prefix}{part}_{len(self.nodes)}" for part in ("tokens", "count"))
        node = helper.make_node("StringSplit", [texts], [tokens, count], delimiter=" ")
        self.nodes.append(node)
        return tokens

    def _looked_up(self, encoder: Any, name: str) -> str:
        """A category's code picks a row of the table; the last row is for the unseen."""
        known = [str(value) for value in encoder[0].categories_[0]]
        asked = np.array([*known, _UNSEEN], dtype=object).reshape(-1, 1)
        rows = encoder.transform(_named(asked, encoder))
        code = self.add(
            "LabelEncoder",
            [name],
            domain="ai.onnx.ml",
            keys_strings=known,
            values_int64s=list(range(len(known))),
            default_int64=len(known),
        )
        flat = self.add("Reshape", [code, self.constant(np.array([-1], dtype=np.int64))])
        return self.add("Gather", [self.constant(np.asarray(rows, dtype=np.float32)), flat], axis=0)

    def _time_parts(self, step: TimeParts, name: str) -> str:
        """TimeParts.transform, node by node: float64 throughout, cast last."""
        null = self.add("IsNaN", [name])
        zero = self.double(0.0)
        known = self.add("Where", [null, zero, name])
        day = self._phase(known, DAY_S)
        week = self._phase(self.add("Add", [known, self.double(WEEK_OFFSET_S)]), WEEK_S)
        daily = [
            self.add("Mul", [day, self.double(24.0)]),
            self.add("Mul", [week, self.double(7.0)]),
            *self._circle(day),
        ]
        year = self._phase(known, YEAR_S) if step.seasonal else None
        seasonal = [] if year is None else [year, *self._circle(year)]
        flag = self.add("Cast", [null], to=TensorProto.FLOAT)

        def finished(part: str) -> str:
            return self.add("Cast", [self.add("Where", [null, zero, part])], to=TensorProto.FLOAT)

        return self.add("Concat", [*map(finished, daily), flag, *map(finished, seasonal)], axis=1)

    def splice(
        self, estimator: onnx.ModelProto, matrix: str, signature: Signature
    ) -> list[onnx.ValueInfoProto]:
        """Put the estimator's graph behind ``matrix``; return the outputs."""
        names = {"X": matrix, "": ""}
        inner = f"{self._prefix}estimator/"
        for constant in estimator.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(constant)
            copy.name = inner + constant.name
            self.constants.append(copy)
        for node in estimator.graph.node:
            spliced = onnx.NodeProto()
            spliced.CopyFrom(node)
            spliced.input[:] = [names.get(name, inner + name) for name in node.input]
            spliced.output[:] = [names.get(name, inner + name) for name in node.output]
            self.nodes.append(spliced)
        results = [inner + output.name for output in estimator.graph.output]
        if not signature.task.is_classification:
            return [self._prediction(results[0], signature)]
        return [self._label(results[0], signature), self._probabilities(results[1], signature)]

    def _prediction(self, column: str, signature: Signature) -> onnx.ValueInfoProto:
        name = _unused("prediction", signature)
        flat = self.constant(np.array([-1], dtype=np.int64))
        self.nodes.append(helper.make_node("Reshape", [column, flat], [name]))
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None])

    def _label(self, code: str, signature: Signature) -> onnx.ValueInfoProto:
        name = _unused("label", signature)
        node = helper.make_node(
            "LabelEncoder",
            [code],
            [name],
            domain="ai.onnx.ml",
            keys_int64s=list(range(len(signature.classes))),
            values_strings=signature.classes,
            default_string="",
        )
        self.nodes.append(node)
        return helper.make_tensor_value_info(name, TensorProto.STRING, [None])

    def _probabilities(self, given: str, signature: Signature) -> onnx.ValueInfoProto:
        name = _unused("probabilities", signature)
        self.nodes.append(helper.make_node("Identity", [given], [name]))
        shape = [None, len(signature.classes)]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def double(self, value: float) -> str:
        """Return a constant of shape (1, 1)."""
        return self.constant(np.array([[value]], dtype=np.float64))

    def _phase(self, seconds: str, period_s: float) -> str:
        turns = self.add("Div", [seconds, self.double(period_s)])
        return self.add("Sub", [turns, self.add("Floor", [turns])])

    def _circle(self, phase: str) -> list[str]:
        turn = self.add("Mul", [phase, self.double(2 * np.pi)])
        steps = self.double(CIRCLE_STEPS)
        waves = [self.add("Mul", [self.add(wave, [turn]), steps]) for wave in ("Sin", "Cos")]
        return [self.add("Div", [self.add("Round", [wave]), steps]) for wave in waves]


def _terms(step: Terms) -> dict[str, Any]:
    """Return the terms as TfIdfVectorizer wants them: all of one length together, from 1 on."""
    terms = [term.split(" ") for term in step.vectorizer_.get_feature_names_out()]
    pool: list[str] = []
    begins, places = [], []
    for length in range(1, step.longest + 1):
        begins.append(len(pool))
        for place, tokens in enumerate(terms):
            if len(tokens) == length:
                pool += tokens
                places.append(place)
    return {
        "min_gram_length": step.shortest,
        "max_gram_length": step.longest,
        "max_skip_count": 0,
        "ngram_counts": begins,
        "ngram_indexes": places,
        "pool_strings": pool,
    }


def _named(values: npt.NDArray[Any], encoder: Any) -> Any:
    """Give the values the column's name that the encoder was fitted with."""
    import pandas as pd

    return pd.DataFrame(values, columns=list(encoder.feature_names_in_))


def estimator_graph(estimator: Any, width: int, classification: bool) -> onnx.ModelProto:
    """Return a fitted estimator as a graph from ``X``, (n, width), to its output; the last output
    is the one of numbers."""
    estimator = _with_float32_thresholds(onnx_boosters.convertible(estimator))
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    options = {id(last): {"zipmap": False}} if classification else None
    return to_onnx(
        estimator,
        initial_types=[("X", FloatTensorType([None, width]))],
        target_opset=OPSETS,
        options=options,
    )


def _with_float32_thresholds(estimator: Any) -> Any:
    """Return boosting with thresholds that float32 holds, rounded down: x <= t answers the same for
    every float32 x. skl2onnx rounds to the nearest, which may lie on the next value."""
    if not hasattr(estimator, "_predictors"):
        return estimator
    copied = deepcopy(estimator)
    for predictor in (tree for round_ in copied._predictors for tree in round_):
        exact = predictor.nodes["num_threshold"]
        nearest = exact.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))
        predictor.nodes["num_threshold"] = np.where(nearest > exact, below, nearest)
    return copied
