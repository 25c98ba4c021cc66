"""What a process does with memory that it has freed, and how large its pages are."""

import ctypes
import mmap
import os
import resource
from pathlib import Path

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's malloc.h
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_")
IN_USE = 7  # the field of mallinfo(3) that is bytes in use
PROBE = 50_000  # bytes: of the heap, and more than a thread keeps for itself
HUGE = 2 << 20  # bytes of a huge page
RESERVE = 2 << 30  # bytes of heap that get huge pages; none is taken before it is used
SIZE_OF_A_HUGE_PAGE = Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size")
OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
NEVER = 2  # then all that is reserved counts


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed from now on; return whether it does so by this.

    A step frees tensors and asks for the same sizes again.  By itself glibc gives the end of its
    heap back whenever some 64 MiB of it are free, asks the system for each block of over 32 MiB
    anew, and clears every page of them: up to a fifth of a step, or nothing, by how tensors happen
    to lie.  Huge pages, where the system gives them if asked, save as much again of a large
    network.  Another malloc, and what the user chose in the environment, are left alone.
    """
    libc = _glibc()
    if libc is None:
        return False
    kept = bool(libc.mallopt(TRIM_THRESHOLD, -1) and libc.mallopt(MMAP_MAX, 0))
    _reserve(libc)
    return kept


def return_freed_memory() -> None:
    """Give the system what is free now, as after data have been read."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)
        _reserve(libc)


def _glibc() -> ctypes.CDLL | None:
    """Return glibc if its malloc is the one in use, and the user said nothing of it."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if "glibc.malloc" in tunables or any(name in os.environ for name in CHOSEN):
        return None
    try:
        libc, used = ctypes.CDLL("libc.so.6"), ctypes.CDLL(None)
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") and _serves(libc, used) else None


def _serves(libc: ctypes.CDLL, used: ctypes.CDLL) -> bool:
    """Return whether glibc counts a block that the malloc of this process gives.

    Addresses of the two do not tell: in a program at a fixed address, as Debian's Python is, that
    of malloc is a place in the program.
    """
    is_new = hasattr(libc, "mallinfo2")  # since 2.33
    count = libc.mallinfo2 if is_new else libc.mallinfo
    number: type[ctypes.c_size_t | ctypes.c_int] = ctypes.c_size_t if is_new else ctypes.c_int
    count.restype = type("Mallinfo", (ctypes.Structure,), {"_fields_": [("all", number * 10)]})
    used.malloc.restype, used.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = count().all[IN_USE]
    block = used.malloc(ctypes.c_size_t(PROBE))
    given = count().all[IN_USE] - before
    used.free(block)
    return bool(given >= PROBE)


def _reserve(libc: ctypes.CDLL) -> None:
    """Let the heap grow, and ask for huge pages there; not where what is unused counts too."""
    limits = [resource.getrlimit(each)[0] for each in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    limited = any(limit != resource.RLIM_INFINITY for limit in limits)
    if limited or _number(OVERCOMMIT) == NEVER or _number(SIZE_OF_A_HUGE_PAGE) != HUGE:
        return
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(RESERVE))
    if block:
        begin = -(-block // HUGE) * HUGE
        length = ctypes.c_size_t(block + RESERVE - begin)
        libc.madvise(ctypes.c_void_p(begin), length, mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(block))


def _number(path: Path) -> int | None:
    """Return what a file of the system says, None if it is not there."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
