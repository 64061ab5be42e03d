"""A file as a stream of text in UTF-8, whatever it is packed in and encoded as."""

import codecs
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from treadle.errors import DataError

# Enough for the first thousands of rows; what comes later has its say when it is read.
HEAD_BYTES = 1 << 17
FALLBACK = "cp1252"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"PK\x03\x04": "zip"}
_ENDINGS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".zip": "zip"}
_BOMS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # fmt: skip
_PAGE = (b"<!doctype html", b"<html")
# What no text holds: control characters but tab, line feed, form feed and carriage return.
_CONTROLS = bytes(set(range(32)) - {9, 10, 12, 13})


@dataclass(frozen=True)
class TextFile:
    """A file of text and its encoding."""

    path: Path
    encoding: str

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Yield a stream of its text in UTF-8. Raises DataError, while it is read as well, for a
        file that is cut short or not in its encoding."""
        with unpacked(self.path) as stream, faults_in_words(self):
            if self.encoding == "utf-8":
                yield stream
            else:
                yield pa.transcoding_input_stream(
                    pa.PythonFile(stream, "r") if not isinstance(stream, pa.NativeFile) else stream,
                    self.encoding,
                    "utf-8",
                )

    def head(self) -> str:
        """Return its first lines, 128 KiB at most."""
        with unpacked(self.path) as stream, faults_in_words(self):
            data = stream.read(HEAD_BYTES)
            text = _decoded(data, self.encoding)
        text = text.removeprefix("\ufeff")
        return text if len(data) < HEAD_BYTES else text[: text.rfind("\n") + 1] or text


def found(path: Path, encoding: str | None) -> TextFile:
    """Return the file with its encoding: the stated one, else what its first bytes say.

    Raises DataError for what is no text, or of no known encoding.
    """
    if encoding:
        try:
            codecs.lookup(encoding)
        except LookupError:
            words = (
                f"source.encoding is {encoding!r}, which Python doesn't know: as in utf-8, cp1252"
            )
            raise DataError(words) from None
        return TextFile(path, encoding.lower())
    plain = TextFile(path, "utf-8")
    with unpacked(path) as stream, faults_in_words(plain):
        data = stream.read(HEAD_BYTES)
    for mark, name in _BOMS.items():
        if data.startswith(mark):
            return TextFile(path, name)
    if data.translate(None, _CONTROLS) != data:
        raise not_text(path)
    if data[:256].lstrip().lower().startswith(_PAGE):
        raise DataError(
            f"{path} is a web page and no table, as servers send it for a wrong address or to who "
            "isn't logged in: fetch the table itself"
        )
    for encoding in ("utf-8", FALLBACK):
        try:
            _decoded(data, encoding)
        except UnicodeDecodeError:
            continue
        return TextFile(path, encoding)
    raise not_text(path)


def _decoded(head: bytes, encoding: str) -> str:
    """Decode a file's first bytes, the last of which may be cut off in the middle of a letter."""
    return codecs.getincrementaldecoder(encoding)().decode(head, len(head) < HEAD_BYTES)


def not_text(path: Path) -> DataError:
    """Put into words that a file holds no text."""
    return DataError(
        f"{path} can't be read: it is no text in UTF-8 or UTF-16: save it as CSV in UTF-8, state "
        "its encoding in source, or name another file"
    )


def encoding_note(file: TextFile) -> str:
    """Say which encoding was found, and how surely."""
    sure = ", taken because it is not UTF-8" if file.encoding == FALLBACK else ""
    return f"its encoding is {file.encoding}{sure}"


def is_text(path: Path) -> bool:
    """Say whether a file holds no byte that no text holds."""
    with unpacked(path) as stream:
        while data := stream.read(HEAD_BYTES):
            if data.translate(None, _CONTROLS) != data:
                return False
    return True


def is_odd(file: TextFile, mark: str) -> bool:
    """Say whether a mark is there an odd number of times."""
    found = 0
    with file.opened() as stream:
        while data := stream.read(HEAD_BYTES):
            found += data.count(mark.encode())
    return found % 2 == 1


def packing(path: Path) -> str | None:
    """Return what the file is packed with, or None."""
    with path.open("rb") as file:
        begin = file.read(4)
    found = next((name for magic, name in _MAGIC.items() if begin.startswith(magic)), None)
    return found or _ENDINGS.get(path.suffix.lower())


@contextmanager
def unpacked(path: Path) -> Iterator[Any]:
    """Yield a stream of the file's bytes, unpacked as they are read."""
    kind = packing(path)
    if kind == "zip":
        with _zip_member(path) as member:
            yield member
    else:
        with pa.input_stream(str(path), compression=kind) as stream:
            yield stream


@contextmanager
def _zip_member(path: Path) -> Iterator[Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(only_member(archive, path)) as member:
            yield member
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error) as error:
        raise _cant_unpack(path, error) from error
    except RuntimeError as error:
        if "password" not in str(error):
            raise
        raise _cant_unpack(path, error) from error


def _cant_unpack(path: Path, error: Exception) -> DataError:
    reason = str(error)[:1].lower() + str(error)[1:].rstrip(".")
    return DataError(f"{path} can't be unpacked: {reason}: fetch or pack it again")


def only_member(archive: zipfile.ZipFile, path: Path) -> str:
    """Return the name of a zip's one file. Raises DataError where it holds none or several."""
    members = [member.filename for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        raise DataError(
            f"{path} holds {len(members)} files; a table's zip holds one: unpack it, and name the "
            "file"
        )
    return members[0]


def inner_name(path: Path, name: Path | None = None) -> Path:
    """Return the name of what is packed in the file, by whose ending its format is known. ``name``
    is the file's own, where the one at ``path`` is a copy."""
    name = name or path
    if name.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as archive:
                return Path(only_member(archive, path))
        except zipfile.BadZipFile as error:
            raise _cant_unpack(path, error) from error
    return name.with_suffix("") if name.suffix.lower() in _ENDINGS else name


@contextmanager
def faults_in_words(file: TextFile) -> Iterator[None]:
    """Put a packed file's faults, which show themselves while it is read, into words."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file.path} is not in {file.encoding} (byte {error.start} of a part): state its "
            "encoding in source"
        ) from error
    except OSError as error:
        kind = packing(file.path) if file.path.is_file() else None
        if error.errno is None and kind:
            reason = str(error)[:1].lower() + str(error)[1:].rstrip(".")
            raise DataError(
                f"{file.path} is not a whole {kind} file: {reason}: fetch or pack it again"
            ) from error
        if error.errno is None:
            raise
        reason = (error.strerror or str(error)).lower()
        raise DataError(
            f"{file.path} can't be read: {reason}: check its permissions and its disk"
        ) from error
