"""Train on a rule that a tree can find, and find it."""

import lightgbm
import numpy as np

data = np.random.default_rng(1).random((600, 4))
target = (data[:, 0] > data[:, 1]).astype(int)
settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 15}
model = lightgbm.train(settings, lightgbm.Dataset(data, target), num_boost_round=40)
right = float(((model.predict(data) > 0.5) == target).mean())
assert right > 0.95, right
print(f"lightgbm {lightgbm.__version__}: {right:.0%} right")
