"""The types of a numpy array and of what it holds, without Any: docstrings say the rest."""

import numpy as np

DType = np.dtype[np.generic]
Array = np.ndarray[tuple[int, ...], DType]
