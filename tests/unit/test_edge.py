"""A device: what it runs, what it follows, and how it comes back."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from test_onnx_export import fitted, mixed_frame, with_odd_rows

import treadle
import treadle_edge
from devices import MODEL, device, followed, pem, published, sloped
from treadle import signing
from treadle.adapters.filesystem import DirectoryStore
from treadle.bundle import Bundle, decode_row, store_bundle
from treadle.bundle import key as bundle_key
from treadle.errors import ModelError, SpecError, StoreError, TreadleError
from treadle.records import How, Profile, Task
from treadle.signature import encode_rows
from treadle.spec import ColumnTreatment, Family, Preprocessing
from treadle.training.onnx_export import export
from treadle_edge import ed25519, updating
from treadle_edge.device import MOST_TRIES, Device
from treadle_edge.model import Model, RowErrors
from treadle_edge.settings import Settings

quick = settings(deadline=None, max_examples=25)
OURS, OTHERS = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def update(at: Device, again: bool = False) -> dict[str, Any]:
    return updating.update(at, Settings.read(at.root), again)


def slope(at: Device, key: bytes | None = None) -> float:
    """What the device answers to 1."""
    return float(at.opened(key).predict([{"x": 1}])[0]["prediction"])


# What a device carries


def test_what_a_device_carries_needs_numpy_onnxruntime_and_the_standard_library_alone(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    for package in ("numpy", "numpy.libs", "onnxruntime"):
        place = Path(np.__file__).parents[1] / package
        if place.exists():
            (site / package).symlink_to(place)
    (tmp_path / "treadle").mkdir()
    for name in treadle_edge.CARRIED:
        source = Path(treadle.__path__[0]) / f"{name}.py"
        (tmp_path / "treadle" / source.name).write_text(source.read_text("utf-8"), "utf-8")
    (tmp_path / "treadle_edge").symlink_to(Path(treadle_edge.__path__[0]))
    program = f"""if True:
        import pkgutil, sys, importlib
        sys.path[:0] = [{str(tmp_path)!r}, {str(site)!r}]
        import treadle_edge
        for module in pkgutil.iter_modules(treadle_edge.__path__):
            importlib.import_module("treadle_edge." + module.name)
        print({{name.partition(".")[0] for name in sys.modules}} - set(sys.stdlib_module_names))
    """
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {name for name in eval(done.stdout) if not name.startswith("_")}
    assert found <= {"numpy", "onnxruntime", "treadle", "treadle_edge"}


# Beside number, boolean, time and categories, texts.
TEXTS = Preprocessing(
    columns={
        "few": ColumnTreatment(how=How.WORDS),
        "many": ColumnTreatment(how=How.CHARACTERS),
    }
)


@pytest.mark.filterwarnings("ignore:Field onnx.AttributeProto:DeprecationWarning")
@pytest.mark.parametrize(
    ("task", "options"), [(Task.REGRESSION, TEXTS), (Task.MULTICLASS, Preprocessing())]
)
def test_a_device_answers_rows_of_every_kind_as_the_server_does(
    task: Task, options: Preprocessing, tmp_path: Path
) -> None:
    pipeline, signature, encoded = fitted(mixed_frame(), task, Family.LINEAR, tmp_path, options)
    made = tmp_path / "bundle"
    made.mkdir()
    (made / "model.onnx").write_bytes(export(pipeline, signature))
    signature.write(made / "signature.json")
    Profile(rows=1, columns=[]).write(made / "reference.json")
    odd = [
        {},
        {"size": None, "open": None, "few": None, "many": None, "at": None},
        {"size": "12.5", "open": "Yes", "few": 3, "many": 3.0, "at": "2024-02-29"},
        {"size": 2**70, "open": 0, "few": 2**63 + 1, "many": True, "at": "2024-02-29T10:00+05:30"},
        {"size": 1e39, "open": "f", "few": "", "many": "new", "at": "1931-07-04 00:00", "x": 1},
        {"size": "-inf", "open": False, "few": "größe", "many": "town 1", "at": "2024-02-29"},
    ]  # fmt: skip
    bundle = Bundle.at(made)
    columns = {str(name): with_odd_rows(encoded, signature)[name].to_numpy() for name in encoded}
    rows = [decode_row(columns, place, signature) for place in range(0, 480, 5)] + odd
    (made / "golden.json").write_text(
        json.dumps({"rows": rows, "answers": bundle.predict_rows(rows)}), encoding="utf-8"
    )
    renamed = made.rename(tmp_path / Bundle.at(made).digest)
    on_device = Model(renamed, None)
    on_device.prove()
    served = Bundle.at(renamed)
    assert on_device.predict(rows) == served.predict_rows(rows)
    assert "ignored" not in on_device.answer(rows)
    with pytest.raises(RowErrors, match="row 0, size: 'big' is not a number"):
        on_device.predict([{"size": "big"}])
    assert encode_rows(rows[:1], served.encoder)


def test_a_device_counts_what_training_knew_and_found_nothing_in(
    store: DirectoryStore, tmp_path: Path
) -> None:
    bundle = sloped(store, tmp_path, 2.0)
    told = bundle.signature.model_copy(update={"ignored": ["late", "absent"]})
    told.write(bundle.files["signature.json"])
    directory = bundle.files["signature.json"].parent
    found = Model(directory.rename(tmp_path / Bundle.at(directory).digest), None)
    answered = found.answer([{"x": 1, "late": 3}, {"x": 2, "late": None}, {"x": 3, "late": "x"}])
    assert answered["ignored"] == {"late": 2}
    assert [answer["prediction"] for answer in answered["predictions"]] == [2, 4, 6]


# Signatures


RFC_8032 = [
    ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
     "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
     "d25bf5f0595bbe24655141438e7a100b"),
    ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
     "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
     "387b2eaeb4302aeeb00d291612bb0c00"),
    ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
     "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
     "4a7c15e9716ed28dc027beceea1ec40a"),
    ("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
     "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
     "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
     "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
     "3dca179c138ac17ad9bef1177331a704"),
]  # fmt: skip


@pytest.mark.parametrize(("public", "text", "signature"), RFC_8032)
def test_the_signatures_of_rfc_8032_hold(public: str, text: str, signature: str) -> None:
    parts = [bytes.fromhex(part) for part in (text, signature, public)]
    assert ed25519.is_signed(parts[0], parts[1], parts[2])
    assert not ed25519.is_signed(parts[0] + b"x", parts[1], parts[2])


@quick
@given(st.binary(max_size=80), st.integers(0, 63), st.integers(1, 255))
def test_a_signature_holds_for_its_text_and_key_alone(text: bytes, place: int, by: int) -> None:
    signature = OURS.sign(text)
    key, other = (ed25519.public_key(pem(each)) for each in (OURS, OTHERS))
    assert ed25519.is_signed(text, signature, key)
    assert not ed25519.is_signed(text, signature, other)
    assert not ed25519.is_signed(text + b"\0", signature, key)
    changed = bytearray(signature)
    changed[place] ^= by
    assert not ed25519.is_signed(text, bytes(changed), key)


def test_a_signature_that_is_the_same_by_another_number_is_refused() -> None:
    signature = OURS.sign(b"text")
    order = 2**252 + 27742317777372353535851937790883648493
    other = int.from_bytes(signature[32:], "little") + order
    malleable = signature[:32] + other.to_bytes(32, "little")
    assert not ed25519.is_signed(b"text", malleable, ed25519.public_key(pem(OURS)))


def test_points_that_are_none_are_refused() -> None:
    key = ed25519.public_key(pem(OURS))
    for none in (b"\xff" * 32, (2).to_bytes(32, "little"), (1 | 1 << 255).to_bytes(32, "little")):
        assert not ed25519.is_signed(b"", none + bytes(32), key)
        assert not ed25519.is_signed(b"", bytes(64), none)


@pytest.mark.parametrize("words", ["", "key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END"])
def test_what_is_no_public_key_is_said(words: str) -> None:
    with pytest.raises(SpecError, match="verify_key holds no public ed25519 key"):
        ed25519.public_key(words)


# Following the champion


def test_a_device_follows_the_champion_forth_and_back(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, first = followed(store, tmp_path)
    assert slope(at) == 2
    assert update(at)["installed"] is False
    second = sloped(store, tmp_path, 3.0)
    published(store, second, 2)
    assert update(at) == {"model": MODEL, "version": 2, "semver": "1.2.0",
                          "digest": second.digest, "installed": True}  # fmt: skip
    assert slope(at) == 3
    assert at.opened(None).identity == {"model": MODEL, "version": 2, "semver": "1.2.0",
                                        "digest": second.digest}  # fmt: skip
    published(store, first, 3)
    # What is there still isn't fetched again.
    for path in (tmp_path / "objects/bundles" / first.digest).iterdir():
        path.unlink()
    assert update(at)["installed"]
    assert slope(at) == 2


def test_only_the_current_and_the_previous_model_are_kept(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, _ = followed(store, tmp_path)
    for number in (2, 3, 4):
        published(store, sloped(store, tmp_path, number * 1.0 + 1), number)
        update(at)
    assert len(list(at.models.iterdir())) == 2
    assert slope(at) == 5


def test_an_old_copy_of_who_the_champion_is_is_refused(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, first = followed(store, tmp_path)
    published(store, sloped(store, tmp_path, 3.0), 2)
    update(at)
    published(store, first, 1)
    with pytest.raises(ModelError, match=r"of change 1, and change 2 was followed.*replay"):
        update(at)
    assert slope(at) == 3


def wrong_golden(store: DirectoryStore, folder: Path) -> Bundle:
    """A bundle whose golden rows it doesn't answer as it should."""
    made = sloped(store, folder, 9.0)
    place = folder / "made 9.0"
    golden = {"rows": [{"x": 1.0}], "answers": [{"prediction": 8.0}]}
    (place / "golden.json").write_text(json.dumps(golden), encoding="utf-8")
    bundle = Bundle.at(place)
    assert bundle.digest != made.digest
    store_bundle(bundle, store)
    return bundle


