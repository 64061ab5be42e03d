"""The webhook: a CloudEvent in a POST."""

import urllib.error
import urllib.request
from urllib.parse import urlsplit

from treadle.errors import EnvironmentFault

TYPE = "application/cloudevents+json; charset=utf-8"
ANSWER_S = 10


def post(url: str, content: bytes) -> None:
    """Send an event. Raises EnvironmentFault where it isn't taken; the address isn't shown whole,
    because it may hold a secret."""
    place = f"the webhook at {urlsplit(url).hostname}"
    request = urllib.request.Request(  # noqa: S310 - the scheme was checked in the settings
        url, data=content, headers={"content-type": TYPE}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_S):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        error.close()
        raise EnvironmentFault(f"{place} says {error.code} (TREADLE_WEBHOOK_URL)") from error
    except OSError as error:
        raise EnvironmentFault(f"{place} doesn't answer: {error} (TREADLE_WEBHOOK_URL)") from error
