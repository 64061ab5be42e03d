"""One suite over every object store: a directory, and S3 as SeaweedFS speaks it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mounts import linux_root, mount, mounted_tmpfs
from seaweed import S3Server
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.s3 import S3Store, parse_endpoint
from treadle.config import Settings
from treadle.errors import EnvironmentFault, SpecError, StoreError
from treadle.ports import ObjectStore

BUCKET = "contract"
BIG = os.urandom(1 << 20) * 6 + b"and an uneven rest"  # over the 5 MiB of one part

each_example_is_cheap = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def s3_settings(server: S3Server, home: Path, prefix: str = "") -> Settings:
    return Settings(
        home=home,
        object_store=f"s3://{BUCKET}/{prefix}",
        s3_endpoint=server.endpoint,
        s3_access_key=server.access_key,
        s3_secret_key=server.secret_key,
    )


@pytest.fixture
def s3_place(seaweedfs: S3Server, tmp_path: Path) -> Settings:
    """Settings of the running server with a prefix that no other test uses."""
    return s3_settings(seaweedfs, tmp_path / "home", f"tests/{uuid4().hex}")


@pytest.fixture
def s3(s3_place: Settings) -> S3Store:
    return S3Store.from_settings(s3_place)


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "objects")


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    made: ObjectStore = request.getfixturevalue(request.param)
    return made


# Every store


@pytest.mark.parametrize("data", [b"", b"\x00\xff", BIG], ids=["empty", "small", "multipart"])
def test_what_was_put_is_what_is_got(store: ObjectStore, tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "source"
    source.write_bytes(data)
    store.put_bytes("as/bytes.bin", data)
    store.put_file("as/file.bin", source)
    assert store.get_bytes("as/bytes.bin") == data
    assert store.get_bytes("as/file.bin") == data
    assert store.local("as/file.bin").read_bytes() == data
    assert source.read_bytes() == data


def test_a_put_replaces_the_former_blob(store: ObjectStore) -> None:
    store.put_bytes("a", b"the former, longer one")
    store.put_bytes("a", b"the latter")
    assert store.get_bytes("a") == b"the latter"
    assert list(store.keys()) == ["a"]


def test_what_is_created_is_created_once(store: ObjectStore) -> None:
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second")
    assert store.get_bytes("a/b") == b"first"
    store.delete("a/b")
    assert store.create("a/b", b"third")


def test_of_many_who_create_at_once_one_succeeds(store: ObjectStore) -> None:
    def create(who: int) -> bool:
        return store.create("the/one", b"%d" % who)

    with ThreadPoolExecutor(8) as threads:
        succeeded = list(threads.map(create, range(8)))
    assert succeeded.count(True) == 1
    assert store.get_bytes("the/one") == b"%d" % succeeded.index(True)


def test_a_missing_blob_is_named(store: ObjectStore) -> None:
    store.put_bytes("folder/blob", b"")
    for key in ("nothing/here", "folder", "folder/blob/below"):
        for read in (store.get_bytes, store.local):
            with pytest.raises(StoreError, match=f"no blob '{key}'"):
                read(key)


def test_only_blobs_exist_and_not_their_folders(store: ObjectStore) -> None:
    store.put_bytes("folder/blob", b"1")
    assert store.exists("folder/blob")
    assert not store.exists("folder")
    assert not store.exists("folder/other")
    assert not store.exists("folder/blob/below")


def test_keys_come_in_order_and_by_prefix(store: ObjectStore) -> None:
    keys = ["b", "a/b/c", "a-b", "a/b.txt", "a.b", "ab/c", "a/B", "é", "a/é", "a/z"]
    assert list(store.keys()) == []
    for key in keys:
        store.put_bytes(key, b"")
    assert list(store.keys()) == sorted(keys)
    assert list(store.keys("a/")) == ["a/B", "a/b.txt", "a/b/c", "a/z", "a/é"]
    assert list(store.keys("a/b")) == ["a/b.txt", "a/b/c"]
    assert list(store.keys("a")) == sorted(key for key in keys if key.startswith("a"))
    assert list(store.keys("a/b/c")) == ["a/b/c"]
    for nothing in ("c", "a/b/c/", "/", "/a", "../", "a/../b", "a//", ".tmp/", "a\0", "b/c"):
        assert list(store.keys(nothing)) == [], nothing


def test_more_keys_than_a_page_of_s3_are_all_listed(store: ObjectStore) -> None:
    keys = [f"many/{number // 100:02d}/{number:04d}" for number in range(1010)]
    for key in keys:
        store.put_bytes(key, b"")
    assert list(store.keys("many/")) == keys


def test_deleting_twice_is_no_error(store: ObjectStore) -> None:
    store.put_bytes("a/b/c", b"1")
    store.put_bytes("a/d", b"2")
    for _ in range(2):
        store.delete("a/b/c")
        assert not store.exists("a/b/c")
        assert list(store.keys()) == ["a/d"]
    store.delete("never/was")
    store.delete("a")
    assert store.get_bytes("a/d") == b"2"


def test_a_folder_that_became_empty_is_free_as_a_key(store: ObjectStore) -> None:
    store.put_bytes("a/b/c", b"1")
    store.delete("a/b/c")
    store.put_bytes("a", b"2")
    assert list(store.keys()) == ["a"]


def test_local_follows_a_changed_blob(store: ObjectStore) -> None:
    store.put_bytes("t/data.parquet", b"one")
    first = store.local("t/data.parquet")
    assert first.name == "data.parquet"
    assert first.read_bytes() == b"one"
    store.put_bytes("t/data.parquet", b"two")
    assert store.local("t/data.parquet").read_bytes() == b"two"
    store.delete("t/data.parquet")
    with pytest.raises(StoreError, match=r"t/data\.parquet"):
        store.local("t/data.parquet")


@pytest.mark.parametrize(
    "key",
    [
        "größe/Ünï.txt",
        "数据/模型.onnx",
        "🧵/x",
        "a b+c%41&d=e?f#g.txt",
        'it\'s "q"/<x>;,~',
        "..a/.b/c.",
    ],
)
def test_keys_beyond_plain_ascii_survive(store: ObjectStore, key: str) -> None:
    store.put_bytes(key, key.encode())
    assert store.get_bytes(key) == key.encode()
    assert store.local(key).read_bytes() == key.encode()
    assert list(store.keys()) == [key]
    assert list(store.keys(key[:-1])) == [key]
    store.delete(key)
    assert not store.exists(key)


parts = st.text(
    st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="/\\"),
    min_size=1,
    max_size=12,
).filter(lambda part: part not in {".", "..", ".tmp"})


@each_example_is_cheap
@given(key=st.lists(parts, min_size=1, max_size=4).map("/".join), data=st.binary(max_size=100))
def test_any_valid_key_makes_the_round_trip(store: ObjectStore, key: str, data: bytes) -> None:
    store.put_bytes(key, data)
    assert store.get_bytes(key) == data
    assert list(store.keys()) == [key]
    store.delete(key)
    assert list(store.keys()) == []


valid = st.lists(parts, max_size=2)
invalid_part = st.sampled_from(["", ".", "..", "a\\b", "a\0b", "a\nb", "\x7f", "\ud800", "x" * 256])
invalid_keys = st.one_of(
    st.builds(lambda a, bad, b: "/".join([*a, bad, *b]), valid, invalid_part, valid),
    st.text(max_size=20).map(lambda text: "/" + text),
    st.text(max_size=20).map(lambda text: text + "/"),
    st.just("/".join(["x" * 204] * 5 + ["é"])),
    st.sampled_from([".tmp", ".tmp/x"]),
)


@each_example_is_cheap
@given(key=invalid_keys)
def test_keys_that_some_store_could_not_hold_are_refused(store: ObjectStore, key: str) -> None:
    uses: list[Callable[[], object]] = [
        lambda: store.put_bytes(key, b""),
        lambda: store.put_file(key, Path(__file__)),
        lambda: store.get_bytes(key),
        lambda: store.local(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.uri(key),
    ]
    for use in uses:
        with pytest.raises(StoreError, match="can't name a blob") as caught:
            use()
        assert repr(key[:120]) in str(caught.value)


def test_the_longest_key_of_a_store_is_taken(directory: DirectoryStore) -> None:
    key = "/".join(["x" * 204] * 5)
    assert len(key) == 1024
    directory.put_bytes(key, b"long")
    assert list(directory.keys(key)) == [key]


def test_a_source_that_can_not_be_read_leaves_the_former_blob(
    store: ObjectStore, tmp_path: Path
) -> None:
    store.put_bytes("kept", b"former")
    for source in (tmp_path / "missing", tmp_path):
        for key in ("kept", "fresh"):
            with pytest.raises(StoreError, match=f"can't read {source} to store it as '{key}'"):
                store.put_file(key, source)
    assert list(store.keys()) == ["kept"]
    assert store.get_bytes("kept") == b"former"


def test_concurrent_puts_of_one_key_end_as_one_of_them_whole(
    store: ObjectStore, tmp_path: Path
) -> None:
    blobs = [bytes([letter]) * (6 << 20) for letter in b"abc"]
    start = threading.Barrier(len(blobs))

    def put(blob: bytes) -> None:
        source = tmp_path / f"source-{blob[0]}"
        source.write_bytes(blob)
        start.wait()
        store.put_file("contested", source)

    with ThreadPoolExecutor(len(blobs)) as pool:
        list(pool.map(put, blobs))
    assert store.get_bytes("contested") in blobs
    assert list(store.keys()) == ["contested"]


PUT_A_GIBIBYTE = """
import os, sys
from pathlib import Path
from treadle.adapters.filesystem import DirectoryStore
from treadle.adapters.s3 import S3Store
from treadle.config import Settings