def test_a_champion_that_fails_its_golden_rows_is_refused_once_and_for_all(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, _ = followed(store, tmp_path)
    bad = wrong_golden(store, tmp_path)
    published(store, bad, 2)
    with pytest.raises(ModelError, match=r"version 2 is refused, what is here answers on: golden"):
        update(at)
    with pytest.raises(ModelError, match=r"was refused here: golden row 0.*--again"):
        update(at)
    with pytest.raises(ModelError, match="is refused, what is here"):
        update(at, again=True)
    assert slope(at) == 2
    published(store, sloped(store, tmp_path, 4.0), 3)
    assert update(at)["installed"]


def test_a_model_that_fails_at_its_start_is_left_for_the_one_before(
    store: DirectoryStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at, first = followed(store, tmp_path)
    bad = wrong_golden(store, tmp_path)
    place = at.models / bad.digest
    place.mkdir()
    for name, path in bad.files.items():
        (place / name).write_bytes(path.read_bytes())
    at.switch(bad.digest, 2)
    assert slope(at) == 2
    assert f"went back to bundle {first.digest}" in capsys.readouterr().err
    assert at.state().current == first.digest
    assert "golden row 0" in at.state().refused[bad.digest]


def test_a_model_that_takes_the_process_down_is_left_for_the_one_before(
    store: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at, first = followed(store, tmp_path)
    assert slope(at) == 2
    second = sloped(store, tmp_path, 3.0)
    published(store, second, 2)
    update(at)

    class Dead(BaseException):
        pass

    def dies(*_: object) -> None:
        raise Dead  # nothing after it runs, as in a process that is gone

    monkeypatch.setattr(Model, "prove", dies)
    for _ in range(MOST_TRIES):
        with pytest.raises(Dead):
            at.opened(None)
    monkeypatch.undo()
    assert at.opened(None).identity["digest"] == first.digest
    assert "ended the process" in at.state().refused[second.digest]


def test_a_damaged_model_is_left_and_fetched_again(store: DirectoryStore, tmp_path: Path) -> None:
    at, first = followed(store, tmp_path)
    second = sloped(store, tmp_path, 3.0)
    published(store, second, 2)
    update(at)
    damaged = at.models / second.digest / "model.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert at.opened(None).identity["digest"] == first.digest
    assert update(at)["installed"]
    assert slope(at) == 3


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"current": "x", "what": 1}'])
def test_a_device_whose_notes_are_gone_answers_with_what_is_good(
    content: str, store: DirectoryStore, tmp_path: Path
) -> None:
    at, first = followed(store, tmp_path)
    (at.root / "state.json").write_text(content, encoding="utf-8")
    assert at.opened(None).identity["digest"] == first.digest
    assert at.state().current == first.digest


def test_a_device_with_no_good_model_says_what_is_wrong_with_each(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, first = followed(store, tmp_path)
    (at.models / first.digest / "golden.json").unlink()
    with pytest.raises(ModelError, match=rf"no model here.*\n  {first.digest}: .*damaged") as error:
        at.opened(None)
    assert "treadle-edge update" in str(error.value)


# With a key


def test_with_a_key_only_what_it_signed_is_taken(store: DirectoryStore, tmp_path: Path) -> None:
    first = sloped(store, tmp_path, 2.0)
    at = device(tmp_path / "device", str(tmp_path / "objects"), OURS)
    key = Settings.read(at.root).key
    published(store, first, 1)
    with pytest.raises(ModelError, match=r"champions/slope.json .* isn't signed with verify_key"):
        update(at)
    published(store, first, 1, OTHERS)
    with pytest.raises(ModelError, match="isn't signed with verify_key"):
        update(at)
    published(store, first, 1, OURS)
    assert update(at)["installed"]
    assert slope(at, key) == 2
    # Another model under a champion that we signed, and a model that others signed.
    second = sloped(store, tmp_path, 3.0)
    published(store, second, 2, OURS)
    place = bundle_key(second.digest, signing.FILE)
    store.delete(place)
    with pytest.raises(ModelError, match="isn't signed, and"):
        update(at)
    store.put_bytes(place, signing.sign(second.files, OTHERS))
    with pytest.raises(ModelError, match="isn't signed with verify_key"):
        update(at)
    assert slope(at, key) == 2


def test_with_a_key_what_is_said_of_the_champion_cannot_be_changed(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at = device(tmp_path / "device", str(tmp_path / "objects"), OURS)
    published(store, sloped(store, tmp_path, 2.0), 1, OURS)
    told = json.loads(store.get_bytes(signing.champion_key(MODEL)))
    for name, value in (("change", 9), ("version", 9), ("digest", "0" * 32), ("semver", "9.9.9")):
        changed = json.dumps({**told, name: value}).encode()
        store.put_bytes(signing.champion_key(MODEL), changed)
        with pytest.raises(ModelError, match="isn't signed with verify_key"):
            update(at)


# What can be wrong with a source


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda told: b"{", "can't be read"),
        (lambda told: b"[]", "can't be read"),
        (lambda told: json.dumps({**told, "files": {"model.onnx": 3}}).encode(), "can't be read"),
        (lambda told: json.dumps({**told, "version": None}).encode(), "has no champion"),
        (
            lambda told: json.dumps({**told, "model": "other"}).encode(),
            "is of 'other'",
        ),
        (lambda told: json.dumps({**told, "digest": "../x"}).encode(), "outside of the bundle"),
        (lambda told: json.dumps({**told, "digest": "0" * 32}).encode(), "other files than"),
        (
            lambda told: json.dumps(
                {**told, "files": {**told["files"], "../x": told["files"]["model.onnx"]}}
            ).encode(),
            "outside of the bundle",
        ),
        (lambda told: json.dumps({**told, "files": {}}).encode(), "has no model.onnx"),
        (lambda told: b" " * 2_000_000, "more than 1,048,576 bytes"),
    ],
)
def test_nonsense_about_the_champion_is_said_and_changes_nothing(
    change: Any, words: str, store: DirectoryStore, tmp_path: Path
) -> None:
    at, _ = followed(store, tmp_path)
    before = at.state()
    told = json.loads(store.get_bytes(signing.champion_key(MODEL)))
    store.put_bytes(signing.champion_key(MODEL), change(told))
    with pytest.raises(TreadleError, match=words):
        update(at)
    assert at.state() == before
    assert slope(at) == 2


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("", SpecError, "names no source of updates"),
        ("ftp://host/x", SpecError, "begins with ftp://"),
        ("/nowhere/at/all", StoreError, "no champions/slope.json in /nowhere.*first promotion"),
        ("http://127.0.0.1:9/x", StoreError, "can't be reached.*refused"),
    ],
)
def test_a_source_that_cannot_be_read_is_said(
    source: str, error: type[TreadleError], words: str, tmp_path: Path
) -> None:
    at = device(tmp_path / "device", source)
    with pytest.raises(error, match=words):
        update(at)


