"""Run by test_edge.py: updates a device again and again, each time killed one step later, with what
wasn't synced by then gone; and looks each time whether a good model answers.

    power_cuts.py DEVICE FIRST_DIGEST SECOND_DIGEST
"""

import builtins
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from treadle_edge.device import Device
from treadle_edge.settings import Settings
from treadle_edge.updating import update

STEPS = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def main() -> int:
    """Cut the power at every step; print how many there were."""
    base, first, second = Path(sys.argv[1]), *sys.argv[2:]
    for step in range(1, 1000):
        root = base.with_name(f"cut {step}")
        shutil.copytree(base, root)
        if in_a_child(lambda: cut_at(step, root)) == 0:  # noqa: B023 - called at once
            print(step)
            return 0
        found = in_a_child(lambda: looked_at(root, first, second))  # noqa: B023 - called at once
        if found:
            print(f"after a cut at step {step}: {found}")
            return 1
        shutil.rmtree(root)
    return 1


def in_a_child(act: Callable[[], Any]) -> int:
    """Run something in a process of its own; return how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        act()
    except BaseException as error:
        builtins.print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


def cut_at(step: int, root: Path) -> None:
    """Update; before the given step that changes a file, lose what isn't synced, and die."""
    unsynced: set[str] = set()
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == step:
            for path in unsynced:
                if Path(path).is_file():
                    os.truncate(os.open(path, os.O_WRONLY), 0)
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if seen >= step or not arguments or not str(arguments[0]).startswith(str(root)):
            return
        path = str(arguments[0])
        if event == "open" and (arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            count()
            if not path.endswith(".lock"):
                unsynced.add(path)
        elif event in STEPS:
            count()
            if event == "os.rename" and path in unsynced:
                unsynced.remove(path)
                unsynced.add(str(arguments[1]))

    def fsync(descriptor: int) -> None:
        count()
        real(descriptor)
        unsynced.discard(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    real, os.fsync = os.fsync, fsync  # type: ignore[assignment]
    sys.addaudithook(hook)
    update(Device(root), Settings.read(root))


def looked_at(root: Path, first: str, second: str) -> None:
    """See that a good model answers, and that the next update brings the new one."""
    device = Device(root)
    assert device.opened(None).identity["digest"] in (first, second)
    update(device, Settings.read(root))
    found = device.opened(None)
    assert found.identity["digest"] == second
    assert found.predict([{"x": 1}]) == [{"prediction": 3.0}]
    assert len(list(device.models.iterdir())) <= 2


if __name__ == "__main__":
    sys.exit(main())
