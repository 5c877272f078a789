"""Signing kernel modules with a user's key, so that Secure Boot takes them; the same key gives the same bytes.

The key stays where the user has it: it is read while the lock compiles, and what an image holds is the signature.
RSA PKCS#1 v1.5 without attributes has neither a time nor a random number in it, as the kernel's own scripts/sign-file
makes it; a key of another kind is refused.
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
from goldenami.model.builds.lockfile import Signature

KEY, CERTIFICATE = "GOLDEN_MODULE_KEY", "GOLDEN_MODULE_CERTIFICATE"
"""Environment variables: files of the private key (PEM, not encrypted) and of its certificate (PEM or DER)."""
PKCS7 = 2
"""PKEY_ID_PKCS7 of the kernel's include/linux/module_signature.h."""
MAGIC = b"~Module signature appended~\n"
_HINT = f"set {KEY} and {CERTIFICATE} to the files of an RSA key (PEM, not encrypted) and of its certificate"


@dataclass(frozen=True)
class Signer:
    """A private key with its certificate."""

    key: RSAPrivateKey
    certificate: x509.Certificate

    @property
    def signature(self) -> Signature:
        """How a lock names it."""
        # modinfo shows who issued the certificate: a signature names issuer and serial number, not the subject.
        names = self.certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Signature(signer=str(names[0].value),
                         certificate_sha256=hashlib.sha256(self.certificate.public_bytes(
                             serialization.Encoding.DER)).hexdigest())

    def sign(self, module: bytes) -> bytes:
        """`module` with its signature appended, as the kernel's module_sig_check reads it."""
        options = [pkcs7.PKCS7Options.Binary, pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.NoAttributes,
                   pkcs7.PKCS7Options.NoCerts]
        signed = pkcs7.PKCS7SignatureBuilder().set_data(module).add_signer(
            self.certificate, self.key, hashes.SHA256()).sign(serialization.Encoding.DER, options)
        return module + signed + struct.pack(">BBBBB3xI", 0, 0, PKCS7, 0, 0, len(signed)) + MAGIC


def configured() -> Signer | None:
    """The key that the environment names, or None; BadInput where it cannot sign, or is inside a checkout."""
    paths = [Path(os.environ[name]) for name in (KEY, CERTIFICATE) if os.environ.get(name)]
    if not paths:
        return None
    if len(paths) == 1:
        raise BadInput(f"only one of {KEY} and {CERTIFICATE} is set", hint=_HINT)
    for path in paths:
        if any((folder / "packer/images").is_dir() for folder in path.resolve().parents):
            raise BadInput(f"{path} is inside a checkout", hint="keep keys out of the repository")
    return load(*paths)


def load(key_file: Path, certificate_file: Path) -> Signer:
    """Read both files; BadInput naming the one that is not usable."""
    try:
        key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{key_file} is no usable private key: {error}", hint=_HINT) from None
    if not isinstance(key, RSAPrivateKey):
        raise BadInput(f"{key_file} is no RSA key: with another one each signature differs, and so each image",
                       hint=_HINT)
    try:
        content = certificate_file.read_bytes()
        pem = content.startswith(b"-----BEGIN")
        certificate = (x509.load_pem_x509_certificate if pem else x509.load_der_x509_certificate)(content)
    except (OSError, ValueError) as error:
        raise BadInput(f"{certificate_file} is no certificate: {error}", hint=_HINT) from None
    if certificate.public_key() != key.public_key():
        raise BadInput(f"{certificate_file} is not the certificate of {key_file}", hint=_HINT)
    if not certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME):
        raise BadInput(f"{certificate_file} has no common name of its issuer, which modinfo would show", hint=_HINT)
    return Signer(key, certificate)
