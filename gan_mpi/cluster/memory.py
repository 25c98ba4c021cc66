"""What a process does with memory that it has freed, and how large its pages are."""

import ctypes
import mmap
import os
import platform
import resource

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # of glibc's malloc.h
CHOSEN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")
HUGE = 2 << 20  # bytes of a huge page
RESERVE = 2 << 30  # bytes of heap that get huge pages; none is taken before it is used


def keep_freed_memory() -> bool:
    """Let the C library keep what is freed from now on; return whether it does so by this.

    A step frees tensors and asks for the same sizes again.  By itself glibc gives the end of its
    heap back whenever some 64 MiB of it are free, asks the system for each block of over 32 MiB
    anew, and clears every page of them: up to a fifth of a step, or nothing, by how tensors happen
    to lie.  Huge pages, where the system gives them if asked, save as much again of a large
    network.  Other C libraries, and what the user chose in the environment, are left alone.
    """
    if not _is_ours():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    kept = bool(mallopt(TRIM_THRESHOLD, -1) and mallopt(MMAP_MAX, 0))
    _reserve()
    return kept


def return_freed_memory() -> None:
    """Give the system what is free now, as after data have been read."""
    if _is_ours():
        ctypes.CDLL(None).malloc_trim(0)
        _reserve()


def _is_ours() -> bool:
    return platform.libc_ver()[0] == "glibc" and not any(name in os.environ for name in CHOSEN)


def _reserve() -> None:
    """Let the heap grow, and ask for huge pages there; not where a limit counts what is unused."""
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        return
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    block = libc.malloc(ctypes.c_size_t(RESERVE))
    if block:
        begin = -(-block // HUGE) * HUGE
        length = ctypes.c_size_t(block + RESERVE - begin)
        libc.madvise(ctypes.c_void_p(begin), length, mmap.MADV_HUGEPAGE)
        libc.free(ctypes.c_void_p(block))
