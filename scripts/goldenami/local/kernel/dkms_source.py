"""Sources of kernel modules as DKMS needs them, from a package of a distribution or vendor, or from
a tarball."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import BadInput

_CONF = "dkms.conf"
_DEB = b"!<arch>\n"
_NAME, _VERSION = re.compile(r"[\w.+-]+"), re.compile(r"\d[A-Za-z0-9.+~-]*")
"""Forms of a name, which a folder has too, and of a version, which a Debian package has too."""


def unpack(source: Path, tree: Path) -> tuple[str, str]:
    """Put `source` below /usr/src of `tree`, and return the name and version in its dkms.conf.

    Raises BadInput, without the name of the file, if it is no such source.
    """
    sources = tree / "usr/src"
    with source.open("rb") as file:
        is_deb = file.read(len(_DEB)) == _DEB
    if is_deb:
        shell.output(["dpkg-deb", "--extract", str(source), str(tree)])
        return _read(_conf(sources, "*"))
    try:
        sources.mkdir(parents=True, exist_ok=True)
        with tarfile.open(source) as archive:
            archive.extractall(sources / ".tarball", filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise BadInput(f"is no package and no tarball: {error}") from None
    conf = _conf(sources / ".tarball", "**")
    name, version = _read(conf)
    conf.parent.rename(sources / f"{name}-{version}")
    return name, version


def _conf(folder: Path, below: str) -> Path:
    """Return the dkms.conf nearest to `folder`."""
    files = sorted(folder.glob(f"{below}/{_CONF}"), key=lambda path: (len(path.parts), path))
    if not files:
        raise BadInput(
            f"has no {_CONF}",
            hint="only DKMS sources are compiled: write a dkms.conf "
            "into it, or take the vendor's DKMS package",
        )
    return files[0]


def _read(conf: Path) -> tuple[str, str]:
    text, values = conf.read_text(encoding="utf-8", errors="replace"), list[str]()
    for key, pattern in (("PACKAGE_NAME", _NAME), ("PACKAGE_VERSION", _VERSION)):
        match = re.search(rf"""^\s*{key}=["']?([^"'\n]*?)["']?\s*(?:#.*)?$""", text, re.MULTILINE)
        if match is None or not pattern.fullmatch(match[1]):
            raise BadInput(
                f"{_CONF}: {key} is {f'`{match[1]}`' if match else 'missing'}",
                hint="DKMS wants a name and a version that begins with a digit",
            )
        values.append(match[1])
    return values[0], values[1]
