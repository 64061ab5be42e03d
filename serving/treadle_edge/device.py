"""A device's folder: which models are there, which one answers, and the way back.

    models/<digest>/  a whole bundle, and champion.json, which says who it is
    state.json        State

Whatever moment the power goes: a bundle appears under its name when all of it is on disk,
state.json is replaced whole, and what is loaded is first held against its digest and its golden
rows.
"""

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from treadle.errors import EnvironmentFault, ModelError, TreadleError, from_os_error
from treadle_edge.model import Damaged, Model

# A model that took the process down with it so often while it was loaded is taken for the cause.
MOST_TRIES = 3
MOST_REFUSED = 10
# Names of what isn't whole yet, or is on its way out.
ASIDE = ".aside-"


@dataclass(frozen=True)
class State:
    """Which bundles are used, by digest. ``change`` is the number of the champion's change that
    was followed last. ``proven``: the current one was loaded here and passed its golden rows;
    until then ``tries`` counts. ``refused`` says why bundles aren't tried again."""

    current: str | None = None
    previous: str | None = None
    change: int = 0
    proven: bool = False
    tries: int = 0
    refused: dict[str, str] = field(default_factory=dict)


class Device:
    """The folder ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root / "models"
        self._file = root / "state.json"

    def state(self) -> State:
        """Return what was noted; nothing where that can't be read."""
        try:
            return State(**json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return State()

    def stamp(self) -> tuple[int, int] | None:
        """Return what differs whenever the state was noted anew."""
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino

    def note(self, state: State) -> None:
        """Replace the state, durably."""
        aside = self.root / f"{ASIDE}{uuid4().hex}"
        try:
            written(aside, [json.dumps(asdict(state), indent=1).encode()])
            aside.replace(self._file)
        finally:
            aside.unlink(missing_ok=True)
        synced(self.root)

    @contextmanager
    def locked(self, name: str = "state", wait: bool = True) -> Iterator[None]:
        """Keep other processes of this folder out; the system lets go when a process ends."""
        with (self.root / f".{name}.lock").open("wb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise EnvironmentFault("another update is under way: let it end") from error
            yield

    def opened(self, key: bytes | None) -> Model:
        """Return the current model, proven on its golden rows; one that fails is left for the
        previous one, or any that is good. Raises ModelError where none is."""
        with self.locked():
            faults = []
            for digest in self._candidates():
                try:
                    found = self._tried(digest, key)
                except TreadleError as error:
                    faults.append(f"{digest}: {error}")
                    print(f"treadle-edge: {error}", file=sys.stderr)
                    continue
                self._settle(digest, faults)
                return found
        raise ModelError(
            "there is no model here that passes its golden rows"
            + "".join(f"\n  {fault}" for fault in faults)
            + "\nexport it again with treadle export, or run treadle-edge update"
        )

    def _tried(self, digest: str, key: bytes | None) -> Model:
        state = self.state()
        if digest == state.current and not state.proven:
            if state.tries >= MOST_TRIES:
                words = f"it ended the process {MOST_TRIES} times while it was loaded"
                self._refuse(digest, words)
                raise ModelError(f"bundle {digest}: {words}")
            self._noted_if_possible(replace(state, tries=state.tries + 1))
        try:
            found = Model(self.models / digest, key)
            found.prove()
        except Damaged:
            raise  # the next update brings it again
        except ModelError as error:
            self._refuse(digest, str(error))
            raise
        return found

    def _settle(self, digest: str, faults: list[str]) -> None:
        state = self.state()
        if digest != state.current:
            state = replace(state, current=digest, previous=None, proven=False)
            if faults:
                print(f"treadle-edge: went back to bundle {digest}", file=sys.stderr)
        if not state.proven:
            self._noted_if_possible(replace(state, proven=True, tries=0))

    def _refuse(self, digest: str, why: str) -> None:
        self._noted_if_possible(refused(self.state(), digest, why))

    def _noted_if_possible(self, state: State) -> None:
        """A device whose disk is full or read-only still answers."""
        try:
            self.note(state)
        except OSError as error:
            print(f"treadle-edge: state.json can't be written: {error}", file=sys.stderr)

    def _candidates(self) -> list[str]:
        """Return the bundles that are there: the current one, the previous one, then the rest."""
        state = self.state()
        there = self.digests()
        first = [digest for digest in (state.current, state.previous) if digest in there]
        rest = [digest for digest in there if digest not in state.refused]
        return list(dict.fromkeys([*filter(None, first), *rest]))

    def digests(self) -> list[str]:
        """Return the bundles that are there."""
        if not self.models.is_dir():
            return []
        return sorted(path.name for path in self.models.iterdir() if path.name[0] != ".")

    def switch(self, digest: str, change: int) -> None:
        """Make a bundle that is there the current one."""
        with self.locked():
            state = self.state()
            previous = state.current if state.current != digest else state.previous
            kept = {name: why for name, why in state.refused.items() if name != digest}
            proven = state.proven and digest == state.current
            self.note(State(digest, previous, change, proven, refused=kept))

    def tidy(self) -> None:
        """Remove every bundle but the current and the previous one, and what was broken off."""
        with self.locked():
            state = self.state()
            for path in list(self.models.iterdir()):
                if path.name in (state.current, state.previous):
                    continue
                if path.name[0] != ".":  # half a bundle must not lie under a bundle's name
                    path = path.rename(self.models / f"{ASIDE}{uuid4().hex}")
                shutil.rmtree(path)
            for path in self.root.glob(f"{ASIDE}*"):
                path.unlink(missing_ok=True)


def refused(state: State, digest: str, why: str) -> State:
    """Return a state that doesn't try a bundle again."""
    kept = list({**state.refused, digest: why[:500]}.items())[-MOST_REFUSED:]
    return replace(state, refused=dict(kept))


def written(path: Path, chunks: Iterator[bytes] | list[bytes]) -> None:
    """Write a file, and see it on disk."""
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def synced(folder: Path) -> None:
    """See a folder's names on disk: without it a power cut can undo a rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def in_words(error: OSError, root: Path) -> TreadleError:
    """Put a full disk and the like into words."""
    error.filename = error.filename or str(root)
    known = from_os_error(error, "make room on this device")
    return known or EnvironmentFault(f"{error.filename}: {error.strerror or error}")
