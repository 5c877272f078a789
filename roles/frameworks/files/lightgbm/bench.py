"""Rounds of training, and rows of prediction, a second of CPU time; one thread."""

import json
import time

import lightgbm
import numpy as np

data = np.random.default_rng(1).random((60_000, 32), dtype=np.float32)
target = (data[:, :4].sum(axis=1) + data[:, 5] * data[:, 6] > 2.2).astype(int)
settings = {"objective": "binary", "verbose": -1, "num_threads": 1, "num_leaves": 63, "seed": 1}
train = lightgbm.Dataset(data, target).construct()
began = time.process_time()
model = lightgbm.train(settings, train, num_boost_round=25)
trained = time.process_time()
model.predict(data, num_threads=1)
print(
    json.dumps(
        {"train": 25 / (trained - began), "predict": len(data) / (time.process_time() - trained)}
    )
)
