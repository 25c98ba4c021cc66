"""The instruction sets of the ranks' processors, brought down to one that all of them have.

Replicas that repeat arithmetic on unlike processors drift apart, since torch, oneDNN and MKL choose
other kernels.  What they choose is settled when torch is imported, from variables of the
environment, so that this imports no torch.
"""

import os
import platform
import re
from pathlib import Path

from gan_mpi.mpi.comm import Communicator

CPUINFO = Path("/proc/cpuinfo")
# From the lowest on: what a processor's flags must hold, and what each library calls it.
SETS = (
    (frozenset[str](), ("default", "SSE4_2", "SSE41")),
    (frozenset({"avx2", "fma"}), ("avx2", "AVX2", "AVX2")),
    (
        frozenset({"avx512f", "avx512bw", "avx512vl", "avx512dq"}),
        ("avx512", "AVX512", "AVX512_CORE"),
    ),
)
WITHOUT_BFLOAT16 = "SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI"
MKL, ONEDNN = "mkl", "onednn"  # libraries that multiply matrices of float32
VARIABLES = ("ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA")


def processor() -> str:
    """Return what this processor calls itself."""
    return _of_cpuinfo("model name") or platform.machine()


def has_bfloat16() -> bool:
    """Return whether this processor has instructions for bfloat16, and may use them.

    One that does not list its instructions is taken to have them.
    """
    flags = set(_of_cpuinfo("flags").split())
    allowed = os.environ.get(VARIABLES[2], "ALL").upper() not in WITHOUT_BFLOAT16
    return not flags or (allowed and bool({"avx512_bf16", "amx_bf16"} & flags))


def linear_library() -> str:
    """Return by which library linear layers are computed faster here, MKL or ONEDNN.

    Of processors that are not Intel's, MKL uses AVX2 at most.
    """
    by_mkl = _level_of(1) if _of_cpuinfo("vendor_id") == "GenuineIntel" else min(_level_of(1), 1)
    return ONEDNN if _level_of(2) > by_mkl else MKL


def settle_processors(comm: Communicator) -> str:
    """Let all ranks use the instruction set of the one that has least; return its name.

    It is "" where they are alike.  Must come before torch is imported.  Collective.
    """
    mine = _level()
    levels = comm.allgather(mine)
    if len(set(levels)) == 1:
        return ""
    _, names = SETS[min(levels)]
    os.environ.update(zip(VARIABLES, names, strict=True))
    return names[0]


def _level() -> int:
    """Return the place in SETS of the best set that all libraries may use."""
    return min(map(_level_of, range(len(VARIABLES))))


def _level_of(library: int) -> int:
    """Return the place in SETS of the best set that the processor has and a library may use.

    The library is that of a place in VARIABLES.
    """
    flags = frozenset(_of_cpuinfo("flags").split())
    best = max(n for n, (needed, _) in enumerate(SETS) if needed <= flags)
    names = [each[library].lower() for _, each in SETS]
    asked = os.environ.get(VARIABLES[library], "").lower()
    return min(best, names.index(asked)) if asked in names else best


def _of_cpuinfo(name: str) -> str:
    """Return a line of the first core, "" where the system or the processor has none."""
    try:
        text = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^{name}\s*:\s*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""
