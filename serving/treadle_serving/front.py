"""Our application in front of BentoML's.

BentoML's own application answers through middlewares for tracing, metrics, context and timeouts,
and a mounted application sits behind all of them; a small model answers in less time than they
take. So ours stands in front, with metrics, ids and limits of its own, and BentoML's keeps its life
cycle and its pages' files.
"""

import gc
from typing import Any

from starlette.concurrency import run_in_threadpool

from treadle_serving.app import App
from treadle_serving.requests import Message, Receive, Scope, Send


class Front:
    """Our application, with BentoML's behind it."""

    def __init__(self, app: App, bento: Any) -> None:
        self._app, self._bento = app, bento

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or begin and end with the process."""
        if scope["type"] == "http" and not scope["path"].startswith("/static_content/"):
            await self._app(scope, receive, _closing(send) if self._app.ending else send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._bento(scope, receive, send)

    def end(self) -> None:
        """Say that the process is about to end: it isn't ready any more then, and no connection is
        kept."""
        self._app.ending = True

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                await run_in_threadpool(self._app.start)
                # What is there now stays: looking through it for garbage again and again would
                # hold up requests for tens of milliseconds.
                gc.collect()
                gc.freeze()
            elif message["type"] == "lifespan.shutdown.complete":
                await run_in_threadpool(self._app.stop)
            await send(message)

        await self._bento(scope, receive, sent)


def _closing(send: Send) -> Send:
    """Have an answer say that its connection is closed after it."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [*message.get("headers", []), (b"connection", b"close")]
            message = {**message, "headers": headers}
        await send(message)

    return sent
