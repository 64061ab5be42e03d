"""The whole pipeline as one ONNX graph: one input a feature, plain tensors out.

skl2onnx converts the estimators. The transformer is built here, because skl2onnx 1.20 gets three
of its parts wrong or not at all (null flags of SimpleImputer, rare categories of OneHotEncoder,
TargetEncoder for several classes): categories become a look-up table, filled by asking the fitted
encoder itself, so that the graph can't disagree with it.

Inputs, each (n, 1): float32 for numbers and booleans, float64 epoch seconds for times, string for
categories. Outputs: ``prediction`` float32 (n,), or ``label`` string (n,) and ``probabilities``
float32 (n, classes).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline

from treadle.records import Kind, Signature
from treadle.transformers import DAY_S, WEEK_OFFSET_S, WEEK_S, YEAR_S, TimeParts

OPSETS = {"": 18, "ai.onnx.ml": 3}
PREDICTION, LABEL, PROBABILITIES = "prediction", "label", "probabilities"
_UNSEEN = "\x00unseen"
_INPUT_TYPES = {
    Kind.NUMBER: TensorProto.FLOAT,
    Kind.BOOLEAN: TensorProto.FLOAT,
    Kind.CATEGORY: TensorProto.STRING,
    Kind.TIME: TensorProto.DOUBLE,
}


def export(pipeline: Pipeline, signature: Signature) -> bytes:
    """Return the fitted ``Pipeline([("transformer", …), ("estimator", …)])`` as ONNX bytes."""
    graph = _Graph()
    columns: ColumnTransformer = pipeline["transformer"]["columns"]
    blocks = [graph.block(step, names) for _, step, names in columns.transformers_ if len(names)]
    matrix = graph.add("Concat", blocks, axis=1)
    estimator = _convert(pipeline["estimator"], columns, signature)
    nodes = [*graph.nodes, *_after(matrix, estimator, signature)]
    shape = numpy_helper.from_array(np.array([-1], dtype=np.int64), "treadle/shape")
    inputs = [
        helper.make_tensor_value_info(f.name, _INPUT_TYPES[f.kind], [None, 1])
        for f in signature.features
    ]
    whole = helper.make_graph(
        nodes,
        "treadle",
        inputs,
        _outputs(signature),
        initializer=[*graph.constants, *estimator.graph.initializer, shape],
    )
    opsets = [helper.make_opsetid(domain, number) for domain, number in OPSETS.items()]
    model = helper.make_model(whole, opset_imports=opsets, ir_version=estimator.ir_version)
    model.producer_name = "treadle"
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and constants under way; every name is its own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: Iterable[str], domain: str = "", **attributes: Any) -> str:
        output = f"treadle/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        return output

    def constant(self, value: npt.NDArray[Any]) -> str:
        name = f"treadle/constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def block(self, step: Any, names: list[str]) -> str:
        """Return the output of one transformer of the ColumnTransformer."""
        if isinstance(step, SimpleImputer):
            return self._imputed(step, names)
        if isinstance(step, TimeParts):
            return self._time_parts(step, names[0])
        return self._looked_up(step, names[0])

    def _imputed(self, imputer: SimpleImputer, names: list[str]) -> str:
        numbers = self.add("Concat", names, axis=1)
        null = self.add("IsNaN", [numbers])
        medians = self.constant(imputer.statistics_.astype(np.float32).reshape(1, -1))
        filled = self.add("Where", [null, medians, numbers])
        flagged = imputer.indicator_.features_.astype(np.int64)
        if not len(flagged):
            return filled
        flags = self.add("Gather", [null, self.constant(flagged)], axis=1)
        return self.add("Concat", [filled, self.add("Cast", [flags], to=TensorProto.FLOAT)], axis=1)

    def _looked_up(self, encoder: Any, name: str) -> str:
        """A category's code picks a row of the table; the last row is for the unseen."""
        known = [str(value) for value in encoder.categories_[0]]
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
        null = self.add("IsNaN", [name])
        zero = self.constant(np.array([[0.0]], dtype=np.float64))
        known = self.add("Where", [null, zero, name])
        offset = self.constant(np.array([[WEEK_OFFSET_S]], dtype=np.float64))
        day = self._phase(known, DAY_S)
        week = self._phase(self.add("Add", [known, offset]), WEEK_S)
        daily = [self._scaled(day, 24), self._scaled(week, 7), *self._circle(day)]
        seasonal: list[str] = []
        if step.seasonal:
            year = self._phase(known, YEAR_S)
            seasonal = [year, *self._circle(year)]
        none = self.constant(np.array([[0.0]], dtype=np.float32))
        daily, seasonal = (
            [self.add("Where", [null, none, part]) for part in parts] for parts in (daily, seasonal)
        )
        flag = self.add("Cast", [null], to=TensorProto.FLOAT)
        return self.add("Concat", [*daily, flag, *seasonal], axis=1)

    def _circle(self, phase: str) -> list[str]:
        turn = self._scaled(phase, 2 * np.pi)
        return [self.add("Sin", [turn]), self.add("Cos", [turn])]

    def _phase(self, seconds: str, period_s: float) -> str:
        period = self.constant(np.array([[period_s]], dtype=np.float64))
        turns = self.add("Div", [seconds, period])
        fraction = self.add("Sub", [turns, self.add("Floor", [turns])])
        return self.add("Cast", [fraction], to=TensorProto.FLOAT)

    def _scaled(self, name: str, factor: float) -> str:
        return self.add("Mul", [name, self.constant(np.array([[factor]], dtype=np.float32))])


