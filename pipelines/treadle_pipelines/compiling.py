"""Compile a graph to Kubeflow Pipelines IR."""

import warnings
from pathlib import Path

from treadle.errors import SpecError, check_output, nearest, output_fault
from treadle.spec import Spec
from treadle.writing import written_aside
from treadle_pipelines.arguments import feedback_arguments, training_arguments

GRAPHS = ("training", "feedback")


def write(spec: Spec, graph: str, out: Path) -> None:
    """Compile a graph with the spec as its defaults to ``out`` (.yaml). Raises SpecError for an
    unknown graph, another ending, or a directory that isn't there."""
    if graph not in GRAPHS:
        raise SpecError(f"--graph {graph!r} is none of {', '.join(GRAPHS)}{nearest(graph, GRAPHS)}")
    check_output(out, (".yaml", ".yml"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from kfp import compiler

        from treadle_pipelines import graphs
    # On a cluster the run's name and the source's state are known only there.
    arguments = (
        training_arguments(spec, fingerprint="", champion="", run_id=spec.name)
        if graph == "training"
        else feedback_arguments(spec)
    )
    try:
        with written_aside(out) as aside:
            compiler.Compiler().compile(
                getattr(graphs, f"{graph}_pipeline"), str(aside), pipeline_parameters=arguments
            )
    except OSError as error:
        raise output_fault(out, error) from error
