"""Signing by a key that KMS keeps, as securesystemslib asks for it.

Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html.
"""

from __future__ import annotations

import hashlib
from typing import Any

from botocore import exceptions as aws
from securesystemslib.signer import Signature, Signer, SSlibKey

from goldenami.aws.session import Client, code, translated
from goldenami.core.errors import BadInput

USAGE, ALGORITHM = "SIGN_VERIFY", "ECDSA_SHA_256"


class KmsSigner(Signer):
    """A key of KMS, by its ARN or that of an alias: it is sent a digest, not what is signed.

    securesystemslib's own AWSSigner makes a client of the environment's region, not of the key's,
    and logs an error beside raising it.
    """

    def __init__(self, kms: Client, arn: str, public: SSlibKey) -> None:
        self._kms, self._arn, self._public = kms, arn, public

    @property
    def public_key(self) -> SSlibKey:
        return self._public

    def sign(self, payload: bytes) -> Signature:
        digest = hashlib.sha256(payload).digest()
        with translated(self._kms.meta.region_name):
            signed = self._kms.sign(
                KeyId=self._arn, Message=digest, MessageType="DIGEST", SigningAlgorithm=ALGORITHM
            )["Signature"]
        return Signature(self._public.keyid, bytes(signed).hex())

    @classmethod
    def from_priv_key_uri(cls, *_: Any) -> KmsSigner:
        """Signer demands it; `of_environment` is the way to a key."""
        raise NotImplementedError


def public_der(kms: Client, arn: str) -> bytes:
    """The public key, DER of SubjectPublicKeyInfo; BadInput where there is no such key, or it does
    not sign."""
    region = kms.meta.region_name
    with translated(region):
        try:
            found = kms.get_public_key(KeyId=arn)
        except aws.ClientError as error:
            if code(error) not in ("NotFoundException", "UnsupportedOperationException"):
                raise
            raise BadInput(
                f"KMS has no key {arn} that signs in {region}",
                hint="its usage has to be SIGN_VERIFY, its spec ECC_NIST_P256",
            ) from None
    if found.get("KeyUsage") != USAGE or ALGORITHM not in found.get("SigningAlgorithms", ()):
        raise BadInput(
            f"{arn} does not sign by {ALGORITHM}",
            hint="its usage has to be SIGN_VERIFY, its spec ECC_NIST_P256",
        )
    return bytes(found["PublicKey"])
