"""Every instance type of EC2, from the data that moto brings along."""

from __future__ import annotations

import gzip
import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any


@cache
def described() -> list[dict[str, Any]]:
    """Every instance type, as EC2 describes it."""
    package = importlib.util.find_spec("moto")
    assert package is not None and package.origin is not None
    packed = Path(package.origin).parent / "ec2/resources/instance_types.json.gz"
    return list(json.loads(gzip.decompress(packed.read_bytes())).values())
