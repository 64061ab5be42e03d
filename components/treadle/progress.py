"""What a step tells the world while it runs.

Every message goes to stderr as a plain line, which is what a pod's log shows. Where the launcher
asked for it (``TREADLE_EVENTS`` names a file), it is also appended there as JSON.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Literal

EventKind = Literal["started", "message", "trial", "finished", "failed"]
EVENTS_VARIABLE = "TREADLE_EVENTS"
_lock = threading.Lock()


def say(words: str) -> None:
    """Report progress in words."""
    emit("message", words=words)


def emit(kind: EventKind, **fields: object) -> None:
    """Append an event; a message's ``words`` are printed as well."""
    if "words" in fields:
        print(fields["words"], file=sys.stderr, flush=True)
    target = os.environ.get(EVENTS_VARIABLE)
    if not target:
        return
    line = json.dumps({"at": time.time(), "kind": kind, **fields}, default=str) + "\n"
    # One write of one line in append mode: lines of several processes don't mix.
    with _lock, Path(target).open("a", encoding="utf-8") as log:
        log.write(line)
