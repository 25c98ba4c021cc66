#!/usr/bin/env bash
# torch 2.13.0: load_state_dict(assign=True) marks the state_dict, and later loads of it assign too.
#
# Expected: assign=True concerns one call; a later network.load_state_dict(state), without it,
#   copies numbers into the parameters that the network has.
# Happens:  the later call replaces the parameters, in the same process or after torch.save() and
#   torch.load(). An optimizer, or a view of gradients, that was made before goes on with the old
#   ones: nothing is raised, and the network learns no more.
# Seen on 2026-11-30, CPython 3.11, the CPU wheel:
#   loaded as it was saved: same parameters, learns
#   loaded after somebody assigned it: other parameters, does not learn
#   and from a file written after that: other parameters, does not learn
#   as a plain dict: same parameters, learns
# Matters where: one state_dict serves to draw samples (assigned, for speed) and to go on training,
#   or is written to a checkpoint after that. load_state_dict(dict(state), assign=True) marks nothing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install -q torch==2.13.0 numpy==2.4.6

cat > look.py <<'PY'
import copy
import sys

import torch
from torch import nn


def state():
    torch.manual_seed(0)
    return nn.Linear(2, 2).state_dict()


def look(name, saved):
    network = nn.Linear(2, 2)
    before = [id(parameter) for parameter in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    network.load_state_dict(saved)
    same = before == [id(parameter) for parameter in network.parameters()]
    bias = network.bias.detach().clone()
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    learns = not torch.equal(bias, network.bias)
    print(
        f"{name}: {'same' if same else 'other'} parameters, "
        f"{'learns' if learns else 'does not learn'}"
    )
    return same and learns


plain = state()
assigned = state()
nn.Linear(2, 2).load_state_dict(assigned, assign=True)
torch.save(copy.copy(assigned), "state.pt")
found = [
    look("loaded as it was saved", plain),
    look("loaded after somebody assigned it", assigned),
    look("and from a file written after that", torch.load("state.pt", weights_only=True)),
    look("as a plain dict", dict(assigned)),
]
sys.exit(found != [True, False, False, True])
PY
venv/bin/python look.py
