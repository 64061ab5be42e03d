"""Compile a graph to Kubeflow Pipelines IR."""

import warnings
from pathlib import Path

from treadle.errors import SpecError, check_output, nearest, output_fault
from treadle.runtime import CURRENT
from treadle.spec import Spec
from treadle.writing import written_aside
from treadle_pipelines.arguments import feedback_arguments, training_arguments

GRAPHS = ("training", "feedback", "loop")


def write(spec: Spec, graph: str, out: Path) -> None:
    """Compile a graph with the spec as its defaults to ``out`` (.yaml). Raises SpecError for an
    unknown graph, another ending, or a directory that isn't there."""
    if graph not in GRAPHS:
        raise SpecError(f"--graph {graph!r} is none of {', '.join(GRAPHS)}{nearest(graph, GRAPHS)}")
    check_output(out, (".yaml", ".yml"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kfp import compiler

        from treadle_pipelines import graphs, kfp_platform
    defaults = arguments(spec, graph, spec.name)
    whole = kfp_platform.on_cluster(getattr(graphs, f"{graph}_pipeline"), spec.resources)
    try:
        with written_aside(out) as aside:
            compiler.Compiler().compile(whole, str(aside), pipeline_parameters=defaults)
    except OSError as error:
        raise output_fault(out, error) from error


def arguments(spec: Spec, graph: str, run_id: str) -> dict[str, object]:
    """Return a graph's arguments for a back end. What the source holds and which model serves is
    known only there, so the steps that look at them do so anew each time."""
    if graph == "loop":
        return {"model": spec.name}
    if graph == "feedback":
        return feedback_arguments(spec)
    return training_arguments(spec, fingerprint="", champion=CURRENT, run_id=run_id)
