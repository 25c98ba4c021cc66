#!/usr/bin/env bash
# launch/hostfile.sh --datadir DIR --run-dir DIR [any option of gan-mpi train]
#
# Starts RANKS ranks (default: one a host) on the hosts of HOSTS (default: hosts.txt), one name a
# line, by ssh without a password (localhost needs none). The hosts need the same gan-mpi at the same
# path. The mpiexec beside it is taken, or else that of PATH, which a module brings.
set -euo pipefail

HOSTS="${HOSTS:-hosts.txt}"
RANKS="${RANKS:-$(grep -c . "$HOSTS")}"
bin="$(dirname "$(command -v gan-mpi)")"
mpiexec="$bin/mpiexec"
[ -x "$mpiexec" ] || mpiexec=mpiexec

if "$mpiexec" --version | grep -qi "open.\?mpi\|prrte"; then
  hosts=(--hostfile "$HOSTS" --map-by node:OVERSUBSCRIBE --bind-to none)
else
  hosts=(-f "$HOSTS")
fi
exec "$mpiexec" "${hosts[@]}" -n "$RANKS" "$bin/gan-mpi" train "$@"
