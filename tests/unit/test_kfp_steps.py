"""How far the steps of a run on Kubeflow Pipelines are, in words."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from argo import cached, step, workflow
from treadle import last_words
from treadle.errors import GateRefused
from treadle.step import step as framed
from treadle_pipelines import kfp_steps
from treadle_pipelines.kfp_steps import Patience, Step

LEFT = "main: Error (exit code 1): validate: 12 % of the rows are bad\nexit code 3\n"


def test_drivers_and_the_graph_itself_are_no_steps() -> None:
    found = kfp_steps.steps(
        workflow(
            step("ingest-data", "Succeeded", ("Succeeded", "")),
            cached("prepare-data"),
            step("train-model", "Running", ("Running", "")),
            step("analyse-model", "", driver="Running"),
        )
    )
    assert [(each.name, each.words) for each in found] == [
        ("ingest-data", "done after 12 s"),
        ("prepare-data", "from the cache"),
        ("train-model", "runs"),
        ("analyse-model", "is being prepared"),
    ]


def test_a_failed_step_has_its_own_words_and_exit_code() -> None:
    (found,) = kfp_steps.steps(workflow(step("validate-data", "Failed", ("Failed", LEFT))))
    assert (found.fault, found.exit_code) == ("validate: 12 % of the rows are bad", 3)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("main: OOMKilled (exit code 137)", "used more memory than its limit: raise memory"),
        ("main: Error (exit code 1)", "without a word of its own (main: Error (exit code 1))"),
        ("", "without a word of its own"),
    ],
)
def test_a_step_that_left_no_words_is_told_by_how_it_ended(message: str, words: str) -> None:
    (found,) = kfp_steps.steps(workflow(step("train-model", "Failed", ("Failed", message))))
    assert words in found.fault
    assert found.fault.startswith("train-model")


def test_another_try_says_why_there_is_one() -> None:
    (again,) = kfp_steps.steps(workflow(step("train-model", "Running", ("Failed", LEFT))))
    assert again.words == "is tried again, after: validate: 12 % of the rows are bad"
    tries = (("Failed", LEFT), ("Running", ""))
    (second,) = kfp_steps.steps(workflow(step("train-model", "Running", *tries)))
    assert second.words.startswith("try 2, after: ")
    assert not second.fault


def test_a_driver_that_fails_is_the_steps_failure() -> None:
    nodes = step("train-model", "", driver="Error", said="main: Error (exit code 1)")
    (found,) = kfp_steps.steps(workflow(nodes))
    assert found.fault == "train-model: KFP's driver failed (main: Error (exit code 1))"


@pytest.mark.parametrize(
    ("message", "words", "patience_s"),
    [
        ("Unschedulable: 0/1 nodes are available: 1 Insufficient cpu. preemption: none helps.",
         "Insufficient cpu): give the cluster more", 300),
        ("ImagePullBackOff: Back-off pulling image treadle-step:x", "push the image", 60),
        ('CreateContainerConfigError: secret "treadle-s3" not found',
         'secret "treadle-s3" not found): make it', 60),
        ("PodInitializing", "PodInitializing", 900),
    ],
)  # fmt: skip
def test_a_pod_that_cannot_begin_says_why_and_for_how_long_that_may_be(
    message: str, words: str, patience_s: float
) -> None:
    for nodes in (
        step("train-model", "Running", ("Pending", message)),
        step("train-model", "", driver="Pending", said=message),
    ):
        (found,) = kfp_steps.steps(workflow(nodes))
        assert words in found.waits
        assert "preemption" not in found.waits
        assert found.patience_s == patience_s


def test_patience_ends_with_what_has_been_waited_for_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = SimpleNamespace(monotonic=lambda: clock[0])
    monkeypatch.setattr(kfp_steps, "time", now)
    clock = [0.0]
    stuck = [Step("train-model", "starts", "no image", 60)]
    patience = Patience()
    assert patience.ended(stuck) == ""
    clock[0] = 50
    assert patience.ended([Step("train-model", "runs")]) == ""
    clock[0] = 70
    assert patience.ended(stuck) == ""
    clock[0] = 131
    assert patience.ended(stuck) == "train-model: no image"


def test_a_run_of_which_nothing_begins_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kfp_steps, "SLOW_S", 0.0)
    assert "workflow controller" in Patience().ended([])


def test_without_the_workflow_steps_are_told_by_name_and_state() -> None:
    details = [
        SimpleNamespace(display_name=name, state=state)
        for name, state in [
            ("treadle-training-x7k2p", "RUNNING"), ("root-driver", "SUCCEEDED"),
            ("root", "RUNNING"), ("ingest-data-driver", "SUCCEEDED"), ("executor", "SUCCEEDED"),
            ("ingest-data", "SUCCEEDED"), ("train-model-driver", "SUCCEEDED"),
            ("train-model", "FAILED"),
        ]
    ]  # fmt: skip
    found = kfp_steps.named(SimpleNamespace(run_details=SimpleNamespace(task_details=details)))
    assert [(each.name, each.words, each.fault) for each in found] == [
        ("ingest-data", "succeeded", ""),
        ("train-model", "failed", "train-model failed"),
    ]


def test_a_step_leaves_its_last_words_where_kubernetes_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "termination-log"
    monkeypatch.setattr(last_words, "PLACE", place)
    with pytest.raises(SystemExit), framed("validate"):
        raise GateRefused("12 % of the rows are bad")
    assert not place.exists(), "on a laptop nothing is written"
    place.touch()
    with pytest.raises(SystemExit), framed("validate"):
        raise GateRefused("12 % of the rows are bad " * 1000)
    assert place.stat().st_size < 4096
    words, code = last_words.read(f"main: Error (exit code 1): {place.read_text('utf-8')}") or (
        "",
        0,
    )
    assert "validate: 12 %" in words
    assert code == GateRefused.exit_code
    assert last_words.read("main: Error (exit code 1)") is None
    with pytest.raises(RuntimeError), framed("validate"):
        raise RuntimeError("nobody foresaw this")
    assert "nobody foresaw this" in place.read_text("utf-8")
