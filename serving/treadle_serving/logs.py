"""Structured logs: a JSON object a line, on standard error."""

import json
import logging
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Formats a record with the fields it was given as ``extra={"fields": {…}}``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure() -> None:
    """Have our own log written so; other loggers are left as they are."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    log = logging.getLogger("treadle.serving")
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    # uvicorn would put every request into words, to be thrown away.
    access = logging.getLogger("uvicorn.access")
    access.handlers, access.propagate = [], False
