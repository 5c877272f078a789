"""Keys for signed provenance, made as a person makes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.builds.tools import find


def make(path: Path, curve: str = "prime256v1") -> Path:
    """A private key at `path`, and its public one beside it; returns the public one."""
    public = path.with_suffix(".pub")
    for argv in (["ecparam", "-name", curve, "-genkey", "-noout", "-out", str(path)],
                 ["ec", "-in", str(path), "-pubout", "-out", str(public)]):
        subprocess.run([find("openssl"), *argv], check=True, capture_output=True)
    return public
