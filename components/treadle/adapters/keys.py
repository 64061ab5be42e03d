"""Which names an object store takes: those that every adapter can hold, so that a key that works
on a laptop works on the cluster."""

import re

from treadle.errors import StoreError

MAX_KEY_BYTES = 1024  # S3's limit
MAX_PART_BYTES = 255  # the limit of ext4, XFS, APFS and NTFS for one name
# S3 lists keys as XML, which has no way to write most control characters.
_UNWRITABLE = re.compile(r"[\\\x00-\x1f\x7f-\x9f\ufffe\uffff]")
ASIDE = ".tmp"  # DirectoryStore's folder for half-written blobs, so no key may live there


def check_key(key: str) -> str:
    """Return ``key`` if it is a relative POSIX path that every adapter can hold.

    Raises StoreError naming the key for an empty, absolute or overlong one, an empty, ``.`` or
    ``..`` part, a backslash or a control character, or one inside the reserved folder ``.tmp``.
    """
    fault = _fault(key)
    if fault:
        raise StoreError(
            f"the key {shown(key)} can't name a blob: {fault}; "
            "write a relative path such as 'snapshots/abc/data.parquet'"
        )
    return key


def is_key(key: str) -> bool:
    """Say whether ``check_key`` would let ``key`` pass."""
    return _fault(key) is None


def can_begin_key(prefix: str) -> bool:
    """Say whether any key could start with ``prefix`` (which, unlike a key, may end in ``/``)."""
    return is_key(prefix) or is_key(prefix + "x")


def shown(key: str) -> str:
    """Return the key as a message shows it: quoted, and cut when it's endless."""
    return repr(key) if len(key) <= 120 else repr(key[:120]) + f"… ({len(key)} characters)"


def _fault(key: str) -> str | None:
    if not key:
        return "it is empty"
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError:
        return "it isn't valid Unicode (a lone surrogate)"
    if size_bytes > MAX_KEY_BYTES:
        return f"it has {size_bytes} bytes, the most is {MAX_KEY_BYTES}"
    if key.startswith("/"):
        return "it begins with '/'"
    if _UNWRITABLE.search(key):
        return "it holds a backslash or a control character"
    return _fault_of_parts(key.split("/"))


def _fault_of_parts(parts: list[str]) -> str | None:
    if "" in parts:
        return "a part between two '/' is empty"
    if "." in parts or ".." in parts:
        return "it holds a '.' or '..' part"
    if any(len(part.encode()) > MAX_PART_BYTES for part in parts):
        return f"a part has more than {MAX_PART_BYTES} bytes"
    if parts[0] == ASIDE:
        return f"'{ASIDE}/' is reserved for blobs being written"
    return None
