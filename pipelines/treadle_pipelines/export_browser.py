"""The page for a browser: static files, the model, and what runs it (onnxruntime-web)."""

import base64
import json
import shutil
import tarfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import treadle_browser
from treadle import bundle as bundles
from treadle import runtime, signing
from treadle.bundle import ONNX, Bundle
from treadle_pipelines.export import Exported

# The build with the processor's operators alone, and its loader in one file. One thread runs it, so
# that no server needs to isolate the page.
NAME, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = (
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJm"
    "g8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
MEMBERS = {
    "package/dist/ort.wasm.bundle.min.mjs": "ort.js",  # every server knows what .js is
    "package/dist/ort-wasm-simd-threaded.wasm": "ort.wasm",
}


def write(exported: Exported, folder: Path) -> None:
    """Write the page."""
    for source in Path(str(files(treadle_browser) / "page")).iterdir():
        text = source.read_text(encoding="utf-8")
        text = text.replace("MODEL", exported.version.name) if source.suffix != ".js" else text
        (folder / source.name).write_text(text, encoding="utf-8")
    _write_runtime(folder / "ort")
    _write_model(exported, folder / "model")


def _write_runtime(folder: Path) -> None:
    folder.mkdir()
    package = runtime.npm_package(NAME, VERSION, INTEGRITY)
    with tarfile.open(package) as tar:
        for member, name in MEMBERS.items():
            content = tar.extractfile(member)
            assert content is not None, member
            with content, (folder / name).open("wb") as file:
                shutil.copyfileobj(content, file)


def _write_model(exported: Exported, folder: Path) -> None:
    folder.mkdir()
    for name, path in exported.bundle.files.items():
        shutil.copyfile(path, folder / name)
    about = json.dumps(_about(exported), indent=1, ensure_ascii=False)
    (folder / "about.json").write_text(about, encoding="utf-8")


def _about(exported: Exported) -> dict[str, Any]:
    """Say who the model is, and what the page needs beside the bundle."""
    version = exported.version
    signature = bundles.key(version.digest, signing.FILE)
    store = runtime.object_store()
    metric = version.metrics[0] if version.metrics else None
    return {
        "model": version.name,
        "version": version.version,
        "semver": version.semver,
        "digest": version.digest,
        "metric": metric and f"{metric.name} {metric.value:.4g}",
        "files": sorted(exported.bundle.files),
        "known": _known(exported.bundle),
        "verify_key": _verify_key(),
        "signature": store.get_bytes(signature).decode() if store.exists(signature) else None,
    }


def _verify_key() -> str | None:
    """Return the key that the bundle must be signed with, as a browser takes it: DER in base64."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    key = runtime.verify_key()
    if key is None:
        return None
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def _known(bundle: Bundle) -> dict[str, list[str]]:
    """Return the categories that the graph looks up, by feature: others were not seen in
    training."""
    import onnx

    known = {}
    for node in onnx.load(bundle.files[ONNX]).graph.node:
        if node.op_type == "LabelEncoder" and node.input[0] in bundle.signature.names:
            keys = next(a.strings for a in node.attribute if a.name == "keys_strings")
            known[node.input[0]] = [key.decode() for key in keys]
    return known