def _named(values: npt.NDArray[Any], encoder: Any) -> Any:
    """Give the values the column's name that the encoder was fitted with."""
    import pandas as pd

    return pd.DataFrame(values, columns=list(encoder.feature_names_in_))


def _convert(estimator: Any, columns: ColumnTransformer, signature: Signature) -> onnx.ModelProto:
    width = len(columns.get_feature_names_out())
    last = estimator[-1] if isinstance(estimator, Pipeline) else estimator
    options = {id(last): {"zipmap": False}} if signature.task.is_classification else None
    return to_onnx(
        estimator,
        initial_types=[("X", FloatTensorType([None, width]))],
        target_opset=OPSETS,
        options=options,
    )


def _after(matrix: str, estimator: onnx.ModelProto, signature: Signature) -> list[onnx.NodeProto]:
    """Splice the estimator's nodes behind the transformer's and name the outputs."""
    outputs = [output.name for output in estimator.graph.output]
    renamed = {"X": matrix}
    if signature.task.is_classification:
        renamed |= {outputs[0]: "treadle/code", outputs[1]: PROBABILITIES}
    else:
        renamed |= {outputs[0]: "treadle/column"}
    nodes = []
    for node in estimator.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
        copy.output[:] = [renamed.get(name, name) for name in node.output]
        nodes.append(copy)
    if signature.task.is_classification:
        return [*nodes, _label_node(signature)]
    flat = helper.make_node("Reshape", ["treadle/column", "treadle/shape"], [PREDICTION])
    return [*nodes, flat]


def _label_node(signature: Signature) -> onnx.NodeProto:
    return helper.make_node(
        "LabelEncoder",
        ["treadle/code"],
        [LABEL],
        domain="ai.onnx.ml",
        keys_int64s=list(range(len(signature.classes))),
        values_strings=signature.classes,
        default_string="",
    )


def _outputs(signature: Signature) -> list[onnx.ValueInfoProto]:
    if not signature.task.is_classification:
        return [helper.make_tensor_value_info(PREDICTION, TensorProto.FLOAT, [None])]
    return [
        helper.make_tensor_value_info(LABEL, TensorProto.STRING, [None]),
        helper.make_tensor_value_info(
            PROBABILITIES, TensorProto.FLOAT, [None, len(signature.classes)]
        ),
    ]
