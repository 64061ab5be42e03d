"""Requests to a Kubernetes API server, bounded in time, with its refusals in words.

Credentials and TLS are those of the ``kubernetes`` client, from a kubeconfig or from the pod this
runs in; what is sent and received are dicts, as the API server prints them.
"""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import kubernetes
from kubernetes.config.config_exception import ConfigException
from urllib3 import BaseHTTPResponse, Timeout
from urllib3.exceptions import HTTPError, SSLError
from yaml import YAMLError

from treadle.adapters.workloads import one_line
from treadle.errors import EnvironmentFault, SpecError, nearest

CONNECT_S, READ_S = 5.0, 30.0
AGAIN_S = 1.0
APPLY = "application/apply-patch+yaml"
_FORBIDDEN = re.compile(
    r'User "(?P<who>[^"]+)" cannot (?P<verb>\w+) resource "(?P<what>[^"]+)" '
    r'in API group "(?P<group>[^"]*)"(?: in the namespace "(?P<where>[^"]+)")?'
)


class Refused(EnvironmentFault):
    """The API server answered, and said no; ``status`` is HTTP's."""

    def __init__(self, words: str, status: int) -> None:
        super().__init__(words)
        self.status = status


class Unreachable(EnvironmentFault):
    """The API server doesn't answer, or is in trouble itself."""


@dataclass(frozen=True)
class Request:
    """One request; ``path`` begins with a slash."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    content_type: str = "application/json"
    stream: bool = False


class Api:
    """An API server as one account sees it. A request is tried again for ``outage_s`` while the
    server is away or in trouble; ``say`` is told so once.

    Raises Unreachable where it stays away, Refused where it says no.
    """

    def __init__(
        self, client: kubernetes.client.ApiClient, say: Callable[[str], None], outage_s: float
    ) -> None:
        self.address = str(client.configuration.host)
        self._client = client
        self._say = say
        self._outage_s = outage_s

    def json(self, request: Request) -> dict[str, Any]:
        """Return the answer's object."""
        return dict(json.loads(self.send(request).data))

    def send(self, request: Request) -> BaseHTTPResponse:
        """Return the answer; its body is yet to be read where the request says ``stream``."""
        deadline, told = time.monotonic() + self._outage_s, False
        while True:
            fault: Exception
            try:
                answer = self._send_once(request)
            except SSLError as error:
                raise Unreachable(
                    f"no trusted connection to the API server at {self.address} "
                    f"({one_line(error)}): the kubeconfig's certificates may be of another cluster"
                ) from error
            except HTTPError as error:
                fault, words = error, f"doesn't answer ({one_line(error)})"
            else:
                if answer.status < 300:
                    return answer
                fault = _refusal(answer, self.address)
                if answer.status != 429 and answer.status < 500:
                    raise fault
                words = f"is in trouble ({answer.status}: {_said(answer)})"
            if time.monotonic() > deadline:
                raise Unreachable(
                    f"the API server at {self.address} {words}, tried for {self._outage_s:.0f} s: "
                    "does the cluster run? (kubectl cluster-info)"
                ) from fault
            if not told:
                told = True
                self._say(f"the API server at {self.address} {words}; trying again for "
                          f"{self._outage_s:.0f} s")  # fmt: skip
            time.sleep(AGAIN_S)

    def _send_once(self, request: Request) -> BaseHTTPResponse:
        # Not by the client's own call: with urllib3 2 its exceptions raise warnings of their own.
        headers = {"Accept": "application/json, */*", "Content-Type": request.content_type}
        self._client.update_params_for_auth(headers, [], ["BearerToken"])
        query = f"?{urlencode(request.query)}" if request.query else ""
        answer: BaseHTTPResponse = self._client.rest_client.pool_manager.request(
            request.method,
            self.address + request.path + query,
            headers=headers,
            body=None if request.body is None else json.dumps(request.body),
            timeout=Timeout(connect=CONNECT_S, read=READ_S),
            preload_content=not request.stream,
            retries=False,
        )
        return answer


def connect(context: str | None, say: Callable[[str], None], outage_s: float) -> Api:
    """Return the API server of the kubeconfig (``KUBECONFIG``, else ``~/.kube/config``) or, where
    there is none and this is a pod, of the pod's service account. Opens no connection.

    Raises SpecError for an unknown context, EnvironmentFault where there is neither.
    """
    configuration = kubernetes.client.Configuration()
    try:
        kubernetes.config.load_kube_config(context=context, client_configuration=configuration)
    except (ConfigException, OSError, YAMLError) as error:
        if context is not None:  # never a pod's account
            raise _unknown_context(context) from error
        try:
            kubernetes.config.load_incluster_config(client_configuration=configuration)
        except ConfigException:
            raise EnvironmentFault(
                f"there is no cluster to talk to ({one_line(error)}): make deploy starts one with "
                "kind; KUBECONFIG names the file that describes another"
            ) from error
    return Api(kubernetes.client.ApiClient(configuration), say, outage_s)


def _unknown_context(context: str) -> SpecError:
    try:
        contexts, _ = kubernetes.config.list_kube_config_contexts()
    except (ConfigException, OSError, YAMLError):
        contexts = []
    known = [str(each["name"]) for each in contexts]
    return SpecError(
        f"the kubeconfig has no context {context!r}{nearest(context, known)} (it has "
        f"{', '.join(known) or 'none'})"
    )


def _refusal(answer: BaseHTTPResponse, address: str) -> Refused:
    return Refused(refusal_words(answer.status, _said(answer), address), answer.status)


def refusal_words(status: int, said: str, address: str) -> str:
    """Put an API server's refusal into words: which verb, which account, what to do."""
    if status == 401:
        return (
            f"the API server at {address} doesn't know who you are (401): the credentials have "
            "expired or are of another cluster; log in again, or choose another context"
        )
    if found := _FORBIDDEN.search(said):
        where = f" in namespace {found['where']}" if found["where"] else ""
        group = f" of {found['group']}" if found["group"] else ""
        return (
            f"{found['who']} may not {found['verb']} {found['what']}{group}{where}: bind it to a "
            f"role with the verb {found['verb']!r} on {found['what']}, or use another account"
        )
    if missing := re.search(r'namespaces "([^"]+)" not found', said):
        return f"there is no namespace {missing[1]} at {address}: make deploy makes it"
    return f"the API server at {address} says no ({status}): {said}"


def _said(answer: BaseHTTPResponse) -> str:
    text = answer.data.decode(errors="replace")
    try:
        return one_line(json.loads(text)["message"])
    except (ValueError, TypeError, KeyError):
        return one_line(text) or f"HTTP {answer.status}"
