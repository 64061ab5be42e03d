"""The BentoML service: its process model and packaging around our application.

BentoML runs what ``to_asgi`` returns. Its own application answers through middlewares for tracing,
metrics, context and timeouts, and a mounted application sits behind all of them; a small model
answers in less time than they take. So ours stands in front, with metrics, ids and limits of its
own, and BentoML's keeps its life cycle and its pages' files.
"""

import gc
from typing import Any

import bentoml
from starlette.concurrency import run_in_threadpool

from treadle import runtime
from treadle_serving import logs
from treadle_serving.app import App
from treadle_serving.requests import Message, Receive, Scope, Send


class Front:
    """Our application, with BentoML's behind it."""

    def __init__(self, app: App, bento: Any) -> None:
        self._app, self._bento = app, bento

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or begin and end with the process."""
        if scope["type"] == "http" and not scope["path"].startswith("/static_content/"):
            await self._app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._bento(scope, receive, send)

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


class DirectService(bentoml.Service[Any]):  # type: ignore[misc]
    """A service whose application is ours."""

    def to_asgi(self, is_main: bool = True) -> Front:
        """Return the application that a worker runs."""
        logs.configure()
        app = App(runtime.settings(), runtime.registry(), runtime.object_store())
        return Front(app, super().to_asgi(is_main))


@bentoml.service(
    name="treadle",
    workers=1,
    logging={"access": {"enabled": False}},
    metrics={"enabled": False},
    service_class=DirectService,
)
class Treadle:
    """Every champion in the registry."""
