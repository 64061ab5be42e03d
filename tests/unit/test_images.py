"""What the images are made of fits what runs in them."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

from treadle import lock
from treadle_serving import bento

ROOT = Path(__file__).parents[2]
RUN, SERVER = ROOT / "requirements-run.lock", ROOT / "serving" / "requirements.lock"


def pins(path: Path) -> set[str]:
    lines = path.read_text("utf-8").splitlines()
    return {line.rstrip(" \\") for line in lines if line[:1].isalnum()}


def names(path: Path) -> set[str]:
    return {re.split(r"==", pin)[0] for pin in pins(path)}


def test_the_codes_digest_knows_what_the_images_install() -> None:
    digest = hashlib.sha256(RUN.read_bytes() + SERVER.read_bytes()).hexdigest()[:32]
    assert digest == lock.DIGEST, "a lock was changed by hand: make lock writes them all"


def test_the_servers_image_has_the_versions_of_the_steps_image() -> None:
    assert pins(SERVER)
    assert pins(SERVER) <= pins(RUN)


def test_both_images_stand_on_the_same_base_by_its_digest() -> None:
    named = {
        re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / path).read_text("utf-8"), re.M)[0]
        for path in ("components/Dockerfile", "serving/Dockerfile")
    }
    (base,) = named
    assert re.fullmatch(r"python:3\.11-slim-bookworm@sha256:[0-9a-f]{64}", base)


def test_a_bento_installs_what_the_servers_image_does() -> None:
    lines = (ROOT / "serving" / "requirements.in").read_text("utf-8").splitlines()
    asked = [line.partition(";")[0].strip() for line in lines if line[:1].isalpha()]
    assert list(bento.REQUIREMENTS) == asked


def test_the_servers_image_has_all_that_the_server_imports() -> None:
    # In a process of its own: this one has imported more.
    program = """if True:
        import importlib, json, pkgutil, sys
        import treadle_serving
        from treadle import bundle
        from treadle.adapters import mlflow, s3
        for module in pkgutil.iter_modules(treadle_serving.__path__):
            importlib.import_module(f"treadle_serving.{module.name}")
        from importlib.metadata import packages_distributions
        owners = packages_distributions()
        print(json.dumps({d for m in sys.modules for d in owners.get(m, [])}, default=sorted))
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )
    imported = {re.sub(r"[-_.]+", "-", name).lower() for name in json.loads(done.stdout)}
    # Imported only because they are there.
    optional = {"brotli", "mlflow", "mlflow-tracing", "setuptools", "treadle"}
    assert imported - names(SERVER) - optional == set(), "add them to serving/requirements.in"
