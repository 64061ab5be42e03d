"""Promote a version and prove that a server answers with it; restore the former one if not."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from treadle.bundle import Bundle, same_answer
from treadle.deployment import promotion
from treadle.deployment.promotion import CHALLENGER, CHAMPION
from treadle.errors import ModelError, TreadleError
from treadle.ports import ObjectStore, Registry
from treadle.records import ChangeKind, Decision, ModelVersion, Rollout

PATIENCE_S = 30.0
MOST_WORDS = 300


class Server(Protocol):
    """A running model server."""

    url: str

    def predict(self, model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """POST rows to a model; raises TreadleError where the server refuses."""


Serving = Callable[[], AbstractContextManager[Server]]


def run(
    version: ModelVersion,
    decision: Decision,
    store: ObjectStore,
    registry: Registry,
    serving: Serving,
) -> Rollout:
    """Roll a version out, if the gate said yes just now; otherwise it becomes the challenger.

    The decision that was registered with the version may be older: a version that is trained a
    second time meets another champion.
    """
    if not decision.passed:
        registry.set_alias(version.name, CHALLENGER, version.version)
        return Rollout(
            model=version.name,
            version=version.version,
            digest=version.digest,
            promoted=False,
            reasons=decision.reasons,
        )
    bundle = Bundle.fetch(version.digest, store)
    bundle.prove()
    former = registry.aliased(version.name, CHAMPION)
    who, why = f"run {version.lineage.run_id}", decision.reasons[-1]
    promotion.change(registry, version.name, ChangeKind.PROMOTED, version, who, why)
    try:
        with serving() as server:
            return _prove(version, decision, bundle, server)
    except BaseException as error:
        # Whatever went wrong, an interruption included: the former champion serves on.
        why = f"it couldn't be served: {error or type(error).__name__}"[:MOST_WORDS]
        promotion.change(registry, version.name, ChangeKind.ROLLED_BACK, former, who, why)
        raise


def _prove(version: ModelVersion, decision: Decision, bundle: Bundle, server: Server) -> Rollout:
    rows, expected = bundle.golden
    _wait_until_served(version, rows[-1], server)
    started = time.perf_counter()
    one = server.predict(version.name, rows[-1:])
    latency_ms = 1000 * (time.perf_counter() - started)
    got = server.predict(version.name, rows)["predictions"]
    for position, (answer, wanted) in enumerate(zip(got, expected, strict=True)):
        if not same_answer(answer, wanted):
            raise ModelError(
                f"the server at {server.url} answers golden row {position} with {answer}, "
                f"expected {wanted}: the former champion was restored"
            )
    return Rollout(
        model=version.name,
        version=version.version,
        digest=version.digest,
        promoted=True,
        reasons=decision.reasons,
        server=server.url,
        request=json.dumps({"rows": rows[-1:]}, ensure_ascii=False),
        answer=json.dumps(one, ensure_ascii=False),
        latency_ms=latency_ms,
    )


def _wait_until_served(version: ModelVersion, row: dict[str, Any], server: Server) -> None:
    """Ask until the server answers with this version's digest; it notices within seconds."""
    deadline = time.monotonic() + PATIENCE_S
    last = "nothing"
    while time.monotonic() < deadline:
        try:
            last = server.predict(version.name, [row])["digest"]
        except TreadleError as error:
            last = str(error)
        if last == version.digest:
            return
        time.sleep(0.2)
    raise ModelError(
        f"the server at {server.url} doesn't serve {version.name} {version.digest} after "
        f"{PATIENCE_S:.0f} s (it says {last}): the former champion was restored"
    )
