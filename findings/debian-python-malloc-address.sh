#!/usr/bin/env bash
# Debian 12's Python 3.11.2: ctypes gives malloc of the process another address than malloc of libc.
#
# Expected: in a process whose malloc is glibc's, ctypes.CDLL(None).malloc and that of
#   CDLL("libc.so.6") are one function at one address, so that comparing them tells whether another
#   malloc, such as jemalloc, was loaded before it.
# Happens:  they differ. Debian's program is not position-independent, and calls malloc itself; the
#   linker then makes a place within the program the address of malloc for the whole process. A
#   function that Python does not call itself has one address.
# Seen on 2026-11-30, x86-64, packages 3.11.2-6+deb12u8:
#   malloc: of libc above 0x7f0000000000, of the process 0x41f610
#   mallinfo2: the same
#   a block of 50000 bytes from the process's malloc: counted by glibc
# Matters where: a program asks which malloc it has, before it calls mallopt() say. Pythons that are
#   position-independent, such as pyenv's and conda's, do not show it. What glibc counts does.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
version=3.11.2-6+deb12u8
apt-get download -q "python3.11-minimal=$version" "libpython3.11-minimal=$version" \
  "libpython3.11-stdlib=$version"
for package in ./*.deb; do dpkg -x "$package" root; done

cat > look.py <<'PY'
import ctypes
import sys

libc, process = ctypes.CDLL("libc.so.6"), ctypes.CDLL(None)


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


class Mallinfo(ctypes.Structure):
    _fields_ = [("field", ctypes.c_size_t * 10)]


libc.mallinfo2.restype, process.malloc.restype = Mallinfo, ctypes.c_void_p
print(sys.version.split()[0])
print(f"malloc: of libc {address(libc.malloc):#x}, of the process {address(process.malloc):#x}")
before = libc.mallinfo2().field[7]
process.malloc(ctypes.c_size_t(50_000))
counted = libc.mallinfo2().field[7] - before >= 50_000
print("a block of 50000 bytes from the process's malloc:", "counted" if counted else "not counted")
assert address(libc.mallinfo2) == address(process.mallinfo2), "mallinfo2 has two addresses"
assert address(libc.malloc) != address(process.malloc), "malloc has one address"
assert address(process.malloc) < 1 << 32 < address(libc.malloc), "it is no place in the program"
assert counted, "glibc does not serve it"
PY
PYTHONHOME="$work/root/usr" "$work/root/usr/bin/python3.11" -S look.py
