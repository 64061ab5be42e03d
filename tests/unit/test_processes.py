"""What is left of a run's processes."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from treadle_pipelines import processes


def test_what_ray_left_behind_goes_once_its_maker_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    left = {
        number: Path(tempfile.mkdtemp(prefix=f"treadle-ray-{number}_", dir="/tmp"))
        for number in (os.getpid(), ended.pid, zombie.pid)
    }
    try:
        # Half removed, as by a step that was killed over it.
        for directory in left.values():
            (directory / "session_x" / "logs" / "old").mkdir(parents=True)
        processes.sweep_ray()
        assert [number for number, path in left.items() if path.exists()] == [os.getpid()]
    finally:
        zombie.wait()
        for directory in left.values():
            shutil.rmtree(directory, ignore_errors=True)
