"""Time the fast layers of CS231n's second assignment, in the folder that holds its ``cs231n``."""

import sys
import time

import numpy as np

sys.path.insert(0, "")
from cs231n.fast_layers import *

CALLS = 10


def timed(name, function, *arguments):
    result = function(*arguments)
    start = time.process_time()
    for _ in range(CALLS):
        function(*arguments)
    milliseconds = 1000 * (time.process_time() - start) / CALLS
    print(f"{name:24} {milliseconds:8.3f} ms", file=sys.stderr)
    return result


rng = np.random.default_rng(0)
for n, channels, size, filters in ((100, 3, 32, 32), (100, 32, 32, 32), (100, 3, 31, 25)):
    stride = 2 if size % 2 else 1
    x = rng.standard_normal((n, channels, size, size))
    w, b = rng.standard_normal((filters, channels, 3, 3)), rng.standard_normal(filters)
    convolution = {"stride": stride, "pad": 1}
    out, cache = timed("convolution", conv_forward_fast, x, w, b, convolution)
    gradients = timed("its gradients", conv_backward_fast, rng.standard_normal(out.shape), cache)
    print(*(round(float(np.sum(array**2)), 3) for array in (out, *gradients)))
    images = np.maximum(out, 0)
    pooling = {"pool_height": 2, "pool_width": 2, "stride": 2}
    out, cache = timed("max pooling", max_pool_forward_fast, images, pooling)
    dx = timed("its gradient", max_pool_backward_fast, rng.standard_normal(out.shape), cache)
    print(*(round(float(np.sum(array**2)), 3) for array in (out, dx)))
