"""What this process's memory is used for, and how much of it freed memory may hold."""

import ctypes
from functools import cache
from typing import Any

import psutil

# Of <malloc.h>. Each pool of memory keeps what is freed in it for itself; loading frees several
# times what a model takes, and happens in one thread at a time.
_M_ARENA_MAX, _MOST_POOLS = -8, 2


class _Mallinfo2(ctypes.Structure):
    """``struct mallinfo2``, see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks",
                     "uordblks", "fordblks", "keepcost")
    ]  # fmt: skip


@cache
def _glibc() -> Any:
    """Return the C library where it can say what is allocated: glibc from 2.33 on."""
    found = ctypes.CDLL(None)
    if not hasattr(found, "mallinfo2"):
        return None
    found.mallinfo2.restype = _Mallinfo2
    return found


def allocated_bytes() -> int:
    """Return what is allocated and not freed; where the C library doesn't say, what is resident,
    in which freed memory counts too."""
    libc = _glibc()
    if libc is None:
        return int(psutil.Process().memory_info().rss)
    said = libc.mallinfo2()
    return int(said.uordblks + said.hblkhd)


def keep_few_pools() -> None:
    """Have all threads share what is freed."""
    libc = _glibc()
    if libc is not None:
        libc.mallopt(_M_ARENA_MAX, _MOST_POOLS)


def give_back() -> None:
    """Return freed memory to the system. Takes milliseconds, which others' allocations may wait."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
