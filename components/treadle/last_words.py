"""What a step says when it ends with a fault, where Kubernetes looks for it: the file that it shows
as a container's last words (`kubectl describe pod`) and that Argo adds to a node's message.

https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
"""

import re
from contextlib import suppress
from pathlib import Path

PLACE = Path("/dev/termination-log")
# Kubernetes keeps 4096 bytes.
MOST_BYTES = 3000
_ENDING = re.compile(r"\nexit code (\d+)\s*$")


def leave(words: str, exit_code: int) -> None:
    """Leave a fault's words and exit code; nothing where this is no container of Kubernetes'."""
    if not PLACE.exists():
        return
    kept = words.encode()[:MOST_BYTES].decode(errors="ignore")
    with suppress(OSError):  # the fault itself must be told, whatever becomes of this
        PLACE.write_text(f"{kept}\nexit code {exit_code}\n", encoding="utf-8")


def read(text: str) -> tuple[str, int] | None:
    """Return words and exit code as they were left, or None where they weren't."""
    ending = _ENDING.search(text)
    return (text[: ending.start()].strip(), int(ending[1])) if ending else None
