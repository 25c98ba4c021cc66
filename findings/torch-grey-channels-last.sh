#!/usr/bin/env bash
# torch 2.13.0 (with numpy 2.4.6): contiguous() leaves grey images in channels_last.
#
# Expected: grey images (N, H, W, 1) permuted to (N, 1, H, W) are contiguous, says
#   is_contiguous(), and so a convolution's output is contiguous too and view() flattens it.
# Happens:  the dimension of size 1 keeps the stride 1, which torch reads as channels_last; the
#   output is not contiguous and view() raises.  Neither contiguous(), clone() nor numpy's
#   ascontiguousarray changes the stride, since there is nothing to copy; reshape() does.  An
#   equal tensor with other strides is computed by other kernels, with other last digits at times.
# Seen on 2026-11-27:
#   permuted: contiguous True, convolved contiguous False, view raises
#   contiguous(): contiguous True, convolved contiguous False, view raises
#   clone(): contiguous True, convolved contiguous False, view raises
#   ascontiguousarray: contiguous True, convolved contiguous False, view raises
#   reshape(): contiguous True, convolved contiguous True, view works
# Matters where: digits are read as NumPy arrays and flattened, or must give the same bits twice.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6

cat > "$work/grey.py" <<'PY'
import numpy as np
import torch

pixels = np.random.default_rng(0).random((4, 28, 28, 1), dtype=np.float32)
images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
copied = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
forms = {
    "permuted": images,
    "contiguous()": images.contiguous(),
    "clone()": images.clone(),
    "ascontiguousarray": torch.from_numpy(copied),
    "reshape()": images.reshape(images.shape),
}
convolution = torch.nn.Conv2d(1, 8, 3)
works = []
for name, form in forms.items():
    assert torch.equal(form, images)
    output = convolution(form)
    try:
        output.view(len(output), -1)
        works.append(True)
    except RuntimeError:
        works.append(False)
    print(
        f"{name}: contiguous {form.is_contiguous()}, "
        f"convolved contiguous {output.is_contiguous()}, view {'works' if works[-1] else 'raises'}"
    )
if not all(form.is_contiguous() for form in forms.values()) or works != [False] * 4 + [True]:
    raise SystemExit("Changed: expected all to be contiguous, and view to work for the last only.")
PY
timeout 60 "$work/venv/bin/python" "$work/grey.py"
