"""Learn a rule that a line can tell, and find it."""

import numpy as np
import sklearn
from sklearn.linear_model import LogisticRegression

data = np.random.default_rng(1).random((400, 4))
target = data[:, 0] > data[:, 1]
right = float(
    LogisticRegression(C=100).fit(data[:300], target[:300]).score(data[300:], target[300:])
)
assert right > 0.9, right
print(f"scikit-learn {sklearn.__version__}: {right:.0%} right")
