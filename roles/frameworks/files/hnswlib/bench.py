"""Vectors indexed, and queries answered, a second of CPU time; one thread."""

import json
import time

import hnswlib
import numpy as np


def measure(dim: int, count: int) -> tuple[float, float]:
    """Build and query rates of one index."""
    vectors = np.random.default_rng(dim).random((count, dim), dtype=np.float32)
    index = hnswlib.Index(space="l2", dim=dim)
    index.init_index(max_elements=count, ef_construction=100, M=16, random_seed=1)
    index.set_num_threads(1)
    began = time.process_time()
    index.add_items(vectors)
    built = time.process_time()
    index.set_ef(64)
    index.knn_query(vectors, k=10)
    return count / (built - began), count / (time.process_time() - built)


found = {}
for dim, count in ((768, 2500), (128, 5000)):
    found[f"build {dim}"], found[f"query {dim}"] = measure(dim, count)
print(json.dumps(found))
