#!/usr/bin/env bash
# torch 2.13.0, x86-64 with AVX2: softplus of one number depends on where in the tensor it is.
#
# Expected: an elementwise function of equal elements gives equal elements.
# Happens:  whole vectors of elements are computed by one routine and the rest at the end by
#   another, whose last digit differs: of 19 elements of 0.3 the last 3 come out larger.  Sigmoid
#   does so for other numbers.
# Seen on 2026-11-27, with ATEN_CPU_CAPABILITY=avx2:
#   softplus of 0.3: 16 x 0.8543552160263062, 3 x 0.8543552756309509
#   sigmoid: two values for 37 of 1001 numbers
# Matters where: softplus is the loss of a GAN, and images cut among ranks change their places.
set -euo pipefail

if ! grep -qw avx2 /proc/cpuinfo; then
    echo "This is about processors with AVX2; it cannot be seen here." >&2
    exit 1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0

cat > "$work/position.py" <<'PY'
import warnings
from collections import Counter

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch

values = torch.nn.functional.softplus(torch.full((19,), 0.3)).tolist()
counts = Counter(values)
print("softplus of 0.3:", ", ".join(f"{count} x {value}" for value, count in counts.items()))
numbers = torch.linspace(-5, 5, 1001)
uneven = sum(len(torch.full((19,), x).sigmoid().unique()) > 1 for x in numbers.tolist())
print("sigmoid: two values for", uneven, "of 1001 numbers")
if list(counts.values()) != [16, 3] or not uneven:
    raise SystemExit("Changed: expected 16 of one value, 3 of another, and uneven sigmoids.")
PY
ATEN_CPU_CAPABILITY=avx2 timeout 60 "$work/venv/bin/python" "$work/position.py"
