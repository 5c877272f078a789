"""Print as JSON what the environments below /opt/ml hold of what role trim looks at. Runs on the image as root."""

import base64
import csv
import hashlib
import json
import os
from pathlib import Path

HOME = Path("/opt/ml")
REPORT = HOME / "TRIMMED.json"


def digest(path: Path) -> str:
    """As a wheel's RECORD has it."""
    with path.open("rb") as file:
        return "sha256=" + base64.urlsafe_b64encode(hashlib.file_digest(file, "sha256").digest()).rstrip(b"=").decode()


report = json.loads(REPORT.read_text()) if REPORT.exists() else None
trimmed = {row["path"] for row in report["gpu_code"]} if report else set()
recorded, missing = {}, []
for record in sorted(HOME.glob("*/lib/python3*/site-packages/*.dist-info/RECORD")):
    for name, noted, _ in filter(None, csv.reader(record.read_text().splitlines())):
        path = os.path.normpath(record.parents[1] / name)
        if not os.path.lexists(path):
            missing.append(path)
        if os.path.relpath(path, HOME) in trimmed:
            recorded[os.path.relpath(path, HOME)] = noted
print(json.dumps({
    "report": report, "missing": missing, "recorded": recorded,
    "digests": {name: digest(HOME / name) for name in sorted(trimmed)},
    "stored": {name: (HOME / name).stat().st_blocks * 512 for name in sorted(trimmed)},
    "sizes": {name: (HOME / name).stat().st_size for name in sorted(trimmed)},
    "linked": [(HOME / row["path"]).samefile(HOME / row["to"]) for row in report["linked"]] if report else [],
    "suites": sorted(str(path) for name in ("numpy", "scipy", "pandas", "sklearn", "sympy", "networkx")
                     for path in HOME.glob(f"*/lib/python3*/site-packages/{name}/**/tests")),
}))
