#!/usr/bin/env bash
# mpi4py 4.1.2: while Init and Finalize wait for other ranks, no thread of Python runs.
#
# Expected: what waits for other ranks releases the interpreter's lock, as Barrier and all other
#   communication of mpi4py does; a watchdog thread can say that a rank has not come up.
# Happens:  Init_thread and Finalize keep the lock until the last rank is there.
# Seen on 2026-11-29, with MPICH 5.0.2 and one rank that comes two seconds after the other: how
# often a thread of the other, which sleeps 0.05 s at a time, woke meanwhile:
#   Init_thread: 2.0 s, at most 2 times
#   Barrier: 2.0 s, more than 20 times
#   Finalize: 2.0 s, at most 2 times
# Matters where: a program should say why it hangs in its start, or at its end; the launcher, or a
#   process beside it, has to. faulthandler.dump_traceback_later(), whose thread is C's, works too.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q mpich==5.0.2 mpi4py==4.1.2

cat > "$work/rank.py" <<'PY'
import sys
import threading
import time

import mpi4py

mpi4py.rc.initialize = mpi4py.rc.finalize = False
from mpi4py import MPI

late, woke = sys.argv[1] == "late", 0


def wake():
    global woke
    while True:
        time.sleep(0.05)
        woke += 1


def timed(name, call):
    """Call what the other rank calls two seconds later; print how often wake() woke meanwhile."""
    if late:
        time.sleep(2)
    before, began = woke, time.monotonic()
    call()
    if not late:
        times = woke - before
        often = "at most 2" if times <= 2 else "more than 20" if times > 20 else times
        print(f"{name}: {time.monotonic() - began:.1f} s, {often} times")


threading.Thread(target=wake, daemon=True).start()
timed("Init_thread", MPI.Init_thread)
timed("Barrier", MPI.COMM_WORLD.Barrier)
timed("Finalize", MPI.Finalize)
PY

python=$work/venv/bin/python
found=$("$work/venv/bin/mpiexec" -n 1 "$python" "$work/rank.py" early \
    : -n 1 "$python" "$work/rank.py" late)
echo "$found"
for line in "Init_thread: .* at most 2 times" "Barrier: .* more than 20 times" \
    "Finalize: .* at most 2 times"; do
    if ! grep -q "$line" <<< "$found"; then
        echo "Changed: expected $line" >&2
        exit 1
    fi
done
