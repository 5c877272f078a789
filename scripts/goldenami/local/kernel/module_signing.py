"""Sign kernel modules with a user's key, so that Secure Boot accepts them; the same key gives the
same bytes.

The key is read while the lock compiles, and an image holds only the signature. RSA PKCS#1 v1.5
without attributes has neither a time nor a random number in it; the kernel's own scripts/sign-file
makes it so. A key of another kind is refused.
"""

from __future__ import annotations

import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import pkcs7
from cryptography.x509.oid import NameOID

from goldenami.core.errors import BadInput
from goldenami.model.locked.lockfile import Signature

KEY = "GOLDEN_MODULE_KEY"
"""Environment variable: a PEM file with the private key, not encrypted, and its certificate.

The kernel's build keeps both in one file, too (certs/signing_key.pem).
"""
PKCS7 = 2
"""PKEY_ID_PKCS7 of the kernel's include/linux/module_signature.h."""
MAGIC = b"~Module signature appended~\n"
_HINT = f"set {KEY} to a PEM file with an RSA key, not encrypted, and its certificate"


@dataclass(frozen=True)
class Signer:
    """A private key with its certificate."""

    key: RSAPrivateKey
    certificate: x509.Certificate

    @property
    def signature(self) -> Signature:
        # modinfo shows who issued the certificate: a signature names issuer and serial number, not
        # the subject.
        names = self.certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Signature(
            signer=str(names[0].value),
            certificate_sha256=hashlib.sha256(
                self.certificate.public_bytes(serialization.Encoding.DER)
            ).hexdigest(),
        )

    def sign(self, module: bytes) -> bytes:
        """Return `module` with its signature appended, as the kernel's module_sig_check reads
        it."""
        options = [
            pkcs7.PKCS7Options.Binary,
            pkcs7.PKCS7Options.DetachedSignature,
            pkcs7.PKCS7Options.NoAttributes,
            pkcs7.PKCS7Options.NoCerts,
        ]
        signed = (
            pkcs7.PKCS7SignatureBuilder()
            .set_data(module)
            .add_signer(self.certificate, self.key, hashes.SHA256())
            .sign(serialization.Encoding.DER, options)
        )
        return module + signed + struct.pack(">BBBBB3xI", 0, 0, PKCS7, 0, 0, len(signed)) + MAGIC


def configured() -> Signer | None:
    """Return the key that the environment names, or None if it names none. Raises BadInput if the
    key cannot sign, or is inside a checkout."""
    name = os.environ.get(KEY)
    if not name:
        return None
    path = Path(name)
    if any((folder / "packer/images").is_dir() for folder in path.resolve().parents):
        raise BadInput(f"{path} is inside a checkout", hint="keep keys out of the repository")
    return load(path)


def load(path: Path) -> Signer:
    """Read a key and its certificate. Raises BadInput if one of them is not usable."""
    try:
        content = path.read_bytes()
        key = serialization.load_pem_private_key(content, None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{path} has no usable private key: {error}", hint=_HINT) from None
    if not isinstance(key, RSAPrivateKey):
        raise BadInput(
            f"{path} has no RSA key: with another one each signature differs, and so each image",
            hint=_HINT,
        )
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise BadInput(f"{path} has no certificate: {error}", hint=_HINT) from None
    if certificate.public_key() != key.public_key():
        raise BadInput(f"the certificate in {path} is not that of its key", hint=_HINT)
    if not certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise BadInput(
            f"the certificate in {path} has no common name of its issuer, which modinfo would show",
            hint=_HINT,
        )
    return Signer(key, certificate)
