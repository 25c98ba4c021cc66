#!/usr/bin/env bash
# sbatch launch/slurm.sh --datadir DIR --run-dir DIR [any option of gan-mpi train]
#SBATCH --job-name=gan-mpi
#SBATCH --account=<account>
#SBATCH --partition=<partition>
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --open-mode=append
set -euo pipefail

# shellcheck source=/dev/null
source "${GAN_MPI_VENV:-$HOME/gan-mpi/venv}/bin/activate"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

# Open MPI wants GAN_MPI_SRUN_MPI=pmix.
srun -K --mpi="${GAN_MPI_SRUN_MPI:-pmi2}" gan-mpi train "$@" &
job=$!
trap 'kill -USR1 "$job"' USR1

# A signal ends a wait early; the job itself may still be saving.
code=0
wait "$job" || code=$?
while [ "$code" -gt 128 ] && kill -0 "$job" 2>/dev/null; do
  code=0
  wait "$job" || code=$?
done

if [ "$code" -eq 75 ]; then # stopped early with a checkpoint: go on in a new job
  sbatch "$0" "$@"
fi
exit "$code"
