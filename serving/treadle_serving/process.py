"""The server's process: BentoML's service in uvicorn, with limits to what a slow client may hold,
and an end that cuts nobody off.

``bentoml serve treadle_serving.service:Treadle`` runs the same service under BentoML's supervisor,
a second process that starts uvicorn in the same way; it knows neither of these.
"""

import asyncio
import contextlib
import socket
import time
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from treadle_serving import memory
from treadle_serving.front import Front

# A client must have sent its whole request after so long, and have taken its answer.
ASK_S, TAKE_S = 30.0, 60.0
SWEEP_TICKS = 10  # of 0.1 s
_TOO_SLOW = b'{"error":"the request was not there whole after %d s"}' % ASK_S
# A kept connection on which nothing came for so long is nobody's who is about to ask.
QUIET_S = 1.0
# The longest that requests under way are waited for at the end: with the ten seconds that a cluster
# goes on asking and the twenty that the log may take, within the time that it lets us end in.
END_S, CUT_S = 35, 5


class Connection(HttpToolsProtocol):
    """uvicorn's connection, which knows since when its client owes it something."""

    asking_since: float | None = None
    closing_since: float | None = None
    used: float = 0.0

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self.used = self.asking_since = time.monotonic()

    def on_message_begin(self) -> None:
        """Begin to read a request."""
        super().on_message_begin()
        self.asking_since = time.monotonic()

    def on_message_complete(self) -> None:
        """Know that the request is there."""
        self.asking_since = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self.used = time.monotonic()
        super().on_response_complete()

    @property
    def is_idle(self) -> bool:
        """Say whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def is_quiet(self, now: float) -> bool:
        """Say whether it is unlikely that the client is about to ask."""
        return self.is_idle and now - self.used > QUIET_S

    def let_go_when_slow(self, now: float) -> None:
        """Cut a client off that takes too long to ask, or to take its answer."""
        if self.transport.is_closing():
            self.closing_since = self.closing_since or now
            if now - self.closing_since > TAKE_S:
                self.transport.abort()
            return
        if self.asking_since is None and self.is_idle and self.timeout_keep_alive_task is None:
            # It sends on, and what it sends is no request: its keep-alive time doesn't run.
            self.asking_since = now
        if self.asking_since is not None and now - self.asking_since > ASK_S:
            if self.is_idle or not self.cycle.response_started:
                head = b"content-type: application/json\r\ncontent-length: %d" % len(_TOO_SLOW)
                self.transport.write(
                    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n%b\r\n\r\n%b"
                    % (head, _TOO_SLOW)
                )
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server around our application."""

    def __init__(self, front: Front, listening: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                front, http=Connection, lifespan="on", ws="none", log_config=None,
                access_log=False, server_header=False,
                proxy_headers=False, timeout_graceful_shutdown=CUT_S,
            )
        )  # fmt: skip
        self._front, self._listening = front, listening

    async def on_tick(self, counter: int) -> bool:
        """Look after slow clients, and say whether to end."""
        if counter % SWEEP_TICKS == 0:
            now = time.monotonic()
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.let_go_when_slow(now)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections; answer what comes on those there are, each with
        ``Connection: close``; end when none of them is in use any more."""
        self._front.end()
        await self._stop_listening()
        deadline = time.monotonic() + END_S
        while (now := time.monotonic()) < deadline and not self.force_exit:
            if all(c.is_quiet(now) for c in self.server_state.connections
                   if isinstance(c, Connection)):  # fmt: skip
                break
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    async def _stop_listening(self) -> None:
        """Close the listening socket; who has connected to it and wasn't greeted yet is."""
        with self._listening.dup() as last:
            last.setblocking(False)
            for server in self.servers:
                server.close()
            loop = asyncio.get_running_loop()
            with contextlib.suppress(BlockingIOError):
                while True:
                    greeted, _ = last.accept()
                    await loop.connect_accepted_socket(self._connection, greeted)

    def _connection(self) -> Connection:
        return Connection(self.config, self.server_state, self.lifespan.state)


def run(front: Front, host: str, port: int) -> None:
    """Serve until a signal says to end."""
    memory.keep_few_pools()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    both = ":" in host and socket.has_dualstack_ipv6()
    with socket.create_server(
        (host, port), family=family, backlog=2048, dualstack_ipv6=both
    ) as listening:
        Server(front, listening).run(sockets=[listening])
