"""Promote a version and prove that a server answers with it; restore the former one if not."""

import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol

from treadle.answers import same_answer
from treadle.bundle import Bundle
from treadle.deployment import promotion
from treadle.deployment.promotion import CHALLENGER, CHAMPION, Fetch
from treadle.errors import ModelError, Overtaken, TreadleError
from treadle.ports import Registry
from treadle.records import ChangeKind, Decision, ModelVersion, Rollout

PATIENCE_S = 30.0
MOST_WORDS = 300
# Behind one address there may be several servers, each of which notices a promotion by itself
# within a second or so. So many answers in a row, each over a connection of its own, must be the
# new version's; of two servers that take turns at random, one is missed once in a million times.
ANSWERS_IN_A_ROW = 20
ASK_EVERY_S = 0.2


class Server(Protocol):
    """A running model server; ``alone`` where no other answers at its address."""

    url: str
    alone: bool

    def predict(self, model: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """POST rows to a model; raises TreadleError where the server refuses."""


Serving = Callable[[], AbstractContextManager[Server]]


def run(
    version: ModelVersion,
    decision: Decision,
    beaten: str | None,
    fetch: Fetch,
    registry: Registry,
    serving: Serving,
) -> Rollout:
    """Roll a version out, if the gate said yes just now; otherwise it becomes the challenger.

    The decision that was registered with the version may be older: a version that is trained a
    second time meets another champion. ``beaten`` is the digest of the champion that the gate held
    it against, None where there was none: where another is the champion by now, nobody knows
    whether this version is better, and it becomes the challenger too.
    """
    if not decision.passed:
        return _challenge(version, decision.reasons, registry)
    bundle = fetch(version.digest)
    bundle.prove()
    former = registry.aliased(version.name, CHAMPION)
    is_champion = former is not None and former.version == version.version
    if former is not None and not is_champion and former.digest != beaten:
        return _unknown(version, former, decision, registry)
    if promotion.needs_approval(version) and not is_champion:
        return _wait(version, decision, registry)
    who, why = f"run {version.lineage.run_id}", decision.reasons[-1]
    promotion.change(registry, version.name, ChangeKind.PROMOTED, former, version, who, why)
    try:
        with serving() as server:
            return _prove(version, decision, bundle, server)
    except BaseException as error:
        # Whatever went wrong, an interruption included: the former champion serves on.
        why = f"it couldn't be served: {error or type(error).__name__}"[:MOST_WORDS]
        # Unless somebody has made another one the champion meanwhile: then that serves on.
        with suppress(Overtaken):
            promotion.change(
                registry, version.name, ChangeKind.ROLLED_BACK, version, former, who, why
            )
        raise


def _unknown(
    version: ModelVersion, former: ModelVersion, decision: Decision, registry: Registry
) -> Rollout:
    """Keep a version that was held against another champion than there is now."""
    words = (
        f"but version {former.version} has become the champion since the gate looked, so it isn't "
        "known which is better: run it again, and they are held against each other"
    )
    return _challenge(version, [*decision.reasons, words], registry)


def _challenge(version: ModelVersion, reasons: list[str], registry: Registry) -> Rollout:
    registry.set_alias(version.name, CHALLENGER, version.version)
    return Rollout(
        model=version.name,
        version=version.version,
        digest=version.digest,
        promoted=False,
        reasons=reasons,
    )


def _wait(version: ModelVersion, decision: Decision, registry: Registry) -> Rollout:
    """Keep what the gate let through until a person has approved it."""
    command = f'treadle approve {version.name} {version.version} --why "…"'
    words = f"the gate says yes; approval is required (approval in the spec): {command}"
    waiting = _challenge(version, [*decision.reasons, words], registry)
    return waiting.model_copy(update={"awaits_approval": True})


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
    """Ask until the server answers with this version's digest, and wherever several may answer,
    until all do."""
    deadline = time.monotonic() + PATIENCE_S
    last, in_a_row = "nothing", 0
    wanted = 1 if server.alone else ANSWERS_IN_A_ROW
    while time.monotonic() < deadline:
        try:
            said = server.predict(version.name, [row])["digest"]
        except TreadleError as error:
            said = str(error)
        in_a_row = in_a_row + 1 if said == version.digest else 0
        if in_a_row == wanted:
            return
        last = last if said == version.digest else said
        time.sleep(ASK_EVERY_S)
    raise ModelError(
        f"the server at {server.url} doesn't serve {version.name} {version.digest} after "
        f"{PATIENCE_S:.0f} s (it says {last}): the former champion was restored"
    )
