#!/usr/bin/env bash
# torch 2.13.0, Python 3.11: a program that only imported torch takes some 0.4 s to end.
#
# Expected: a program whose last statement is done is gone in hundredths of a second; what an import
#   costs, it costs at the import.
# Happens:  Python ends with searches for garbage in all that is alive, and torch's import leaves
#   some 170,000 objects, none of which is any.  gc.freeze() before the end takes them out of the
#   search, and most of the wait with it; what is registered for the end still runs, as it would not
#   with os._exit().
# Seen on 2026-11-30 (medians of seven in turn; seconds from the last statement to the end):
#   as it is: 0.40 s
#   gc.freeze(): 0.11 s
#   without torch: 0.00 s
# Matters where: short commands, and thousands of ranks or jobs that each end so.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6

cat >"$work/ends.py" <<'PYTHON'
import statistics
import subprocess
import sys
import time

WAYS = {
    "as it is": "",
    "gc.freeze()": "import gc; gc.freeze(); ",
    "without torch": "",
}
seconds = {way: [] for way in WAYS}
for _ in range(7):
    for way, last in WAYS.items():
        first = "" if way == "without torch" else "import torch; "
        code = f"{first}{last}import time; print(time.time(), flush=True)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        seconds[way].append(time.time() - float(done.stdout))
found = {way: statistics.median(each) for way, each in seconds.items()}
for way, each in found.items():
    print(f"{way}: {each:.2f} s")
if found["gc.freeze()"] > 0.7 * found["as it is"] or found["as it is"] < 0.1:
    sys.exit("Changed: expected the end to take much longer without gc.freeze().")
PYTHON
timeout 300 "$work/venv/bin/python" "$work/ends.py"
