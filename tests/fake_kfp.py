"""A stand-in for the API of Kubeflow Pipelines 2.17, over real HTTP on the loopback. What it takes
must fit the models of KFP's own client, and what it gives is made of them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api

from argo import workflow
from json_server import JsonHandler, serving_json

Object = dict[str, Any]
API, OLD_API = "/apis/v2beta1", "/apis/v1beta1/runs/"
_PLAIN = kfp_server_api.ApiClient(kfp_server_api.Configuration())


def as_model(name: str, body: Object) -> Any:
    """Read a body as a model of KFP's client; refuse keys that it doesn't know."""
    model = getattr(kfp_server_api, name)
    unknown = set(body) - set(model.attribute_map.values())
    assert not unknown, f"{name} has no {unknown}"

    class Answer:
        data = json.dumps(body)

    return _PLAIN.deserialize(Answer(), name)


class FakeKfp:
    """``states`` are what a run is in and its steps' nodes, one a look; ``refuse`` is answered
    instead, where set; so many times as ``hidden`` says, a proxy says that nothing is there.
    ``old`` says whether the older interface, with the workflow, is there."""

    def __init__(self) -> None:
        self.url = ""
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, Object] = {}
        self.recurring: dict[str, Object] = {}
        self.states: list[tuple[str, list[list[Object]]]] = [("SUCCEEDED", [])]
        self.old = True
        self._steps: list[list[Object]] = []
        self.refuse: tuple[int, object] | None = None
        self.silent = 0
        self.slow_s = 0.0
        self.hidden = 0

    def handle(self, method: str, path: str, query: dict[str, str], body: Object) -> object:
        """Answer one request."""
        place = path.removeprefix(API).strip("/").split("/")
        if path.startswith(OLD_API) and self.old:
            manifest = json.dumps(workflow(*self._steps))
            return {"run": {}, "pipeline_runtime": {"workflow_manifest": manifest}}
        match (method, *place):
            case ("GET", "healthz"):
                return {"commit_sha": "fake", "multi_user": False}
            case ("GET", "experiments"):
                wanted = json.loads(query["filter"])["predicates"][0]["stringValue"]
                found = [self._experiment(n) for n in self.experiments if n == wanted]
                return {"experiments": found, "total_size": len(found)}
            case ("POST", "experiments"):
                made = as_model("V2beta1Experiment", body)
                self.experiments[made.display_name] = f"e{len(self.experiments)}"
                return self._experiment(made.display_name)
            case ("POST", "runs"):
                as_model("V2beta1Run", body)
                run_id = f"r{len(self.runs)}"
                self.runs[run_id] = body | {"run_id": run_id}
                return self.runs[run_id]
            case ("GET", "runs", run_id):
                state, self._steps = self.states.pop(0) if len(self.states) > 1 else self.states[0]
                whole = {"state": state, "run_details": {"task_details": self._tasks()}}
                as_model("V2beta1Run", self.runs[run_id] | whole)
                return self.runs[run_id] | whole
            case ("GET", "runs"):
                found = [run | {"state": self.states[0][0]} for run in self.runs.values()]
                return {"runs": found[::-1]}
            case ("GET", "recurringruns"):
                return {"recurringRuns": list(self.recurring.values())}
            case ("POST", "recurringruns"):
                as_model("V2beta1RecurringRun", body)
                made_id = f"c{len(self.recurring)}"
                self.recurring[made_id] = body | {"recurring_run_id": made_id}
                return self.recurring[made_id]
            case ("POST", "recurringruns", action) if action.endswith(":disable"):
                self.recurring[action.removesuffix(":disable")]["status"] = "DISABLED"
                return {}
            case ("DELETE", "recurringruns", run_id):
                del self.recurring[run_id]
                return {}
        raise AssertionError(f"KFP has no {method} {path}")

    def _tasks(self) -> list[Object]:
        """The nodes as the newer interface has them: it leaves out what they say."""
        nodes = workflow(*self._steps)["status"]["nodes"].values()
        return [{"display_name": n["displayName"], "state": n["phase"].upper()} for n in nodes]

    def _experiment(self, name: str) -> Object:
        return {"experiment_id": self.experiments[name], "display_name": name}


@contextmanager
def start_fake_kfp() -> Iterator[FakeKfp]:
    """Serve one on a free port of 127.0.0.1."""
    kfp = FakeKfp()

    class Handler(JsonHandler):
        def _handle(self) -> None:
            url = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "null") if length else {}
            time.sleep(kfp.slow_s)
            if kfp.silent:
                kfp.silent -= 1
                self.break_off()
                return
            status, answer = 200, None
            if kfp.refuse:
                status, answer = kfp.refuse
            elif kfp.hidden:
                kfp.hidden -= 1
                self.send_error(404)
                return
            else:
                query = {key: values[0] for key, values in parse_qs(url.query).items()}
                try:
                    answer = kfp.handle(self.command, url.path, query, body)
                except AssertionError as error:
                    status, answer = 404, {"message": str(error)}
            self.reply(status, answer)

        do_GET = do_POST = do_DELETE = _handle  # noqa: N815

    with serving_json(Handler) as kfp.url:
        yield kfp
