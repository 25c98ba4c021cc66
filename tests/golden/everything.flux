#!/usr/bin/env bash
#FLUX: --job-name=digits
#FLUX: --bank=a1
#FLUX: --queue=long
#FLUX: --requires=fast
#FLUX: --nodes=3
#FLUX: --nslots=12
#FLUX: --cores-per-slot=2
#FLUX: --gpus-per-slot=1
#FLUX: --time-limit=216000s
#FLUX: --signal=SIGUSR1@120s
#FLUX: --output=digits-{{id}}.log
#FLUX: one more
set -euo pipefail

set +u # some module systems read unset variables
module load gcc/13
module load 'my mpi'
set -u
export OMP_NUM_THREADS=2

flux run --nodes=3 --ntasks=12 --cores-per-task=2 --gpus-per-task=1 -o pmi=pmix apptainer exec --nv --bind "$PWD" 'gan mpi.sif' gan-mpi train --run-dir '/scratch/it'"'"'s mine' --datadir /data "$@" &
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
