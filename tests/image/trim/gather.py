"""Print as JSON what the environments below /opt/ml hold of what role trim looks at. Runs on the image as root."""

import base64
import csv
import hashlib
import json
import os
import stat
from pathlib import Path

HOME = Path("/opt/ml")
REPORT = HOME / "TRIMMED.json"


def digest(path: Path) -> str:
    """As a wheel's RECORD has it."""
    with path.open("rb") as file:
        return "sha256=" + base64.urlsafe_b64encode(hashlib.file_digest(file, "sha256").digest()).rstrip(b"=").decode()


def twins() -> list[list[str]]:
    """Equal files that are not one: of 64 KiB or more, of the same mode and owner."""
    alike: dict[tuple[int, ...], dict[int, Path]] = {}
    for path in sorted(HOME.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size >= 1 << 16:
            key = (status.st_size, status.st_mode, status.st_uid, status.st_gid)
            alike.setdefault(key, {}).setdefault(status.st_ino, path)
    found: dict[str, list[str]] = {}
    for group in alike.values():
        for path in group.values() if len(group) > 1 else ():
            found.setdefault(digest(path), []).append(str(path))
    return [paths for paths in found.values() if len(paths) > 1]


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
    "twins": twins(),
    "suites": sorted(str(path) for name in ("numpy", "scipy", "pandas", "sklearn", "sympy", "networkx")
                     for path in HOME.glob(f"*/lib/python3*/site-packages/{name}/**/tests")),
}))
