"""The BentoML service: its process model, health checks and metrics around our application."""

import bentoml

from treadle_serving.app import app


@bentoml.service(
    name="treadle",
    workers=1,
    traffic={"timeout": 60},
    logging={"access": {"enabled": False}},
    metrics={"enabled": True},
)
@bentoml.asgi_app(app, path="/")
class Treadle:
    """Every champion in the registry."""
