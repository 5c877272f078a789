"""Keys and certificates for signing modules, made by the test that needs them."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def certificate(
    key: Key, attribute: x509.ObjectIdentifier = NameOID.COMMON_NAME
) -> x509.Certificate:
    """A certificate of `key` by itself, for "Test signer"; equal keys have equal ones."""
    name = x509.Name([x509.NameAttribute(attribute, "Test signer")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return x509.CertificateBuilder(
        issuer_name=name,
        subject_name=name,
        public_key=key.public_key(),
        serial_number=7,
        not_valid_before=day,
        not_valid_after=day + datetime.timedelta(days=1),
    ).sign(key, hashes.SHA256())


def write(folder: Path, key: Key, made: x509.Certificate | None, *, password: bytes = b"") -> Path:
    """Write the key, with its certificate behind it, as key.pem, the certificate as cert.pem, too.

    Returns the first.
    """
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    if made:
        (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
        text += (folder / "cert.pem").read_bytes()
    (folder / "key.pem").write_bytes(text)
    return folder / "key.pem"
