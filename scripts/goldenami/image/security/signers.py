"""The keys of signed provenance: a file outside the checkout, or one of KMS, which nobody can take away."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)

from goldenami.aws import kms_keys
from goldenami.aws.kms_keys import KmsKey
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput

KEY = "GOLDEN_SIGNING_KEY"
"""Environment variable: the file of an ECDSA P-256 key, PEM, not encrypted, outside the checkout; or the ARN of a key
of KMS, or of an alias."""
_KMS = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:(key|alias)/.+")
KEY_ID_LENGTH = 16
_MAKES = "`openssl ecparam -name prime256v1 -genkey -noout` makes one"


class SigningKey(Protocol):
    """What signs. `public` verifies."""

    @property
    def public(self) -> EllipticCurvePublicKey:
        """The public key."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`, ECDSA with SHA-256, DER."""
        ...


@dataclass(frozen=True)
class FileKey:
    """A key of which this machine has the file."""

    private: EllipticCurvePrivateKey

    @property
    def public(self) -> EllipticCurvePublicKey:
        """The public key."""
        return self.private.public_key()

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        return self.private.sign(data, ECDSA(hashes.SHA256()))


@dataclass(frozen=True)
class RemoteKey:
    """A key that KMS keeps: it is sent a digest, and never what is signed."""

    kms: KmsKey
    public: EllipticCurvePublicKey

    def sign(self, data: bytes) -> bytes:
        """The signature over `data`."""
        return kms_keys.sign(self.kms, hashlib.sha256(data).digest())


def of_environment(root: Path, account: Account) -> SigningKey | None:
    """The key that the environment names, or None; BadInput where it cannot sign, or is inside the checkout `root`."""
    if not (name := os.environ.get(KEY)):
        return None
    if match := _KMS.fullmatch(name):
        key = KmsKey(account.kms(match["region"]), name)
        return RemoteKey(key, _on_p256(serialization.load_der_public_key(kms_keys.public_der(key)), name))
    path = Path(name).resolve()
    if path.is_relative_to(root.resolve()):
        raise BadInput(f"{KEY}: {path} is inside the checkout", hint="keep private keys where git does not look")
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{KEY}: {path} is no private key that can be read: {error}", hint=_MAKES) from None
    _on_p256(private.public_key(), path)
    assert isinstance(private, EllipticCurvePrivateKey)
    return FileKey(private)


def _on_p256(key: object, name: object) -> EllipticCurvePublicKey:
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
        raise BadInput(f"{KEY}: {name} is no ECDSA key on P-256", hint=f"{_MAKES}; in KMS its spec is ECC_NIST_P256")
    return key


def key_id(public: EllipticCurvePublicKey) -> str:
    """What people call a key by: the first 16 hex digits of the SHA-256 of the public key's DER."""
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()[:KEY_ID_LENGTH]


def read_public(path: Path) -> EllipticCurvePublicKey:
    """The public key in a PEM file; BadInput where there is none."""
    hint = "`openssl ec -pubout` takes it from the private one, `aws kms get-public-key` from KMS"
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no public key that can be read: {error}", hint=hint) from None
    if not isinstance(key, EllipticCurvePublicKey):
        raise BadInput(f"{path} is no ECDSA key", hint=hint)
    return key
