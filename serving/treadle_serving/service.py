"""The BentoML service: configuration, packaging and life cycle around our application."""

from typing import Any, cast

import bentoml

from treadle import runtime
from treadle_serving import logs
from treadle_serving.app import App
from treadle_serving.front import Front
from treadle_serving.shipping import ShippingProcess


class DirectService(bentoml.Service[Any]):  # type: ignore[misc]
    """A service whose application is ours."""

    def to_asgi(self, is_main: bool = True) -> Front:
        """Return the application that a worker runs."""
        logs.configure()
        return Front(self.application(), super().to_asgi(is_main))

    def application(self) -> App:
        """Return ours: every model in the registry."""
        ship = ShippingProcess()
        return App(runtime.settings(), runtime.registry(), runtime.object_store(), ship)


OPTIONS: dict[str, Any] = {
    "name": "treadle",
    "workers": 1,
    "logging": {"access": {"enabled": False}},
    "metrics": {"enabled": False},
}


@bentoml.service(service_class=DirectService, **OPTIONS)
class Treadle:
    """Every champion in the registry."""


def application() -> Front:
    """Return the service's application."""
    service: Any = Treadle  # what the decorator made of the class
    return cast(Front, service.to_asgi())
