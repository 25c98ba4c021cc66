#!/usr/bin/env bash
# torch 2.13.0: the first optimizer that is made imports torch's compiler.
#
# Expected: `import torch` has imported what SGD needs; the compiler comes with torch.compile.
# Happens:  torch.optim.SGD(...) of two numbers imports torch._dynamo, with sympy and some 800
#   modules more, which takes about a second.
# Seen on 2026-11-27 (numbers of modules may differ a little):
#   after import torch: 1030 modules, compiler False, sympy False
#   after SGD: 1834 modules, compiler True, sympy True
# Matters where: every rank of a job starts Python, and all read the modules at the same time.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0

cat > "$work/optimizer.py" <<'PY'
import sys
import warnings

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch


def modules(when):
    compiler, sympy = ("torch._dynamo" in sys.modules), ("sympy" in sys.modules)
    print(f"{when}: {len(sys.modules)} modules, compiler {compiler}, sympy {sympy}")
    return len(sys.modules), compiler


before, early = modules("after import torch")
torch.optim.SGD([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
after, late = modules("after SGD")
if early or not late or after < before + 400:
    raise SystemExit("Changed: expected the compiler, with over 400 modules, to come with SGD.")
PY
timeout 90 "$work/venv/bin/python" "$work/optimizer.py"