def test_settings_that_cannot_be_meant_are_said(tmp_path: Path) -> None:
    at = device(tmp_path / "device", "x")
    for content, words in (
        ("{", "can't be read"),
        ('{"model": ""}', "doesn't say which model"),
        ('{"model": 3}', "model must be a text"),
        ('{"model": "a", "sourec": "x"}', "unknown key 'sourec'; did you mean 'source'?"),
    ):
        (at.root / "edge.json").write_text(content, encoding="utf-8")
        with pytest.raises(SpecError, match=words.replace("?", r"\?")):
            Settings.read(at.root)
    (at.root / "edge.json").write_text('{"model": "a"}', encoding="utf-8")
    with pytest.raises(SpecError, match="come as a pair"):
        Settings.read(at.root, {"TREADLE_S3_ACCESS_KEY": "a"})


@contextmanager
def web(root: Path, cut: dict[str, int]) -> Iterator[str]:
    """A web server over a directory that breaks off after so many bytes of a file."""

    class Files(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = root / self.path[1:]
            content = path.read_bytes() if path.is_file() else b""
            self.send_response(200 if path.is_file() else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: cut.get(path.name, len(content))])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Files) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_an_update_that_loses_the_network_goes_on_where_it_was(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, _ = followed(store, tmp_path)
    second = sloped(store, tmp_path, 3.0)
    published(store, second, 2)
    cut = dict.fromkeys((*second.files, f"{MODEL}.json"), 5)
    with web(tmp_path / "objects", cut) as url:
        told = json.loads((at.root / "edge.json").read_text())
        (at.root / "edge.json").write_text(json.dumps({**told, "source": url}), encoding="utf-8")
        for name in list(cut)[::-1]:
            with pytest.raises(TreadleError, match=r"broke off|can't be re|fell silent"):
                update(at)
            assert slope(at) == 2
            del cut[name]
        assert update(at)["installed"]
    assert slope(at) == 3


def test_two_updates_at_once_are_one(store: DirectoryStore, tmp_path: Path) -> None:
    at, _ = followed(store, tmp_path)
    with at.locked("update"), pytest.raises(TreadleError, match="another update is under way"):
        update(at)


# Losing power


DRIVER = Path(__file__).with_name("power_cuts.py")


def test_wherever_the_power_goes_a_good_model_answers(
    store: DirectoryStore, tmp_path: Path
) -> None:
    at, first = followed(store, tmp_path)
    assert slope(at) == 2
    second = sloped(store, tmp_path, 3.0)
    published(store, second, 2)
    command = [sys.executable, str(DRIVER), str(at.root), first.digest, second.digest]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # Each file's writing, syncing and renaming is a moment of its own.
    assert int(done.stdout.splitlines()[-1]) > 25
