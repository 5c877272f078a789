"""Group a table, and read back what was written."""

import io

import pandas as pd

table = pd.DataFrame({"group": ["a", "b"] * 50, "value": range(100)})
sums = table.groupby("group")["value"].sum()
assert sums.to_dict() == {"a": 2450, "b": 2500}, sums
text = table.to_csv(index=False)
assert pd.read_csv(io.StringIO(text)).equals(table)
print(f"pandas {pd.__version__}: {len(table)} rows in {len(sums)} groups")
