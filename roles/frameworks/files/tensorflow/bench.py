"""Steps a second: matrices, and a convolution; one thread."""

import json
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

tf.config.threading.set_intra_op_parallelism_threads(1)
square, image = tf.random.normal((512, 512)), tf.random.normal((4, 64, 64, 32))
kernel = tf.random.normal((3, 3, 32, 64))


def rate(call: Callable[[], object], seconds: float = 0.5) -> float:
    """Calls a second, over at least `seconds` and two calls."""
    call()
    began, calls = time.process_time(), 0
    while (spent := time.process_time() - began) < seconds or calls < 2:
        call()
        calls += 1
    return calls / spent


print(json.dumps({
    "matmul float32": rate(lambda: np.asarray(square @ square)),
    "convolution": rate(lambda: np.asarray(tf.nn.conv2d(image, kernel, 1, "SAME"))),
}))
