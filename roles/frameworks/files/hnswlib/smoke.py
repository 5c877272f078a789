"""Build a small index and find each vector as its own nearest neighbour."""

import hnswlib
import numpy as np

vectors = np.random.default_rng(1).random((500, 32), dtype=np.float32)
index = hnswlib.Index(space="l2", dim=32)
index.init_index(max_elements=500, ef_construction=100, M=16)
index.add_items(vectors, np.arange(500))
labels, _ = index.knn_query(vectors, k=1)
right = int((labels[:, 0] == np.arange(500)).sum())
assert right >= 495, f"only {right} of 500 vectors found themselves"
print(f"hnswlib: {right} of 500 vectors found themselves")
