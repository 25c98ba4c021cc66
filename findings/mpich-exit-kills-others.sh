#!/usr/bin/env bash
# MPICH 5.0.2 (with mpi4py 4.1.2): a rank that leaves by os._exit(0) after MPI_Finalize has the
# others killed, and mpiexec returns 0.
#
# Expected: after MPI_Finalize a rank is an ordinary process, whose success ends nothing but itself;
#   and where mpiexec kills ranks, it says so and returns another code.
# Happens:  MPICH tells mpiexec that a rank has left when the C library runs its exit handlers, and
#   not in MPI_Finalize.  os._exit() skips them: mpiexec takes the rank for one that was lost, kills
#   the others in the middle of what they do, and returns 0 without a word.
# Seen on 2026-11-30:
#   sys.exit(0): rank 1 has done its work; mpiexec returns 0
#   os._exit(0): mpiexec returns 0
# Matters where: a program ends by os._exit() to save the seconds in which Python takes a large
#   library to pieces, or since it was forked, while other ranks still write files.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q mpich==5.0.2 mpi4py==4.1.2

cat > "$work/leave.py" <<'PY'
import os
import sys
import time

from mpi4py import MPI

rank = MPI.COMM_WORLD.rank
MPI.Finalize()
if rank == 0:
    os._exit(0) if sys.argv[1] == "os._exit(0)" else sys.exit(0)
time.sleep(2)
print("rank 1 has done its work", flush=True)
PY

changed=0
for how in "sys.exit(0)" "os._exit(0)"; do
    code=0
    said=$(timeout 60 "$work/venv/bin/mpiexec" -n 2 "$work/venv/bin/python" "$work/leave.py" "$how" \
        < /dev/null 2>&1) || code=$?
    echo "$how: ${said:+$said; }mpiexec returns $code"
    expected="rank 1 has done its work"
    if [ "$how" = "os._exit(0)" ]; then expected=""; fi
    if [ "$said" != "$expected" ] || ((code != 0)); then changed=1; fi
done
if ((changed)); then
    echo "Changed: expected no word of rank 1 after os._exit(0), and 0 both times." >&2
    exit 1
fi
