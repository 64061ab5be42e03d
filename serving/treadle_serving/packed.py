"""One version, packed: the model server without a registry and an object store, as in a Bento.

version.json       records.ModelVersion
bundles/<digest>/  its bundle, and the bundle's signature if it has one
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import bentoml

from treadle import runtime
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import RegistryError
from treadle.records import Change, ModelVersion, NewVersion, Query, Training
from treadle_serving.app import App
from treadle_serving.models import CHAMPION
from treadle_serving.service import OPTIONS, DirectService

VERSION = "version.json"


class PackedRegistry:
    """See ``ports.Registry``: one version, which is the champion and stays so."""

    def __init__(self, directory: Path) -> None:
        self._version = ModelVersion.read(directory / VERSION)

    def names(self) -> Sequence[str]:
        """Return the one name."""
        return [self._version.name]

    def aliases(self) -> Mapping[str, Mapping[str, int]]:
        """Return that the version is the champion."""
        return {self._version.name: {CHAMPION: self._version.version}}

    def versions(self, name: str) -> Sequence[ModelVersion]:
        """Return the one version."""
        if name != self._version.name:
            raise RegistryError(f"there is no model {name!r}: this server has {self._version.name}")
        return [self._version]

    def aliased(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version, if it is asked for as the champion."""
        return self._version if (name, alias) == (self._version.name, CHAMPION) else None

    def history(self, name: str) -> Sequence[Change]:
        """Return that nothing has changed."""
        return []

    def find(self, wanted: Query, limit: int, offset: int = 0) -> Sequence[ModelVersion]:
        """Return nothing: there is nothing to choose from."""
        return []

    def of_snapshot(self, digest: str) -> Sequence[ModelVersion]:
        """Return nothing: snapshots stayed where the version was made."""
        return []

    def register(
        self,
        new: NewVersion,
        files: Mapping[str, Path],
        number: int | None = None,
        training: Training | None = None,
    ) -> ModelVersion:
        """Refuse."""
        raise _fixed()

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Refuse."""
        raise _fixed()

    def remove_alias(self, name: str, alias: str) -> None:
        """Refuse."""
        raise _fixed()

    def change_champion(self, name: str, change: Change, position: int) -> None:
        """Refuse."""
        raise _fixed()


def _fixed() -> RegistryError:
    return RegistryError("a packed model can't be changed: export another version")


def service(directory: Path) -> Any:
    """Return the BentoML service that answers with the version in ``directory``. It writes no
    prediction log: there is no object store."""
    # Where answers wait to be counted, for the metrics of drift.
    scratch = TemporaryDirectory(prefix="treadle-bento-")

    class Packed(DirectService):
        """A service whose application has one model."""

        def application(self) -> App:
            """Return the application that a worker runs."""
            settings = replace(
                runtime.settings(), home=Path(scratch.name), prediction_log_share=0.0,
                shadow_share=0.0,
            )  # fmt: skip
            return App(settings, PackedRegistry(directory), DirectoryStore(directory))

    class Treadle:
        """One model."""

    return bentoml.service(service_class=Packed, **OPTIONS)(Treadle)


if TYPE_CHECKING:
    from treadle.ports import Registry

    _: Registry = PackedRegistry(Path())
