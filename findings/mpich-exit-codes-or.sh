#!/usr/bin/env bash
# MPICH 5.0.2 (with mpi4py 4.1.2): mpiexec returns the bitwise or of the ranks' exit codes.
#
# Expected: where ranks leave with different codes mpiexec returns one of them, the first that
#   failed or the largest.
# Happens:  it returns a code that no rank gave: 64 (usage) and 11 become 75 (try again later).
# Seen on 2026-11-27:
#   64 and 11: 75
#   1 and 2: 3
#   0 and 5: 5
# Matters where: a job script decides by the code, such as to submit itself again after 75.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q mpich==5.0.2 mpi4py==4.1.2

cat > "$work/leave.py" <<'PY'
import sys

from mpi4py import MPI

rank = MPI.COMM_WORLD.rank
MPI.COMM_WORLD.Barrier()
MPI.Finalize()
sys.exit(int(sys.argv[1 + rank]))
PY

changed=0
for codes in "64 11 75" "1 2 3" "0 5 5"; do
    read -r first second expected <<< "$codes"
    code=0
    timeout 60 "$work/venv/bin/mpiexec" -n 2 "$work/venv/bin/python" "$work/leave.py" \
        "$first" "$second" < /dev/null > /dev/null 2>&1 || code=$?
    echo "$first and $second: $code"
    if ((code != expected)); then changed=1; fi
done
if ((changed)); then
    echo "Changed: expected 75, 3 and 5, the bitwise or of the two codes." >&2
    exit 1
fi
