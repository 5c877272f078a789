"""A certificate for a server on loopback, made by the test that needs it."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

_ELLIPTIC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """The certificate of an authority, and the context of a server of 127.0.0.1 that it signed."""
    authority, authority_key = folder / "authority.pem", folder / "authority-key.pem"
    _make(authority, authority_key, "/CN=authority", "basicConstraints=critical,CA:TRUE")
    made, key = folder / "certificate.pem", folder / "key.pem"
    signer = ["-CA", str(authority), "-CAkey", str(authority_key)]
    _make(made, key, "/CN=server", "subjectAltName=IP:127.0.0.1", *signer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return authority, context


def _make(certificate: Path, key: Path, subject: str, extension: str, *signer: str) -> None:
    argv = ["openssl", "req", "-x509", "-days", "2", *_ELLIPTIC, "-subj", subject]
    argv += ["-addext", extension, "-keyout", str(key), "-out", str(certificate), *signer]
    subprocess.run(argv, check=True, capture_output=True)
