#!/usr/bin/env bash
#PBS -N gan-mpi
#PBS -l select=2:ncpus=8:mpiprocs=8:ompthreads=1
#PBS -l place=scatter
#PBS -l walltime=01:00:00
#PBS -j oe
set -euo pipefail

cd "$PBS_O_WORKDIR"
# shellcheck source=/dev/null
source venv/bin/activate
export OMP_NUM_THREADS=1

mpiexec -f "$PBS_NODEFILE" -n 16 -ppn 8 -bind-to core:1 gan-mpi train --run-dir runs/mine "$@" &
job=$!
trap 'kill -USR1 "$job"' USR1
trap '[ "$SECONDS" -gt 3480 ] || cancelled=1; kill -USR1 "$job"' TERM # long before its end: cancelled; save, and submit nothing

# A signal ends a wait early; the ranks may still be saving.
code=0
wait "$job" || code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do
  code=0
  wait "$job" || code=$?
done

if [ "$code" -eq 75 ] && [ -z "${cancelled:-}" ]; then # stopped in time, with a checkpoint: go on in a new job
  [ -z "${PBS_ARRAY_INDEX:-${PBS_ARRAYID:-}}" ] || { echo "PBS cannot submit one task of an array; submit it again" >&2; exit 75; }
  qsub "$0"
fi
exit "$code"
