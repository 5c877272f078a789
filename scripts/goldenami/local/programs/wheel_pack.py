"""Write a wheel anew so that equal content gives equal bytes: `python wheel_pack.py unpack|pack
WHEEL FOLDER`.

It runs in the scratch tree on the image's own Python, whose zlib the lock pins, and so imports
nothing of this package. Between the two calls the caller changes the files in FOLDER. Files are
packed in order, with ZIP's oldest date.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import zipfile
from pathlib import Path

OLDEST = (1980, 1, 1, 0, 0, 0)
_SCRATCH = re.compile(r"^prefix=(/tmp/\S+)$", re.MULTILINE)
"""pkg-config's prefix if a build installs into a temporary folder, which has another random name
each time."""


def unpack(wheel: Path, folder: Path) -> None:
    """Extract `wheel` into the new `folder`; executable files stay executable."""
    with zipfile.ZipFile(wheel) as source:
        for entry in source.infolist():
            path = Path(source.extract(entry, folder))
            if path.is_file():
                path.chmod(0o755 if entry.external_attr >> 16 & 0o100 else 0o644)


def _record(files: list[Path], folder: Path, record: Path) -> str:
    """Return the text of RECORD: each file with its digest and size; `record` itself has
    neither."""
    lines = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        content = path.read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},," if path == record else f"{name},sha256={digest},{len(content)}")
    return "\n".join(lines) + "\n"


def _relocate(folder: Path) -> None:
    """Let each pkg-config file find its prefix, the wheel's root, from its own place."""
    for path in folder.rglob("*.pc"):
        text = path.read_text(encoding="utf-8")
        if prefix_match := _SCRATCH.search(text):
            up = "/".join([".."] * (len(path.relative_to(folder).parts) - 1))
            path.write_text(text.replace(prefix_match[1], f"${{pcfiledir}}/{up}"), encoding="utf-8")


def pack(wheel: Path, folder: Path) -> None:
    """Write `wheel` from `folder`, with a RECORD of its files."""
    _relocate(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    record = next(
        path for path in files if path.name == "RECORD" and path.parent.suffix == ".dist-info"
    )
    record.write_text(_record(files, folder, record), encoding="utf-8")
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as sink:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), OLDEST)
            # 3 is Unix, so that the mode below counts (ZIP's APPNOTE, "version made by").
            entry.compress_type, entry.create_system = zipfile.ZIP_DEFLATED, 3
            entry.external_attr = (0o100755 if path.stat().st_mode & 0o100 else 0o100644) << 16
            sink.writestr(entry, path.read_bytes())


if __name__ == "__main__":
    {"unpack": unpack, "pack": pack}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
