#!/usr/bin/env bash
# safetensors 0.8.0: one content saved twice makes files of different bytes.
#
# Expected: the same tensors with the same metadata make the same file, so that its checksum names them.
# Happens:  the entries of the metadata stand in the header in an order drawn anew at each save, whatever
#   the order in the dict that is passed; tensors keep theirs.
# Seen on 2026-11-29, with numpy 2.4.6: ten processes that save the same two tensors and six entries:
#   ten saves of one content: 10 checksums of the files, 1 with the metadata in order
# Matters where: a file is known by its checksum (caches, provenance, builds that can be repeated). Writing
#   the header again with the entries sorted is enough.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6

cat >"$work/save.py" <<'PYTHON'
import hashlib
import json

import numpy as np
from safetensors.numpy import save

about = {name: name.upper() for name in ("name", "data", "shape", "classes", "accuracy", "seed")}
data = save({"weight": np.zeros((2, 2), np.float32), "bias": np.ones(2, np.float32)}, about)
size = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + size])
tensors = [name for name in header if name != "__metadata__"]
header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
ordered = json.dumps(header, separators=(",", ":")).encode()
print(
    hashlib.sha256(data).hexdigest(),
    hashlib.sha256(ordered + data[8 + size :]).hexdigest(),
    *tensors,
)
PYTHON
for _ in 1 2 3 4 5 6 7 8 9 10; do "$work/venv/bin/python" "$work/save.py"; done >"$work/sums"
files=$(cut -d' ' -f1 "$work/sums" | sort -u | wc -l)
contents=$(cut -d' ' -f2- "$work/sums" | sort -u | wc -l)
echo "ten saves of one content: $files checksums of the files, $contents with the metadata in order"
[ "$files" -gt 1 ] && [ "$contents" = 1 ]
