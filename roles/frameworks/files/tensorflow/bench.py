"""Steps a second: matrices, and a convolution; one thread."""

import json

import numpy as np
import tensorflow as tf
from timing import rates

tf.config.threading.set_intra_op_parallelism_threads(1)
square, image = tf.random.normal((512, 512)), tf.random.normal((4, 64, 64, 32))
kernel = tf.random.normal((3, 3, 32, 64))

print(
    json.dumps(
        rates(
            {
                "matmul float32": lambda: np.asarray(square @ square),
                "convolution": lambda: np.asarray(tf.nn.conv2d(image, kernel, 1, "SAME")),
            },
            seconds=0.5,
        )
    )
)
