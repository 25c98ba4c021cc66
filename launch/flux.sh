#!/usr/bin/env bash
#FLUX: --job-name=gan-mpi
#FLUX: --nodes=2
#FLUX: --nslots=16
#FLUX: --cores-per-slot=1
#FLUX: --time-limit=3600s
#FLUX: --signal=SIGUSR1@120s
#FLUX: --output=gan-mpi-{{id}}.log
set -euo pipefail

# shellcheck source=/dev/null
source venv/bin/activate
export OMP_NUM_THREADS=1

flux run --nodes=2 --ntasks=16 --cores-per-task=1 gan-mpi train --run-dir runs/mine "$@" &
job=$!
trap 'flux job kill --signal=SIGUSR1 $(flux job last)' USR1

# A signal ends a wait early; the ranks may still be saving.
code=0
wait "$job" || code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do
  code=0
  wait "$job" || code=$?
done

if [ "$code" -eq 75 ]; then # stopped in time, with a checkpoint: go on in a new job
  flux --parent batch "$0" "$@"
fi
exit "$code"
