#!/usr/bin/env bash
# launch/hostfile.sh --datadir DIR --run-dir DIR [any option of gan-mpi train]
#
# Starts RANKS ranks (default: one a host) on the hosts of HOSTS (default: hosts.txt), one name a
# line, by ssh. The hosts need the same gan-mpi at the same path.
set -euo pipefail

HOSTS="${HOSTS:-hosts.txt}"
RANKS="${RANKS:-$(grep -c . "$HOSTS")}"
bin="$(dirname "$(command -v gan-mpi)")"

if "$bin/mpiexec" --version | grep -qi "open.\?mpi\|prrte"; then
  hosts=(--hostfile "$HOSTS" --map-by node:OVERSUBSCRIBE --bind-to none)
else
  hosts=(-f "$HOSTS")
fi
exec "$bin/mpiexec" "${hosts[@]}" -n "$RANKS" "$bin/gan-mpi" train "$@"
