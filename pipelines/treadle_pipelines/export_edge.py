"""The folder for a device: the runtime (``treadle_edge``), what it shares with training, the model,
and where updates come from."""

import json
import shutil
from importlib.resources import files
from pathlib import Path

import treadle
import treadle_edge
from treadle import bundle as bundles
from treadle import runtime, signing
from treadle.deployment import announcement
from treadle_pipelines import champions
from treadle_pipelines.export import Exported


def write(exported: Exported, folder: Path) -> None:
    """Write the folder."""
    _write_runtime(folder / "runtime")
    _write_texts(exported, folder)
    change = _write_model(exported, folder / "models" / exported.version.digest)
    _write_json(folder / "state.json", {"current": exported.version.digest, "change": change})
    _write_json(folder / "edge.json", _settings(exported.version.name))
    _announce(exported.version.name)


def _write_runtime(folder: Path) -> None:
    """Copy the runtime, and the very modules that it shares with training and the server."""
    for package, modules in ((treadle_edge, None), (treadle, treadle_edge.CARRIED)):
        source = Path(str(files(package)))
        target = folder / package.__name__
        target.mkdir(parents=True)
        for path in sorted(source.glob("*.py")):
            if modules is None or path.stem in modules:
                shutil.copyfile(path, target / path.name)


def _write_texts(exported: Exported, folder: Path) -> None:
    rows, _ = exported.bundle.golden
    version = exported.version
    words = {
        "MODEL": version.name,
        "VERSION": f"{version.version} ({version.semver})",
        "DIGEST": version.digest,
        # Between single quotes of a shell.
        "EXAMPLE": json.dumps(rows[-1], ensure_ascii=False).replace("'", "'\\''"),
    }
    for source in Path(str(files(treadle_edge) / "folder")).iterdir():
        text = source.read_text(encoding="utf-8")
        for word, meant in words.items():
            text = text.replace(word, meant) if source.suffix != ".txt" else text
        (folder / source.name).write_text(text, encoding="utf-8")
        (folder / source.name).chmod(source.stat().st_mode & 0o777)


def _write_model(exported: Exported, folder: Path) -> int:
    """Copy the bundle and its signature, and say beside them who it is; return the number of the
    champion's changes so far."""
    folder.mkdir(parents=True)
    version, store = exported.version, runtime.object_store()
    for name, path in exported.bundle.files.items():
        shutil.copyfile(path, folder / name)
    signature = bundles.key(version.digest, signing.FILE)
    if store.exists(signature):
        (folder / signing.FILE).write_bytes(store.get_bytes(signature))
    change = len(runtime.registry().history(version.name))
    told = announcement.told(version, exported.bundle, change, runtime.signing_key())
    (folder / "champion.json").write_bytes(told)
    return change


def _settings(name: str) -> dict[str, str | None]:
    """Return where updates come from: this machine's object store."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    settings, key = runtime.settings(), runtime.verify_key()
    found: dict[str, str | None] = {"model": name, "verify_key": None}
    if key is not None:
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        found["verify_key"] = pem.decode()
    chosen = settings.object_store
    if chosen and chosen.startswith("s3://"):
        from treadle.adapters.s3 import parse_endpoint

        host, is_tls = parse_endpoint(settings.s3_endpoint)
        endpoint = f"{'https' if is_tls else 'http'}://{host}"
        region = settings.s3_region or "us-east-1"
        return {**found, "source": chosen, "s3_endpoint": endpoint, "s3_region": region}
    place = Path(chosen) if chosen else settings.home / "objects"
    return {**found, "source": str(place.absolute())}


def _announce(name: str) -> None:
    """See that devices can read who the champion is: a home that an older Treadle made has not said
    so yet."""
    store = runtime.object_store()
    if not store.exists(signing.champion_key(name)):
        champions.announce(name)


def _write_json(path: Path, content: dict[str, object] | dict[str, str | None]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
