"""Rounds of training, and rows of prediction, a second of CPU time; one thread."""

import json
import time

import numpy as np
import xgboost

data = np.random.default_rng(1).random((60_000, 32), dtype=np.float32)
target = (data[:, :4].sum(axis=1) + data[:, 5] * data[:, 6] > 2.2).astype(int)
settings = {
    "objective": "binary:logistic",
    "nthread": 1,
    "max_depth": 6,
    "tree_method": "hist",
    "seed": 1,
}
matrix = xgboost.QuantileDMatrix(data, target, nthread=1)
began = time.process_time()
model = xgboost.train(settings, matrix, num_boost_round=25)
trained = time.process_time()
model.inplace_predict(data)
print(
    json.dumps(
        {"train": 25 / (trained - began), "predict": len(data) / (time.process_time() - trained)}
    )
)
