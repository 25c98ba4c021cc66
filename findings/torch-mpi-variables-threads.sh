#!/usr/bin/env bash
# torch 2.13.0 on x86-64: a variable that mpiexec sets leaves all of torch one thread, even of a single rank.
#
# Expected: without OMP_NUM_THREADS torch takes as many threads as there are cores, or, of several
#   ranks on a node, its share of them.
# Happens:  MKL reads MPI_LOCALNRANKS, which MPICH's mpiexec sets, and OMPI_COMM_WORLD_LOCAL_SIZE,
#   which Open MPI's does.  Where either is there and I_MPI_THREAD_LEVEL, which neither sets, is
#   not, it computes sequentially, whatever their values; its manual says so of Intel's MPI.  torch
#   takes over MKL's number for all that it computes, convolutions and elementwise functions too,
#   whose libraries know nothing of MPI.  OMP_NUM_THREADS or set_num_threads() gives the cores back.
# Seen on 2026-11-29, on two cores, with no MPI installed:
#   nothing set: 2
#   MPI_LOCALNRANKS=1: 1
#   OMPI_COMM_WORLD_LOCAL_SIZE=1: 1
#   MPI_LOCALNRANKS=1 I_MPI_THREAD_LEVEL=3: 2
#   MPI_LOCALNRANKS=1 OMP_NUM_THREADS=2: 2
# Matters where: `mpiexec -n 1` is timed beside a start without it, or has a node to itself.
set -euo pipefail

if [ "$(nproc)" -lt 2 ]; then
    echo "it takes two cores" >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6

threads() { # threads VARIABLES...
    env -u OMP_NUM_THREADS -u MKL_NUM_THREADS -u MPI_LOCALNRANKS -u OMPI_COMM_WORLD_LOCAL_SIZE \
        -u I_MPI_THREAD_LEVEL "$@" \
        timeout 60 "$work/venv/bin/python" -c "import torch; print(torch.get_num_threads())"
}
changed=""
expect() { # expect one|more VARIABLES...
    local expected=$1 found is=more
    shift
    found=$(threads "$@")
    [ "$found" -gt 1 ] || is=one
    [ $is = "$expected" ] || changed=yes
    echo "${*:-nothing set}: $found"
}
expect more
expect one MPI_LOCALNRANKS=1
expect one OMPI_COMM_WORLD_LOCAL_SIZE=1
expect more MPI_LOCALNRANKS=1 I_MPI_THREAD_LEVEL=3
expect more MPI_LOCALNRANKS=1 OMP_NUM_THREADS=2
if [ -n "$changed" ]; then
    echo "Changed: expected one thread with the variable of either mpiexec alone." >&2
    exit 1
fi
