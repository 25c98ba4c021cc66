"""Memory that is freed stays with the process, so that a step need not ask for it again."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

from gan_mpi.cluster.memory import RESERVE

# Frees and asks for a block of 80 MB, which is zeroed, five times; prints pages that were new.
PROGRAM = """
import platform, resource
from gan_mpi.cluster.memory import keep_freed_memory
kept = keep_freed_memory() if {asked} else None
block = bytearray(80_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    del block
    block = bytearray(80_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, platform.libc_ver()[0])
"""


def pages(asked, **variables):
    """Return whether memory is kept, and how many pages were asked for again."""
    command = [sys.executable, "-c", PROGRAM.format(asked=asked)]
    said = subprocess.check_output(command, env=environment() | variables, text=True)
    kept, count, library = said.split()
    if library != "glibc":
        pytest.skip(f"the C library is {library}")
    return kept, int(count)


def test_what_is_freed_is_used_again():
    assert pages(asked=True) == ("True", pytest.approx(0, abs=50))
    _, count = pages(asked=False)
    assert count > 5 * 80_000_000 / 4096, "else there is nothing to mend"


def test_what_the_user_chose_is_left_alone():
    kept, count = pages(asked=True, MALLOC_MMAP_THRESHOLD_="1000000")
    assert kept == "False"
    assert count > 1000


def test_what_reading_took_is_given_back():
    program = """
import platform
from gan_mpi.cluster.memory import keep_freed_memory, return_freed_memory
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
keep_freed_memory()
block, kept = bytearray(80_000_000), bytearray(1_000_000)  # which lies behind it
del block
before = resident()
return_freed_memory()
print(before - resident(), platform.libc_ver()[0])
"""
    given, library = subprocess.check_output(
        [sys.executable, "-c", program], env=environment(), text=True
    ).split()
    if library != "glibc":
        pytest.skip(f"the C library is {library}")
    ends = 2 * 2**21  # bytes that are free in the first and the last huge page
    assert int(given) == pytest.approx(80_000_000, abs=ends)


def figures(program, before="true"):
    """Return the numbers that a program prints, after a command of the shell."""
    command = ["bash", "-c", f'{before}; exec "$@"', "-", sys.executable]
    said = subprocess.check_output([*command, "-c", program], env=environment(), text=True)
    return list(map(int, said.split()))


HUGE_PAGES = """
import re
from gan_mpi.cluster.memory import keep_freed_memory
def in_kilobytes(name, path):
    return int(re.search(rf"^{name}:\\s*(\\d+)", open(path).read(), re.M)[1])
before = in_kilobytes("VmSize", "/proc/self/status")
keep_freed_memory()
after = in_kilobytes("VmSize", "/proc/self/status")
block = bytearray(80_000_000)
print(in_kilobytes("AnonHugePages", "/proc/self/smaps_rollup") * 1024, (after - before) * 1024)
"""


def test_a_large_block_has_huge_pages():
    allowed = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not allowed.exists() or "[never]" in allowed.read_text():
        pytest.skip("this system gives no huge pages")
    huge, reserved = figures(HUGE_PAGES)
    assert huge > 70_000_000
    assert reserved >= RESERVE


@pytest.mark.parametrize("limit", ["-v 3000000", "-d 3000000"], ids=["addresses", "data"])
def test_nothing_is_reserved_where_that_counts(limit):
    _, reserved = figures(HUGE_PAGES, before=f"ulimit {limit}")
    assert reserved < 1_000_000


PYTHONS = [sys.executable, *({"/usr/bin/python3"} - {sys.executable})]


@pytest.mark.parametrize("python", [each for each in PYTHONS if Path(each).exists()])
def test_the_malloc_in_use_is_known_in_any_python(python):
    """Debian's is at a fixed address, and so is what it says malloc is."""
    program = (
        "import platform; from gan_mpi.cluster.memory import keep_freed_memory;"
        "print(keep_freed_memory(), platform.libc_ver()[0])"
    )
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    said = subprocess.check_output([python, "-c", program], env=environment() | path, text=True)
    assert said.split() in (["True", "glibc"], ["False", "musl"])
