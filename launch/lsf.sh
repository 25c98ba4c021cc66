#!/usr/bin/env bash
#BSUB -J gan-mpi
#BSUB -n 16
#BSUB -R "span[ptile=8] affinity[core(1)]"
#BSUB -W 1:00
#BSUB -wa USR1 -wt 2
#BSUB -Q "75"
#BSUB -o gan-mpi.%J.log
set -euo pipefail

# shellcheck source=/dev/null
source venv/bin/activate
export OMP_NUM_THREADS=1

mpiexec -f "$LSB_DJOB_HOSTFILE" -n 16 -ppn 8 -bind-to core:1 gan-mpi train --run-dir runs/mine "$@" &
job=$!
trap 'kill -USR1 "$job"' USR1

# A signal ends a wait early; the ranks may still be saving.
code=0
wait "$job" || code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do
  code=0
  wait "$job" || code=$?
done
exit "$code"
