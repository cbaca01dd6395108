"""Host memory that a CPU device takes as it is: JAX copies an array that does not begin where its own would."""

import math

import numpy as np

ALIGNMENT = 64  # bytes, XLA's on a CPU


def empty(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """An array as of `numpy.empty`, whose first value lies at a multiple of `ALIGNMENT`."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    begin = -memory.ctypes.data % ALIGNMENT
    return memory[begin : begin + size].view(dtype).reshape(shape)
