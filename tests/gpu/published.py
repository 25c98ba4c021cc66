"""Ends with 1 unless losses are in bands around what CNTK published: published.py LOG.

They are the .4607 and 2.7450 of its first rows, and the .7946 and 1.9898 of its last.
"""

import re
import sys
from pathlib import Path

BANDS = ((0.46, 0.12), (2.74, 0.25), (0.79, 0.15), (1.99, 0.20))
text = Path(sys.argv[1]).read_text()
found = [float(loss) for loss in re.findall(r"Minibatch\[.*?\]: loss = (\S+) \*", text)]
shown = (*found[:2], *found[-2:])
print(shown)
sys.exit(not all(abs(loss - at) <= width for loss, (at, width) in zip(shown, BANDS, strict=True)))
