"""Other programs, run within a bound of time, their failures in words."""

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from kind_cluster import ROOT
from treadle.errors import EnvironmentFault

LAST_LINES = 12


def run(command: Sequence[str], timeout_s: float, **environment: str) -> str:
    """Return what a program prints. Raises EnvironmentFault with the end of what it said where it
    isn't there, fails, or takes longer than ``timeout_s``."""
    return _finished(command, timeout_s, environment, quiet=True)


def run_aloud(command: Sequence[str], timeout_s: float, **environment: str) -> str:
    """As ``run``, but its progress and complaints go to the terminal as they come."""
    return _finished(command, timeout_s, environment, quiet=False)


def _finished(
    command: Sequence[str], timeout_s: float, environment: Mapping[str, str], quiet: bool
) -> str:
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if quiet else None,
            timeout=timeout_s,
            text=True,
            errors="replace",
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(f"there is no {name}: install it, or put it on PATH") from error
    except subprocess.TimeoutExpired as error:
        said = _end_of(error.stderr, error.stdout)
        raise EnvironmentFault(f"{name} didn't end within {timeout_s:.0f} s{said}") from error
    if done.returncode:
        said = _end_of(done.stderr, done.stdout) if quiet else ": what it said stands above"
        raise EnvironmentFault(f"{' '.join([name, *command[1:3]])} failed{said}")
    return done.stdout


def _end_of(*texts: str | bytes | None) -> str:
    for text in texts:
        words = text.decode(errors="replace") if isinstance(text, bytes) else text or ""
        lines = [line.rstrip() for line in words.splitlines() if line.strip()]
        if lines:
            return ":\n  " + "\n  ".join(lines[-LAST_LINES:])
    return " and said nothing"
