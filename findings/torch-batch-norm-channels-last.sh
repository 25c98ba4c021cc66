#!/usr/bin/env bash
# torch 2.13.0 on a CPU: batch norm of a channels_last batch adds its pixels one after the other.
#
# Expected: the memory format of a batch changes the speed of BatchNorm2d, and its results by
#   rounding: some 1e-6 of the numbers.
# Happens:  the mean of a channels_last batch in float32 is the plain running sum of all pixels of a
#   channel, whose error grows with their number; that of the same batch in the usual format is
#   summed in float64.  With 262,144 pixels of mean 100 and deviation 1 the outputs are centred
#   400 times less well.
# Seen on 2026-11-28 (largest error of a mean of 16 channels; largest mean of the outputs):
#   contiguous: 3.8e-06, 5.1e-06
#   channels_last: 1.5e-03, 1.5e-03
# Matters where: large images or batches train in channels_last, as is advised for speed, on
#   features whose mean is large beside their deviation.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6

cat > "$work/centre.py" <<'PY'
import sys

import torch

torch.set_num_threads(1)
torch.manual_seed(0)
batch = torch.randn(256, 16, 32, 32) + 100
exact = batch.double().mean((0, 2, 3))
errors = []
formats = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
for name, memory_format in formats.items():
    layer = torch.nn.BatchNorm2d(16, momentum=1.0, affine=False)
    outputs = layer(batch.contiguous(memory_format=memory_format))
    error = (layer.running_mean.double() - exact).abs().max().item()
    centre = outputs.double().mean((0, 2, 3)).abs().max().item()
    print(f"{name}: {error:.1e}, {centre:.1e}")
    errors.append(error)
sys.exit(not (errors[0] < 2e-5 and errors[1] > 20 * errors[0]))
PY

if ! "$work/venv/bin/python" "$work/centre.py"; then
    echo "Changed: expected an error of channels_last at least 20 times that of contiguous." >&2
    exit 1
fi
