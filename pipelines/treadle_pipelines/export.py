"""Write a version of a model to a folder from which it runs elsewhere."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from treadle import runtime
from treadle.bundle import ONNX, Bundle
from treadle.errors import EnvironmentFault, ModelError, SpecError, nearest, output_fault
from treadle.records import ModelVersion
from treadle.writing import folder_written_aside


class Place(StrEnum):
    """Where a model can run, beside the model server."""

    BENTO = "bento"
    BROWSER = "browser"
    EDGE = "edge"


_NEXT = {
    Place.BENTO: "BENTOML_HOME={folder} bentoml serve {model}:latest, or bentoml containerize "
    "{model}:latest",
    Place.BROWSER: "python3 -m http.server --bind 127.0.0.1 --directory {folder} 8000, and open "
    "http://127.0.0.1:8000",
    Place.EDGE: "copy it to the device and run ./install there; its README.md says the rest",
}


@dataclass(frozen=True)
class Exported:
    """A version and its bundle, on their way out."""

    version: ModelVersion
    bundle: Bundle


def run(name: str, to: str, words: str | None, out: Path) -> dict[str, Any]:
    """Write the champion of a model, or the version that ``words`` name, for a place; return what
    was written. The folder appears whole or not at all."""
    place = _place(to)
    _check_folder(out)
    exported = _found(name, words)
    if place is not Place.BENTO:  # it brings scikit-learn
        _check_graph(exported, place)
    exported.bundle.prove()
    try:
        with folder_written_aside(out) as folder:
            _writer(place)(exported, folder)
            size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except (OSError, shutil.Error) as error:
        raise _folder_fault(out, error) from error
    version = exported.version
    return {
        "model": version.name, "version": version.version, "semver": version.semver,
        "digest": version.digest, "to": place.value, "folder": str(out), "size_bytes": size_bytes,
    }  # fmt: skip


def _place(to: str) -> Place:
    known = [place.value for place in Place]
    if to not in known:
        hint = nearest(to, known) or f": it must be one of {', '.join(known)}"
        raise SpecError(f"--to {to!r} is no place that a model can be exported to{hint}")
    return Place(to)


def _writer(place: Place) -> Callable[[Exported, Path], None]:
    from treadle_pipelines import export_bento, export_browser, export_edge

    return {
        Place.BENTO: export_bento.write,
        Place.BROWSER: export_browser.write,
        Place.EDGE: export_edge.write,
    }[place]


def _found(name: str, words: str | None) -> Exported:
    if words is None:
        return Exported(*runtime.serving_champion(name))
    version = runtime.version(name, words)
    return Exported(version, runtime.bundle(version.digest))


def _check_graph(exported: Exported, place: Place) -> None:
    """Raise ModelError for a bundle that runs in Python with scikit-learn alone."""
    if ONNX not in exported.bundle.files:
        version = exported.version
        raise ModelError(
            f"{version.name} version {version.version} can't be exported to {place}: "
            f"{exported.bundle.why_native}"
        )


def _check_folder(out: Path) -> None:
    """Raise SpecError where the folder, which a person named with -o, can't be meant."""
    if out.exists() and not out.is_dir():
        raise SpecError(f"-o {out} is a file: name a folder")
    if out.is_dir() and any(out.iterdir()):
        raise SpecError(f"-o {out} isn't empty: name a new folder, or empty it first")
    if not out.absolute().parent.is_dir():
        raise SpecError(f"-o {out}: there is no directory {out.parent}: make it first, or name "
                        "another folder")  # fmt: skip


def _folder_fault(out: Path, error: OSError) -> Exception:
    return output_fault(out, error) if error.errno else EnvironmentFault(f"-o {out}: {error}")


def told(done: dict[str, Any]) -> str:
    """Return what was written, and what to do next."""
    size = done["size_bytes"] / 2**20
    words = (f"wrote {done['model']} version {done['version']} ({done['semver']}) to "
             f"{done['folder']} ({size:.1f} MiB)")  # fmt: skip
    return f"{words}\nnext: {_NEXT[Place(done['to'])].format(**done)}"
