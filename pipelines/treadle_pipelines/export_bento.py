"""A Bento: the model server with one version inside, in a Bento store of its own."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import treadle
import treadle_serving
from treadle import bundle as bundles
from treadle import runtime, signing
from treadle.errors import ModelError
from treadle_pipelines.export import Exported

SERVICE = '''"""Made by treadle export: {name} version {version}, and the server that answers."""

from pathlib import Path

from treadle_serving import packed

Treadle = packed.service(Path(__file__).with_name("model"))
'''


def write(exported: Exported, folder: Path) -> None:
    """Write the store."""
    with TemporaryDirectory(prefix="treadle-bento-") as scratch:
        context = Path(scratch)
        _write_code(exported, context)
        _write_model(exported, context / "model")
        _build(exported, context, folder)
    for path in folder.iterdir():
        if path.name != "bentos":
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _write_code(exported: Exported, context: Path) -> None:
    """Copy our own packages: they need not be on any index."""
    for package in (treadle, treadle_serving):
        source, target = Path(str(files(package))), context / package.__name__
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    described = distribution("treadle")
    metadata = context / f"treadle-{described.version}.dist-info/METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: treadle\nVersion: {described.version}\n")
    words = SERVICE.format(name=exported.version.name, version=exported.version.version)
    (context / "service.py").write_text(words, encoding="utf-8")


def _write_model(exported: Exported, folder: Path) -> None:
    version, store = exported.version, runtime.object_store()
    place = folder / bundles.key(version.digest, "x")
    place.parent.mkdir(parents=True)
    version.write(folder / "version.json")
    for name, path in exported.bundle.files.items():
        shutil.copyfile(path, place.with_name(name))
    signature = bundles.key(version.digest, signing.FILE)
    if store.exists(signature):
        place.with_name(signing.FILE).write_bytes(store.get_bytes(signature))


def _build(exported: Exported, context: Path, store: Path) -> None:
    version = exported.version
    number = f"{version.semver}-{version.digest[:12]}"
    arguments = [str(context), version.name, number, str(store.absolute())]
    command = [sys.executable, "-m", "treadle_serving.bento", *arguments]
    environment = {**os.environ, "TREADLE_HOME": str(context / "home")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise ModelError(
            f"BentoML can't build {version.name}: {words[-1] if words else 'no words'}"
        )