source, place = Path(sys.argv[1]), sys.argv[2]
store = DirectoryStore(Path(place)) if place else S3Store.from_settings(Settings.from_environment())
print("putting", flush=True)
store.put_file("killed", source)
"""


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_a_put_that_is_killed_leaves_nothing_visible(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store: ObjectStore = request.getfixturevalue(kind)
    environment = {name: value for name, value in os.environ.items() if "TREADLE_" not in name}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    if kind == "s3":
        environment |= request.getfixturevalue("s3_place").as_environment()
    objects = str(tmp_path / "objects") if kind == "directory" else ""
    source = tmp_path / "source"
    with source.open("wb") as file:
        file.truncate(1 << 30)  # sparse: takes no space, but long enough to be copied
    store.put_bytes("other", b"unharmed")

    command = [sys.executable, "-c", PUT_A_GIBIBYTE, str(source), objects]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"putting\n"
        time.sleep(0.15)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it finished before it was killed"
    if isinstance(store, DirectoryStore):
        assert not no_parts(store), "it was killed before it wrote"
    assert list(store.keys()) == ["other"]
    assert not store.exists("killed")
    store.put_bytes("killed", b"second try")
    assert store.get_bytes("killed") == b"second try"


# A directory


def test_directory_addresses_are_file_uris(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "o b")
    store.put_bytes("ü/x y", b"1")
    uri = urlsplit(store.uri("ü/x y"))
    assert uri.scheme == "file"
    assert Path(unquote(uri.path)).read_bytes() == b"1"
    assert store.local("ü/x y") == tmp_path / "o b" / "ü" / "x y"


def test_a_directory_key_can_not_be_a_folder_of_keys_too(directory: DirectoryStore) -> None:
    directory.put_bytes("a/b", b"1")
    for key in ("a", "a/b/c"):
        with pytest.raises(StoreError, match="can't also be a folder"):
            directory.put_bytes(key, b"2")
    assert list(directory.keys()) == ["a/b"]
    assert no_parts(directory)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/mem is Linux's")
def test_a_source_that_fails_while_it_is_read_leaves_no_part(directory: DirectoryStore) -> None:
    with pytest.raises(StoreError, match="can't read /proc/self/mem to store it as 'k'"):
        directory.put_file("k", Path("/proc/self/mem"))  # opens, and fails at the first read
    assert list(directory.keys()) == []
    assert no_parts(directory)


PUT_PAST_THE_LIMIT = """
import resource, sys
from pathlib import Path
from treadle.adapters.filesystem import DirectoryStore
from treadle.errors import StoreError

resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))
try:
    DirectoryStore(Path(sys.argv[1])).put_file("k", Path(sys.argv[2]))
except StoreError as error:
    print(error)
"""


def test_a_write_that_fails_in_the_middle_leaves_no_part(
    directory: DirectoryStore, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(BIG)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", PUT_PAST_THE_LIMIT, str(tmp_path / "objects"), str(source)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "can't store 'k'" in done.stdout
    assert "File too large" in done.stdout
    assert list(directory.keys()) == []
    assert no_parts(directory)


def test_parts_of_killed_puts_are_swept_after_a_day(tmp_path: Path) -> None:
    aside = tmp_path / "objects" / ".tmp"
    aside.mkdir(parents=True)
    for name, age_h in (("yesterday", 25), ("today", 1)):
        part = aside / f".part-{name}"
        part.touch()
        os.utime(part, (time.time() - age_h * 3600,) * 2)
    DirectoryStore(tmp_path / "objects").put_bytes("a", b"")
    assert [part.name for part in aside.iterdir()] == [".part-today"]


def test_deletes_beside_puts_in_one_folder_lose_no_blob(directory: DirectoryStore) -> None:
    def churn(name: str) -> None:
        for number in range(300):
            key, data = f"shared/folder/{name}", str(number).encode()
            directory.put_bytes(key, data)
            assert directory.get_bytes(key) == data
            directory.delete(key)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(churn, ["mine", "yours"]))
    assert list(directory.keys()) == []


@linux_root
def test_a_full_disk_is_put_in_words_and_leaves_no_part(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", "size=1m") as place:
        store = DirectoryStore(place / "objects")
        store.put_bytes("fits", b"1")
        with pytest.raises(EnvironmentFault, match=r"small/objects.*the disk is full: free some"):
            store.put_bytes("too/big", bytes(2 << 20))
        assert list(store.keys()) == ["fits"]
        assert no_parts(store)
        store.put_bytes("fits", b"2")
        assert store.get_bytes("fits") == b"2"


@linux_root
def test_a_read_only_directory_is_put_in_words_and_still_read(tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "fixed", "size=1m") as place:
        store = DirectoryStore(place)
        store.put_bytes("a", b"1")
        mount("-o", "remount,ro", str(place))
        changes: list[Callable[[], object]] = [
            lambda: store.put_bytes("b", b""),
            lambda: store.delete("a"),
        ]
        for change in changes:
            with pytest.raises(EnvironmentFault, match="the file system is read-only"):
                change()
        assert store.get_bytes("a") == b"1"
        assert no_parts(store)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_put_in_words(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(EnvironmentFault, match="permission denied"):
        DirectoryStore(tmp_path / "closed" / "objects").put_bytes("a", b"")


# S3


def test_s3_addresses_name_bucket_prefix_and_key(s3_place: Settings, s3: S3Store) -> None:
    assert s3.uri("a/b c") == f"{s3_place.object_store}/a/b c"
    bare = S3Store.from_settings(replace(s3_place, object_store=f"s3://{BUCKET}"))
    assert bare.uri("a") == f"s3://{BUCKET}/a"


def test_stores_with_different_prefixes_do_not_see_each_other(s3_place: Settings) -> None:
    outer, inner = (
        S3Store.from_settings(replace(s3_place, object_store=f"{s3_place.object_store}{tail}"))
        for tail in ("", "/inner/")
    )
    inner.put_bytes("x", b"1")
    outer.put_bytes("innermost", b"2")
    assert list(inner.keys()) == ["x"]
    assert list(outer.keys()) == ["inner/x", "innermost"]


def test_an_unchanged_blob_is_downloaded_once(s3_place: Settings, s3: S3Store) -> None:
    s3.put_bytes("big", BIG)
    first = s3.local("big")
    stamp = first.stat().st_mtime_ns
    assert S3Store.from_settings(s3_place).local("big") == first
    assert first.stat().st_mtime_ns == stamp
    assert s3_place.home in first.parents


def test_a_cached_copy_that_was_cut_short_is_downloaded_again(s3: S3Store) -> None:
    s3.put_bytes("big", BIG)
    os.truncate(s3.local("big"), 10)
    assert s3.local("big").read_bytes() == BIG


def test_equal_content_under_two_keys_keeps_both_names(s3: S3Store) -> None:
    s3.put_bytes("a/x.csv", b"same")
    s3.put_bytes("b/y.parquet", b"same")
    assert [s3.local(key).name for key in ("a/x.csv", "b/y.parquet")] == ["x.csv", "y.parquet"]


@linux_root
def test_a_full_disk_under_the_cache_is_put_in_words(s3_place: Settings, tmp_path: Path) -> None:
    with mounted_tmpfs(tmp_path / "small", "size=1m") as place:
        store = S3Store.from_settings(replace(s3_place, home=place))
        store.put_bytes("big", BIG)
        with pytest.raises(EnvironmentFault, match="small/cache/s3: the disk is full"):
            store.local("big")
        assert not [path for path in place.rglob("*") if path.is_file()]


def every_call(store: ObjectStore) -> list[Callable[[], object]]:
    return [
        lambda: store.put_bytes("k", b"1"),
        lambda: store.put_file("k", Path(__file__)),
        lambda: store.get_bytes("k"),
        lambda: store.local("k"),
        lambda: store.exists("k"),
        lambda: store.keys(),
        lambda: store.delete("k"),
    ]


def test_a_missing_bucket_is_named_by_every_call(s3_place: Settings) -> None:
    store = S3Store.from_settings(replace(s3_place, object_store="s3://nobodys-bucket/p"))
    for call in every_call(store):
        with pytest.raises(StoreError, match=r"no bucket 'nobodys-bucket' at http.*: create it"):
            call()


@pytest.mark.parametrize(
    "wrong",
    [
        {"s3_secret_key": "wrong"},
        {"s3_access_key": "stranger"},
        {"s3_access_key": None, "s3_secret_key": None},
    ],
    ids=["secret", "access key", "anonymous"],
)
def test_wrong_credentials_say_which_settings_to_check(
    s3_place: Settings, wrong: dict[str, str | None]
) -> None:
    store = S3Store.from_settings(replace(s3_place, **wrong))  # type: ignore[arg-type]
    for call in every_call(store):
        with pytest.raises(StoreError, match=r"refused .*check TREADLE_S3_ACCESS_KEY") as caught:
            call()
        assert "treadle-secret" not in str(caught.value)


def test_half_a_pair_of_keys_is_refused(s3_place: Settings) -> None:
    with pytest.raises(SpecError, match="come as a pair"):
        S3Store.from_settings(replace(s3_place, s3_secret_key=None))


def test_a_port_where_nothing_listens_is_told_soon(s3_place: Settings) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, so that no other takes it; not listening
        endpoint = f"http://127.0.0.1:{held.getsockname()[1]}"
        store = S3Store.from_settings(replace(s3_place, s3_endpoint=endpoint))
        before = time.monotonic()
        for call in every_call(store):
            with pytest.raises(StoreError, match=f"object store at {endpoint} doesn't answer"):
                call()
        assert time.monotonic() - before < 15


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse instead of staying silent")
def test_an_address_that_swallows_packets_is_told_within_15_s(s3_place: Settings) -> None:
    with silent_port() as port:
        endpoint = f"http://127.0.0.1:{port}"
        store = S3Store.from_settings(replace(s3_place, s3_endpoint=endpoint))
        before = time.monotonic()
        with pytest.raises(StoreError, match=f"{endpoint} doesn't answer.*timed out"):
            store.exists("k")
        assert 5 <= time.monotonic() - before < 15


def test_tls_to_a_plain_server_says_how_to_write_the_endpoint(s3_place: Settings) -> None:
    assert s3_place.s3_endpoint is not None
    endpoint = s3_place.s3_endpoint.replace("http:", "https:")
    store = S3Store.from_settings(replace(s3_place, s3_endpoint=endpoint))
    with pytest.raises(StoreError, match=r"no secure connection.*write http://host:port"):
        store.exists("k")


def test_a_web_server_that_is_no_s3_is_told_apart(s3_place: Settings, tmp_path: Path) -> None:
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().split(" port ")[1].split()[0]
            other = replace(s3_place, s3_endpoint=f"http://127.0.0.1:{port}")
            store = S3Store.from_settings(other)
            for call in every_call(store)[:1] + every_call(store)[5:6]:
                with pytest.raises(StoreError, match="didn't answer as an S3 server") as caught:
                    call()
                assert "<html" not in str(caught.value).lower()
        finally:
            server.kill()


class Failing(BaseHTTPRequestHandler):
    """A server with a full disk: it answers every request, and every time with an error."""

    def do_HEAD(self) -> None:
        self.send_response(500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def test_a_store_that_answers_with_errors_alone_is_told_apart(s3_place: Settings) -> None:
    with HTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        full = replace(s3_place, s3_endpoint=f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreError, match=r"answers with errors alone .*500.*may be full"):
            S3Store.from_settings(full).exists("k")
        server.shutdown()


def test_a_loopback_endpoint_without_scheme_works(s3_place: Settings) -> None:
    assert s3_place.s3_endpoint is not None
    bare = s3_place.s3_endpoint.removeprefix("http://")
    store = S3Store.from_settings(replace(s3_place, s3_endpoint=bare))
    store.put_bytes("a", b"1")
    assert store.get_bytes("a") == b"1"


@pytest.mark.parametrize(
    ("endpoint", "parsed"),
    [
        (None, ("s3.amazonaws.com", True)),
        ("http://minio.kubeflow:9000", ("minio.kubeflow:9000", False)),
        ("http://minio.kubeflow:9000/", ("minio.kubeflow:9000", False)),
        ("HTTPS://s3.example.org", ("s3.example.org", True)),
        ("s3.example.org", ("s3.example.org", True)),
        ("minio.kubeflow:9000", ("minio.kubeflow:9000", True)),
        ("192.0.2.7:9000", ("192.0.2.7:9000", True)),
        ("localhost:9000", ("localhost:9000", False)),
        ("127.0.0.1:9000", ("127.0.0.1:9000", False)),
        ("[::1]:9000", ("[::1]:9000", False)),
        ("https://localhost:9000", ("localhost:9000", True)),
    ],
)
def test_an_endpoint_is_read_as_documented(endpoint: str | None, parsed: tuple[str, bool]) -> None:
    assert parse_endpoint(endpoint) == parsed


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", "http://", "ftp://host", "host:port", "host:99999", "http://host:9000/bucket"),
        *("host/bucket", "https://host?x=1", "https://me:hunter2@host", "me:hunter2@host"),
    ],
)
def test_what_is_no_endpoint_is_refused_without_its_password(endpoint: str) -> None:
    with pytest.raises(SpecError, match="is not an S3 endpoint: write http://host:port") as caught:
        parse_endpoint(endpoint)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"object_store": None}, "not an S3 address"),
        ({"object_store": "/a/directory"}, "not an S3 address"),
        ({"object_store": "s3:///prefix"}, "not an S3 address"),
        ({"object_store": "s3://b"}, "b.*TREADLE_OBJECT_STORE"),
        ({"object_store": "s3://bucket/a//b"}, "can't be a prefix"),
        ({"s3_region": "no region!"}, "TREADLE_S3_REGION"),
    ],
)
def test_settings_that_can_not_be_right_are_refused(
    s3_place: Settings, changes: dict[str, str | None], words: str
) -> None:
    with pytest.raises(SpecError, match=words):
        S3Store.from_settings(replace(s3_place, **changes))  # type: ignore[arg-type]


# What the tests need


def no_parts(store: DirectoryStore) -> bool:
    aside = Path(unquote(urlsplit(store.uri("x")).path)).parent / ".tmp"
    return not aside.exists() or not list(aside.iterdir())


@contextmanager
def silent_port() -> Iterator[int]:
    """A port whose queue of unaccepted connections is full: Linux drops what comes next."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        waiting = []
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(address)
            waiting.append(client)
        try:
            yield address[1]
        finally:
            for client in waiting:
                client.close()
