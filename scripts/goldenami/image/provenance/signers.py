"""The keys that sign provenance: a file outside the checkout, or a key of KMS, which nobody can
copy."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import serialization

from goldenami.aws.session import Account
from goldenami.core.errors import BadInput

if TYPE_CHECKING:  # securesystemslib imports boto3: only where a key is used
    from securesystemslib.signer import Key, Signer, SSlibKey

KEY = "GOLDEN_SIGNING_KEY"
"""Environment variable: the file of an ECDSA P-256 key (PEM, not encrypted, outside the checkout),
or the ARN of a key of KMS or of an alias."""
_KMS = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:(key|alias)/.+")
_MAKES = (
    "`openssl ecparam -name prime256v1 -genkey -noout` makes one; in KMS its spec is ECC_NIST_P256"
)
_PUBLIC = "`openssl ec -pubout` takes it from the private one, `aws kms get-public-key` from KMS"


def of_environment(root: Path, account: Account) -> Signer | None:
    """The key that the environment names, or None. Raises BadInput if it cannot sign, or lies
    inside the checkout `root`."""
    if not (name := os.environ.get(KEY)):
        return None
    from securesystemslib.signer import CryptoSigner  # noqa: PLC0415 - as in dsse.py

    if match := _KMS.fullmatch(name):
        from goldenami.aws.services import kms_signer  # noqa: PLC0415 - botocore, for keys of KMS only

        kms = account.kms(match["region"])
        public = serialization.load_der_public_key(kms_signer.public_der(kms, name))
        return kms_signer.KmsSigner(kms, name, _on_p256(public, f"{KEY}: {name}", _MAKES))
    path = Path(name).resolve()
    if path.is_relative_to(root.resolve()):
        raise BadInput(
            f"{KEY}: {path} is inside the checkout",
            hint="keep private keys where git does not look",
        )
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(
            f"{KEY}: {path} is no private key that can be read: {error}", hint=_MAKES
        ) from None
    return CryptoSigner(private, _on_p256(private.public_key(), f"{KEY}: {path}", _MAKES))


def read_public(path: Path) -> Key:
    """The public key in a PEM file. Raises BadInput if there is none."""
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is no public key that can be read: {error}", hint=_PUBLIC) from None
    return _on_p256(key, str(path), _PUBLIC)


def _on_p256(public: Any, name: str, hint: str) -> SSlibKey:
    """`public` with a `keyid` by which people call it: 16 digits of the SHA-256 of its DER. Raises
    BadInput if it is no ECDSA key on P-256."""
    from securesystemslib.signer import ECDSA_SHA2_NISTP256, SSlibKey  # noqa: PLC0415 - as in dsse.py

    der = public.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        key = SSlibKey.from_crypto(public, hashlib.sha256(der).hexdigest()[:16])
    except ValueError:  # of a kind that securesystemslib does not know
        key = None
    if key is None or key.scheme != ECDSA_SHA2_NISTP256:
        raise BadInput(f"{name} is no ECDSA key on P-256", hint=hint)
    return key
