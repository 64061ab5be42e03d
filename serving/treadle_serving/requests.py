"""Requests and answers over ASGI, and what is refused before a model sees it."""

import asyncio
import hmac
import itertools
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import orjson

from treadle.errors import DataError, TreadleError
from treadle.signature import RowErrors
from treadle_serving.models import UnknownModel

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = Mapping[bytes, bytes]

DISCARD_S = 5.0
# Bodies under way may take so much memory together.
MOST_BUFFERED_BYTES = 256 * 2**20
JSON = b"application/json"
# Deployment asks so whether a version answers as it must: not logged, never a canary's.
PROOF = b"x-treadle-proof"
_REQUEST_ID = re.compile(rb"[\x21-\x7e]{1,128}")
# Unique over processes and restarts; counting up is cheaper than drawing anew.
_prefix, _counter = secrets.token_hex(8), itertools.count()


class Refused(TreadleError):
    """A request that is refused with ``status``."""

    status = 400


class TooLarge(Refused):
    """The body is larger than the limit."""

    status = 413


class Unauthorized(Refused):
    """The key is missing or wrong."""

    status = 401


class WrongType(Refused):
    """The body is of a type that isn't taken."""

    status = 415


class Busy(Refused):
    """Too much is under way."""

    status = 503


class Gone(Exception):
    """The client has gone: there is nobody to answer."""


def new_id() -> str:
    """Return an id that nothing else has."""
    return f"{_prefix}{next(_counter):08x}"


def request_id(headers: Headers) -> bytes:
    """Return the id that the client gave its request, or a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return new_id().encode()


def check_key(headers: Headers, wanted: str | None) -> None:
    """Raise Unauthorized unless the key is the one wanted (any, where none is)."""
    if wanted is None:
        return
    given = headers.get(b"x-api-key")
    if given is None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else b""
    if not hmac.compare_digest(given, wanted.encode()):
        raise Unauthorized("this server wants a key: send it as 'Authorization: Bearer KEY'")


class Bodies:
    """Reads bodies, within limits of size and memory; ``process`` limits the time."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._buffered = 0

    async def read(self, receive: Receive, headers: Headers) -> bytes:
        """Return the whole body."""
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._most_bytes:
            await _discard(receive)
            raise self._too_large()
        if headers.get(b"content-encoding", b"identity") != b"identity":
            raise WrongType("send the body as it is: a content-encoding is not taken")
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            body = await self._rest(body, receive)
        if len(body) > self._most_bytes:
            raise self._too_large()
        return body

    async def _rest(self, first: bytes, receive: Receive) -> bytes:
        parts, size, more = [first], len(first), True
        self._buffered += size
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Gone
                part, more = message.get("body", b""), message.get("more_body", False)
                parts.append(part)
                size += len(part)
                self._buffered += len(part)
                if size > self._most_bytes:
                    parts.clear()
                    await _discard(receive)
                    raise self._too_large()
                if self._buffered > MOST_BUFFERED_BYTES:
                    raise Busy("too many large requests are under way: try again in a moment")
            return b"".join(parts)
        finally:
            self._buffered -= size

    def _too_large(self) -> TooLarge:
        mib = self._most_bytes // 2**20
        return TooLarge(f"the body is larger than {mib} MiB: send fewer rows at once")


async def _discard(receive: Receive) -> None:
    """Let a client send on for a moment: one that is cut off in the middle never reads why."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while (message := await receive()).get("more_body"):
                pass
            if message["type"] == "http.disconnect":
                raise Gone


def parse(body: bytes) -> Any:
    """Return a JSON body."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(f"the body is not JSON: {error}") from error


async def reply(
    send: Send,
    status: int,
    content: bytes,
    id_: bytes,
    content_type: bytes = JSON,
    ignored: Mapping[str, int] | None = None,
) -> None:
    """Send a whole answer."""
    headers = [
        (b"content-type", content_type),
        (b"content-length", b"%d" % len(content)),
        (b"x-request-id", id_),
    ]
    if ignored:
        headers.append((b"x-ignored-values", in_a_header(ignored).encode()))
    if status == Busy.status:
        headers.append((b"retry-after", b"1"))
    if status == Unauthorized.status:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def in_a_header(ignored: Mapping[str, int]) -> str:
    """Say how many values of which columns were ignored: ``a%20column=3, other=1``."""
    return ", ".join(f"{quote(name, safe='')}={count}" for name, count in ignored.items())


def fault(error: Exception) -> tuple[int, dict[str, Any]]:
    """Return status and body for a fault: words, never a traceback."""
    if isinstance(error, RowErrors):
        rows = [{"row": row, "column": name, "error": why} for row, name, why in error.errors[:100]]
        return 422, {"error": str(error), "rows": rows}
    if isinstance(error, Refused):
        return error.status, {"error": str(error)}
    if isinstance(error, UnknownModel):
        return 404, {"error": str(error)}
    if isinstance(error, DataError):
        return 422, {"error": str(error)}
    if isinstance(error, TreadleError):
        return 503, {"error": str(error)}
    return 500, {"error": "the server failed at this; its log says more under the request's id"}
