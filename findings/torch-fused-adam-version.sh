#!/usr/bin/env bash
# torch 2.13.0: fused Adam changes weights, and their version does not move.
#
# Expected: a tensor's version counts every change in place, whoever makes it, so that a copy
#   derived from a weight, such as one in bfloat16, is known to be out of date.
# Happens:  after a step of Adam with fused=True the weight is another and its version is not,
#   and so it is with SGD; with fused=False it moves.
# Seen on 2026-11-29:
#   Adam fused=False: moved
#   Adam fused=True: the same
#   SGD fused=False: moved
#   SGD fused=True: the same
# Matters where: something is kept as long as a weight's version is; torch.autograd.graph's
#   increment_version() after each step mends it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6

cat > "$work/step.py" <<'PY'
import sys

import torch

found = []
for kind, options in ((torch.optim.Adam, {}), (torch.optim.SGD, {"lr": 0.1})):
    for fused in (False, True):
        weight = torch.nn.Parameter(torch.ones(8))
        weight.grad = torch.ones(8)
        version, value = weight._version, weight.detach().clone()
        kind([weight], fused=fused, **options).step()
        assert not torch.equal(weight, value), "the step did nothing"
        found.append(weight._version != version)
        print(f"{kind.__name__} fused={fused}: {'moved' if found[-1] else 'the same'}")
sys.exit(found != [True, False, True, False])
PY

if ! "$work/venv/bin/python" "$work/step.py"; then
    echo "Changed: expected moved, the same, moved, the same." >&2
    exit 1
fi
