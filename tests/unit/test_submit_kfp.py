"""Submitting to Kubeflow Pipelines: by KFP's own client, against a stand-in that knows its
endpoints and models."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from argo import cached, step
from fake_kfp import FakeKfp, start_fake_kfp
from treadle import runtime
from treadle.adapters.filesystem import DirectoryStore
from treadle.config import Settings
from treadle.errors import EnvironmentFault, Interrupted, SpecError, TreadleError
from treadle.records import Rollout
from treadle.spec import Spec
from treadle_pipelines import kfp_runs, kfp_steps, spec_file, submit
from treadle_pipelines.submit import BackEnd, Options

Object = dict[str, Any]
ROOT = Path(__file__).parents[2]


class S3Like(DirectoryStore):
    def uri(self, key: str) -> str:
        return f"s3://treadle/objects/{key}"


@pytest.fixture(scope="module")
def wine() -> Spec:
    return spec_file.load(ROOT / "examples/wine/wine.yaml")


@pytest.fixture
def fake() -> Iterator[FakeKfp]:
    with start_fake_kfp() as running:
        yield running


@pytest.fixture
def store(fake: FakeKfp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DirectoryStore:
    made = S3Like(tmp_path / "objects")
    chosen = Settings(home=tmp_path, kfp_url=fake.url)
    monkeypatch.setattr(runtime, "settings", lambda: chosen)
    monkeypatch.setattr(runtime, "object_store", lambda: made)
    monkeypatch.setattr(kfp_runs, "POLL_S", 0.01)
    return made


def decided(store: DirectoryStore, name: str, promoted: bool) -> None:
    made = Rollout(model="wine", version=2, digest="d", promoted=promoted, reasons=["why"],
                   server="http://server:3000", request="{}", answer="{}")  # fmt: skip
    store.put_bytes(Rollout.key(name), made.model_dump_json().encode())


@pytest.mark.parametrize(("promoted", "code"), [(True, 0), (False, 3)])
def test_a_run_is_followed_and_its_outcome_is_the_exit_code(
    fake: FakeKfp, store: DirectoryStore, wine: Spec, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, promoted: bool, code: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(kfp_runs, "run_name", lambda model: f"{model}-1")
    decided(store, "wine-1", promoted)
    fake.states = [
        ("RUNNING", [step("ingest-data", "Running", ("Running", ""))]),
        ("SUCCEEDED", [step("ingest-data", "Succeeded", ("Succeeded", "")), cached("train-model")]),
    ]
    found, exit_code = submit.run(wine, Options(BackEnd.KFP))
    assert exit_code == code
    assert found["link"] == f"{fake.url}/#/runs/details/r0"
    assert found["reasons"] == ["why"]
    assert fake.experiments == {"wine": "e0"}
    out, err = capsys.readouterr()
    assert out == ""  # KFP's client prints links of its own
    assert "ingest-data: runs" in err
    assert "ingest-data: done after 12 s" in err
    assert "train-model: from the cache" in err
    assert "driver" not in err
    assert "executor" not in err
    assert submit.words("wine", found).startswith("wine version 2 is the ch")


def test_what_is_submitted_carries_the_spec_the_run_and_the_platform(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    found, _ = submit.run(wine, Options(BackEnd.KFP, detach=True, experiment="vines"))
    run = fake.runs["r0"]
    assert fake.experiments == {"vines": "e0"}
    assert run["experiment_id"] == "e0"
    assert run["display_name"] == found["run"]
    arguments = run["runtime_config"]["parameters"]
    assert arguments["run_id"] == found["run"]
    assert arguments["champion"] == runtime.CURRENT
    path = json.loads(arguments["source"])["tables"]["data"]["path"]
    assert path.startswith("s3://treadle/objects/sources/")
    assert store.exists(path.removeprefix("s3://treadle/objects/"))
    assert len(run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]) == 7
    assert "platforms" in run["pipeline_spec"]["platform_spec"]


def test_a_recurring_run_takes_the_place_of_the_one_before(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    submit.run(wine, Options(BackEnd.KFP, every="6h"))
    (first,) = fake.recurring.values()
    assert first["trigger"] == {"periodic_schedule": {"interval_second": "21600"}} or (
        first["trigger"] == {"periodic_schedule": {"interval_second": 21600}}
    )
    fake.recurring["other"] = {"recurring_run_id": "other", "display_name": "somebody's"}
    submit.run(wine, Options(BackEnd.KFP, cron="0 3 * * 1"))
    left = {each["display_name"]: each for each in fake.recurring.values()}
    assert set(left) == {"treadle-wine", "somebody's"}
    assert left["treadle-wine"]["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert left["treadle-wine"]["no_catchup"]
    parameters = left["treadle-wine"]["runtime_config"]["parameters"]
    assert parameters["run_id"] == "wine-{{workflow.uid}}"


def test_the_loop_is_a_recurring_run_beside_the_training(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    submit.run(wine, Options(BackEnd.KFP, every="7d"))
    for every in ("6h", "1h"):
        found, code = submit.run(wine, Options(BackEnd.KFP, every=every, graph="loop"))
    assert (code, submit.words("wine", found).startswith("recurring run")) == (0, True)
    left = {each["display_name"]: each for each in fake.recurring.values()}
    assert set(left) == {"treadle-wine", "treadle-loop-wine"}
    loop = left["treadle-loop-wine"]
    assert int(loop["trigger"]["periodic_schedule"]["interval_second"]) == 3_600
    assert loop["runtime_config"]["parameters"] == {"model": "wine"}
    assert "keep-models" in str(loop["pipeline_spec"])
    once, code = submit.run(wine, Options(BackEnd.KFP, graph="loop"))
    assert (code, submit.words("wine", once)) == (0, once["link"])
    with pytest.raises(SpecError, match="--graph loop is for Kubeflow Pipelines"):
        submit.run(wine, Options(BackEnd.JOB, graph="loop"))
    with pytest.raises(SpecError, match="'lop' is none of training, loop; did you mean 'loop'"):
        Options(graph="lop")


def test_a_recurring_run_with_a_run_under_way_is_switched_off_and_later_removed(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    """With its recurring run Kubernetes would remove the workflow."""
    submit.run(wine, Options(BackEnd.KFP, every="6h"))
    fake.runs["r7"] = {"run_id": "r7", "recurring_run_id": "c0"}
    fake.states = [("RUNNING", [])]
    submit.run(wine, Options(BackEnd.KFP, every="7d"))
    assert fake.recurring["c0"]["status"] == "DISABLED"
    fake.states = [("SUCCEEDED", [])]
    submit.run(wine, Options(BackEnd.KFP, every="1d"))
    (left,) = fake.recurring.values()
    assert int(left["trigger"]["periodic_schedule"]["interval_second"]) == 24 * 3600


def test_a_run_that_fails_has_the_words_of_the_step_and_its_exit_code(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    words = "main: Error (exit code 1): validate: too few rows\nexit code 3\n"
    fake.states = [("FAILED", [step("validate-data", "Failed", ("Failed", words))])]
    with pytest.raises(
        TreadleError, match=r": validate: too few rows;.*/runs/details/r0"
    ) as raised:
        submit.run(wine, Options(BackEnd.KFP))
    assert raised.value.exit_code == 3


def test_where_the_older_interface_is_gone_the_step_that_failed_is_named(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    fake.old = False
    fake.states = [("FAILED", [step("validate-data", "Failed", ("Failed", "words"))])]
    with pytest.raises(TreadleError, match=r"validate-data failed;.*/runs/details/r0") as raised:
        submit.run(wine, Options(BackEnd.KFP))
    assert raised.value.exit_code == 1


def test_a_pod_that_cannot_begin_ends_the_wait_and_not_the_run(
    fake: FakeKfp, store: DirectoryStore, wine: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kfp_steps, "_PATIENCE_S", {"ImagePullBackOff": 0.0})
    said = ("Pending", "ImagePullBackOff: Back-off pulling image treadle-step:x")
    fake.states = [("RUNNING", [step("ingest-data", "Running", said)])]
    with pytest.raises(EnvironmentFault, match=r"treadle-step:x.*push the image.*left as it is"):
        submit.run(wine, Options(BackEnd.KFP))


def test_ctrl_c_leaves_the_run_to_itself_and_follow_shows_it_again(
    fake: FakeKfp, store: DirectoryStore, wine: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(_: float) -> None:
        raise KeyboardInterrupt

    loop = {"run_id": "r9", "runtime_config": {"parameters": {"model": "wine"}}}
    fake.runs["r9"] = loop
    fake.states = [("RUNNING", [])]
    with pytest.raises(SpecError, match="no run of wine is under way"):
        submit.run(wine, Options(BackEnd.KFP, follow=True))
    del fake.runs["r9"]
    with monkeypatch.context() as patched:
        patched.setattr(kfp_runs, "time", SimpleNamespace(sleep=pressed))
        with pytest.raises(Interrupted, match=r"goes on; --follow shows it again"):
            submit.run(wine, Options(BackEnd.KFP))
    (run,) = fake.runs.values()
    decided(store, run["display_name"], True)
    fake.states = [("RUNNING", []), ("SUCCEEDED", [])]
    found, code = submit.run(wine, Options(BackEnd.KFP, follow=True))
    assert (found["run"], code) == (run["display_name"], 0)
    assert len(fake.runs) == 1


def test_a_recurring_run_that_is_under_way_is_followed_by_its_own_name(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    submit.run(wine, Options(BackEnd.KFP, every="6h"))
    (recurring,) = fake.recurring.values()
    begun = {"run_id": "r7", "runtime_config": recurring["runtime_config"]}
    fake.runs["r7"] = begun
    decided(store, "wine-r7", True)
    fake.states = [("RUNNING", []), ("SUCCEEDED", [])]
    found, code = submit.run(wine, Options(BackEnd.KFP, follow=True))
    assert (found["run"], found["run_id"], code) == ("wine-r7", "r7", 0)


def test_a_short_outage_is_waited_for_and_a_long_one_said(
    fake: FakeKfp, store: DirectoryStore, wine: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    kfp = kfp_runs.Kfp(fake.url)
    run_id, _ = kfp.start(wine, "training", "wine", lambda _: None)
    fake.silent = 3
    assert kfp.follow(run_id, lambda _: None) == "SUCCEEDED"
    fake.hidden = 2
    assert kfp.follow(run_id, lambda _: None) == "SUCCEEDED"
    monkeypatch.setattr(kfp_runs, "OUTAGE_S", 0.0)
    fake.refuse = (503, {"message": "upstream connect error"})
    with pytest.raises(EnvironmentFault, match=r"in trouble: upstream connect error.*goes on"):
        kfp.follow(run_id, lambda _: None)


def test_an_api_server_that_takes_requests_and_says_nothing_is_given_up(
    fake: FakeKfp, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    kfp = kfp_runs.Kfp(fake.url)
    monkeypatch.setattr(kfp_runs, "REQUEST_S", (0.1, 0.05))
    monkeypatch.setattr(kfp_runs, "OUTAGE_S", 0.1)
    fake.slow_s = 0.3
    told: list[str] = []
    with pytest.raises(EnvironmentFault, match=r"doesn't answer.*the run goes on"):
        kfp.follow("r0", told.append)
    (words,) = told
    assert "waiting for it" in words


def test_what_kfp_refuses_is_said_in_its_words(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    kfp = kfp_runs.Kfp(fake.url)
    fake.refuse = (403, {"message": "User 'me' is not authorized"})
    with pytest.raises(EnvironmentFault, match=r"refuses .*403.*not authorized"):
        kfp.start(wine, "training", "wine", lambda _: None)


def test_an_outcome_that_cannot_be_read_here_is_no_guess(
    fake: FakeKfp, store: DirectoryStore, wine: Spec
) -> None:
    with pytest.raises(TreadleError, match="the run is done, but what it decided"):
        submit.run(wine, Options(BackEnd.KFP))


def test_kfp_is_the_default_where_it_answers_and_a_job_where_not(
    fake: FakeKfp, store: DirectoryStore, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    assert submit.choose(None) is BackEnd.KFP
    assert submit.choose(BackEnd.JOB) is BackEnd.JOB
    fake.silent = 2
    assert submit.choose(None) is BackEnd.JOB
    assert "doesn't answer" in capsys.readouterr().err
    with pytest.raises(EnvironmentFault, match="TREADLE_KFP_URL"):
        submit.choose(BackEnd.KFP)
    monkeypatch.setattr(runtime, "settings", lambda: Settings(home=tmp_path))
    assert submit.choose(None) is BackEnd.JOB
    with pytest.raises(SpecError, match="--to kfp needs TREADLE_KFP_URL"):
        submit.choose(BackEnd.KFP)
