"""The server's interface is what its OpenAPI page says: requests made from it by schemathesis."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving_fakes import Running
from starlette.routing import Route

from treadle_serving import openapi
from treadle_serving.routes import application

OPERATIONS = [
    (path, method)
    for path, found in openapi.document(32)["paths"].items()
    for method in ("get", "post")
    if method in found
]


@pytest.fixture(scope="module")
def interface(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = Running(tmp_path_factory.mktemp("interface"))
    server.app.models.start()
    with pytest.MonkeyPatch.context() as patched:
        # Names that nobody has are all answered alike; these exist.
        patched.setitem(openapi._NAME, "schema", {"enum": ["sum"]})
        patched.setitem(openapi._VERSION, "schema", {"enum": [1]})
        yield schemathesis.openapi.from_asgi("/docs.json", server.app)
    server.app.models.stop()


def test_every_path_that_is_answered_is_described(interface: Any) -> None:
    described = {path.replace("{version}", "{version:int}") for path, _ in OPERATIONS}
    routes = application(interface.app).routes
    assert {route.path for route in routes if isinstance(route, Route)} == described


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_whatever_is_asked_is_answered_as_the_page_says(
    interface: Any, path: str, method: str
) -> None:
    operation = interface[path][method]

    def asked(case: schemathesis.Case) -> None:
        # The page can't say which columns the models have, or that ids are as many as rows.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    # What has no parameters can't be asked wrongly.
    modes = list(GenerationMode) if method == "post" else [GenerationMode.POSITIVE]
    for mode in modes:
        cases = operation.as_strategy(generation_mode=mode)
        bounded = settings(
            max_examples=15 if method == "post" else 2,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        bounded(given(case=cases)(asked))()
