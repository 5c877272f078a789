"""Hold sort, argsort and partition, which the build changes, to Python's own sort; solve linear
equations."""

import numpy as np

random = np.random.default_rng(1)
for kind in (np.float64, np.float32, np.int64, np.int32, np.uint32, np.float16, np.int16):
    values = (random.random(10_007) * 1000).astype(kind)
    wanted = sorted(values.tolist())
    assert np.sort(values).tolist() == wanted, kind
    assert values[np.argsort(values)].tolist() == wanted, kind
    assert np.partition(values, 5000)[5000] == wanted[5000], kind
baseline = set(np._core._multiarray_umath.__cpu_baseline__)
assert baseline <= {"X86_V2"}, (
    f"compiled for {', '.join(sorted(baseline))}: that code asks no CPU first"
)
matrix, right = random.random((200, 200)), random.random(200)
assert np.allclose(matrix @ np.linalg.solve(matrix, right), right)
print(f"numpy {np.__version__}: sorted 7 types, solved 200 equations")
