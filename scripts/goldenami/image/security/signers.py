"""The keys of signed provenance: a file outside the checkout, or a key of KMS, which nobody can take away."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from securesystemslib.signer import (
    ECDSA_SHA2_NISTP256,
    CryptoSigner,
    Key,
    Signature,
    Signer,
    SSlibKey,
)

from goldenami.aws import kms_keys
from goldenami.aws.kms_keys import KmsKey
from goldenami.aws.session import Account
from goldenami.core.errors import BadInput

KEY = "GOLDEN_SIGNING_KEY"
"""Environment variable: the file of an ECDSA P-256 key, PEM, not encrypted, outside the checkout; or
the ARN of a key of KMS, or of an alias."""
_KMS = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:(key|alias)/.+")
_MAKES = ("`openssl ecparam -name prime256v1 -genkey -noout` makes one; in KMS its spec is "
          "ECC_NIST_P256")
_PUBLIC = ("`openssl ec -pubout` takes it from the private one, `aws kms get-public-key` from KMS")


class KmsSigner(Signer):
    """A key that KMS keeps: it is sent a digest, and never what is signed.

    securesystemslib's own AWSSigner makes a client of the environment's region, not of the key's,
    and logs an error beside raising it.
    """

    def __init__(self, kms: KmsKey, public: SSlibKey) -> None:
        self._kms, self._public = kms, public

    @property
    def public_key(self) -> SSlibKey:
        """The public key."""
        return self._public

    def sign(self, payload: bytes) -> Signature:
        """The signature over `payload`."""
        signed = kms_keys.sign(self._kms, hashlib.sha256(payload).digest())
        return Signature(self._public.keyid, signed.hex())

    @classmethod
    def from_priv_key_uri(cls, *_: Any) -> KmsSigner:
        """Signer demands it; `of_environment` is the way to a key."""
        raise NotImplementedError


def of_environment(root: Path, account: Account) -> Signer | None:
    """The key that the environment names, or None; BadInput where it cannot sign, or is inside the checkout `root`."""
    if not (name := os.environ.get(KEY)):
        return None
    if match := _KMS.fullmatch(name):
        kms = KmsKey(account.kms(match["region"]), name)
        public = serialization.load_der_public_key(kms_keys.public_der(kms))
        return KmsSigner(kms, _on_p256(public, f"{KEY}: {name}", _MAKES))
    path = Path(name).resolve()
    if path.is_relative_to(root.resolve()):
        raise BadInput(f"{KEY}: {path} is inside the checkout",
                       hint="keep private keys where git does not look")
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{KEY}: {path} is no private key that can be read: {error}",
                       hint=_MAKES) from None
    return CryptoSigner(private, _on_p256(private.public_key(), f"{KEY}: {path}", _MAKES))


def read_public(path: Path) -> Key:
    """The public key in a PEM file; BadInput where there is none."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no public key that can be read: {error}", hint=_PUBLIC) from None
    return _on_p256(key, str(path), _PUBLIC)


def _on_p256(public: Any, name: str, hint: str) -> SSlibKey:
    """The key, whose `keyid` is what people call it by: 16 digits of the SHA-256 of its DER."""
    der = public.public_bytes(serialization.Encoding.DER,
                              serialization.PublicFormat.SubjectPublicKeyInfo)
    try:
        key = SSlibKey.from_crypto(public, hashlib.sha256(der).hexdigest()[:16])
    except ValueError:  # of a kind that securesystemslib does not know
        key = None
    if key is None or key.scheme != ECDSA_SHA2_NISTP256:
        raise BadInput(f"{name} is no ECDSA key on P-256", hint=hint)
    return key
