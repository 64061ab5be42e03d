"""A stand-in for a Kubernetes API server: objects in a dict, over real HTTP on the loopback.

It knows reading, listing with selectors, server-side apply, deletion and logs, answers as the API
server does where something is missing, and can be told to refuse or to stay away for a while.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

from json_server import JsonHandler, serving_json

Object = dict[str, Any]


class FakeCluster:
    """``objects`` are by path (``/api/v1/namespaces/treadle/pods/a``); ``logs`` by pod name.
    ``answer``, where set, is asked first: it returns (status, body), or None to go on."""

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.logs: dict[str, list[str]] = {}
        self.answer: Callable[[str, str], tuple[int, object] | None] = lambda method, path: None
        self.applied: list[Callable[[Object], None]] = []
        self.requests: list[tuple[str, str]] = []
        self.log_cuts: list[int] = []
        self.url = ""

    def add(self, kind: str, name: str, api: str = "api/v1", **body: Any) -> Object:
        """Put an object there."""
        metadata = {"name": name, "namespace": "treadle", "uid": f"uid-{name}",
                    "creationTimestamp": f"2026-11-26T07:00:{len(self.objects):02d}Z"}  # fmt: skip
        whole = {"kind": kind, "apiVersion": api.removeprefix("apis/").removeprefix("api/"),
                 **body, "metadata": metadata | body.get("metadata", {})}  # fmt: skip
        self.objects[f"/{api}/namespaces/treadle/{kind.lower()}s/{name}"] = whole
        return whole

    def kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig whose only context is this."""
        named = {
            "clusters": [{"name": "fake", "cluster": {"server": self.url}}],
            "users": [{"name": "me", "user": {"token": "t"}}],
            "contexts": [{"name": "kind-treadle", "context": {"cluster": "fake", "user": "me"}}],
            "current-context": "kind-treadle",
        }
        path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **named}))
        return path


@contextmanager
def start_fake_cluster() -> Iterator[FakeCluster]:
    """Serve one on a free port of 127.0.0.1."""
    cluster = FakeCluster()

    class Handler(JsonHandler):
        def _handle(self) -> None:
            url = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(url.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            cluster.requests.append((self.command, self.path))
            told = cluster.answer(self.command, url.path)
            if told is not None:
                if told[0] == 0:
                    self.break_off()
                    return
                self.reply(*told)
            elif self.command == "PATCH":
                self.reply(200, _apply(cluster, url.path, body, "dryRun" in query))
            elif self.command == "DELETE":
                found = cluster.objects.pop(url.path, None)
                self.reply(*((200, found) if found else _missing(url.path)))
            elif url.path.endswith("/log"):
                self._log(url.path.split("/")[-2], query)
            elif url.path == "/version":
                self.reply(200, {"gitVersion": "v1.34.4"})
            elif url.path in cluster.objects:
                self.reply(200, cluster.objects[url.path])
            elif url.path.count("/") == (5 if url.path.startswith("/api/") else 6):
                self.reply(200, {"items": _listed(cluster, url.path, query)})
            else:
                self.reply(*_missing(url.path))

        do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

        def _log(self, pod: str, query: dict[str, str]) -> None:
            if "previous" in query or pod not in cluster.logs:
                self.reply(400, {"message": "previous terminated container not found"})
                return
            lines = cluster.logs[pod]
            if "tailLines" in query:
                lines = lines[-int(query["tailLines"]) :]
            if "timestamps" in query:
                stamped = [f"2026-11-26T07:01:{i:02d}.000000001Z {line}"
                           for i, line in enumerate(lines)]  # fmt: skip
                lines = [line for line in stamped if line[:19] >= query.get("sinceTime", "")[:19]]
            self.send_response(200)
            self.end_headers()
            data = "".join(f"{line}\n" for line in lines).encode()
            if "follow" in query and cluster.log_cuts:
                data = data[: cluster.log_cuts.pop(0)]
            self.wfile.write(data)
            self.close_connection = True

    with serving_json(Handler) as cluster.url:
        yield cluster


def _apply(cluster: FakeCluster, path: str, body: Object, dry_run: bool) -> Object:
    former = cluster.objects.get(path, {}).get("metadata", {})
    made = {"namespace": "treadle", "uid": "uid", "creationTimestamp": "2026-11-26T07:00:00Z"}
    whole = {**body, "metadata": {**made, **former, **body["metadata"]}}
    if not dry_run:
        cluster.objects[path] = whole
        for react in cluster.applied:
            react(whole)
    return whole


def _listed(cluster: FakeCluster, path: str, query: dict[str, str]) -> list[Object]:
    found = [each for key, each in cluster.objects.items() if key.rsplit("/", 1)[0] == path]
    if labels := query.get("labelSelector"):
        wanted = dict(pair.split("=") for pair in labels.split(","))
        found = [f for f in found if wanted.items() <= (f["metadata"].get("labels") or {}).items()]
    if fields := query.get("fieldSelector"):
        wanted = dict(pair.split("=") for pair in fields.split(","))
        name = wanted["involvedObject.name"]
        found = [f for f in found if f.get("involvedObject", {}).get("name") == name]
    return found


def _missing(path: str) -> tuple[int, Object]:
    name = path.rsplit("/", 1)[-1]
    return 404, {"kind": "Status", "code": 404, "message": f'"{name}" not found'}
