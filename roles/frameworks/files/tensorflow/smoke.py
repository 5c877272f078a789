"""A training step that lowers the loss, on the CPU."""

import tensorflow as tf

tf.random.set_seed(1)
weights, data = tf.Variable(tf.zeros((8, 1))), tf.random.normal((64, 8))
target = tf.reduce_sum(data, axis=1, keepdims=True)
losses = []
for _ in range(20):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(data @ weights - target))
    weights.assign_sub(0.1 * tape.gradient(loss, weights))
    losses.append(float(loss))
assert losses[-1] < losses[0] / 2, losses
print(f"tensorflow {tf.__version__}: loss {losses[0]:.2f} to {losses[-1]:.2f}")
