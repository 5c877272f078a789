"""Train on a rule that a tree can find, and find it."""

import numpy as np
import xgboost

data = np.random.default_rng(1).random((600, 4))
target = (data[:, 0] > data[:, 1]).astype(int)
settings = {"objective": "binary:logistic", "nthread": 1, "max_depth": 5}
matrix = xgboost.DMatrix(data, target, nthread=1)
model = xgboost.train(settings, matrix, num_boost_round=40)
right = float(((model.predict(matrix) > 0.5) == target).mean())
assert right > 0.95, right
print(f"xgboost {xgboost.__version__}: {right:.0%} right")
