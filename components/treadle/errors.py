"""Everything Treadle raises on purpose.

    TreadleError                exit 1
    ├── SpecError               exit 2   the spec file, a setting or a flag is wrong
    ├── DataError               exit 1   the table can't be used
    ├── ModelError              exit 1   a model can't be trained, exported or loaded
    ├── StoreError              exit 1   the object store refused or lost something
    ├── RegistryError           exit 1   the registry refused or doesn't know
    │   └── Overtaken           exit 1   somebody else's change came first
    ├── EnvironmentFault        exit 1   this machine: disk, port, memory, permission
    ├── Interrupted             exit 130 a person or the system said stop
    └── GateRefused             exit 3   a gate said no, with its reasons

A message says what is wrong, with which value, and what to do next. Vendor errors are
translated where they come in, with ``from``.
"""

import difflib
import errno
from collections.abc import Iterable, Sequence
from pathlib import Path


class TreadleError(Exception):
    """A failure with words for a person; ``exit_code`` is what the process ends with.
    ``may_pass``: it lies in the surroundings, so that the same thing done later may work."""

    exit_code = 1
    may_pass = False


class SpecError(TreadleError):
    """The spec file, a setting or a flag is wrong."""

    exit_code = 2


class DataError(TreadleError):
    """The table can't be used."""


class ModelError(TreadleError):
    """A model can't be trained, exported or loaded."""


class StoreError(TreadleError):
    """The object store refused or lost something."""

    may_pass = True


class RegistryError(TreadleError):
    """The registry refused a change or doesn't know what it was asked for."""

    may_pass = True


class Overtaken(RegistryError):
    """Somebody else's change of the same model came first; nothing was changed."""


class EnvironmentFault(TreadleError):
    """This machine is in the way: disk, port, memory, permission."""

    may_pass = True


class Interrupted(TreadleError):
    """A person pressed Ctrl-C, or the system asked the process to end."""

    exit_code = 130


class GateRefused(TreadleError):
    """A gate said no; the message holds its reasons."""

    exit_code = 3


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the known word closest to ``word``, or ``""``."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a count with its noun: ``1 row``, ``1,200 rows``; ``many`` where no s makes it."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


_OS_WORDS = {
    errno.ENOSPC: "the disk is full: free some space, or {way_out}",
    errno.EDQUOT: "the disk quota is used up: free some space, or {way_out}",
    errno.EROFS: "the file system is read-only: {way_out}",
    errno.EACCES: "permission denied: {way_out}",
    errno.EPERM: "not permitted: {way_out}",
    errno.EIO: "the disk doesn't read or write: check it, or {way_out}",
    errno.EMFILE: "too many open files: raise the limit with ulimit -n",
    errno.ENOMEM: "out of memory: give it a smaller table or a bigger machine",
}


HOME_WAY_OUT = "name another place with --home"


def from_os_error(error: OSError, way_out: str = HOME_WAY_OUT) -> EnvironmentFault | None:
    """Put a full disk, a read-only home and the like into words; None for any other fault.

    ``way_out`` says where else the file could go.
    """
    words = _OS_WORDS.get(error.errno or 0)
    if words is None:
        return None
    place = f"{error.filename}: " if error.filename else ""
    return EnvironmentFault(place + words.format(way_out=way_out))


def output_fault(path: Path, error: OSError) -> TreadleError:
    """Put into words why ``path``, which a person named with -o, can't be written."""
    error.filename = str(path)
    known = from_os_error(error, "name another file with -o")
    words = f"-o {path}: {(error.strerror or str(error)).lower()}: name another file"
    return known or EnvironmentFault(words)


def check_output(path: Path, endings: Sequence[str]) -> None:
    """Raise SpecError where ``path``, which a person named with -o, can't be meant: another
    ending, no such directory, or a directory itself."""
    if path.is_dir():
        raise SpecError(f"-o {path} is a directory: name a file, as in {path / 'out'}{endings[0]}")
    if path.suffix not in endings:
        raise SpecError(f"-o {path} ends in {path.suffix or 'nothing'}: it must end in "
                        f"{' or '.join(endings)}")  # fmt: skip
    if not path.absolute().parent.is_dir():
        raise SpecError(f"-o {path}: there is no directory {path.parent}: make it first, or name "
                        "another file")  # fmt: skip
