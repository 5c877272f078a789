"""A securesystemslib signer whose key is kept by KMS.

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
    """Signs by a KMS key, given by its ARN or an alias's ARN. KMS gets only a payload's digest."""

    # Not securesystemslib's own AWSSigner: that makes a client of the environment's region instead
    # of the key's, and logs an error that it also raises.

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
        """Not supported. Signer demands the method; use `of_environment` to get a key."""
        raise NotImplementedError


def public_der(kms: Client, arn: str) -> bytes:
    """Return the public key as a DER SubjectPublicKeyInfo. Raises BadInput if there is no such key
    or it cannot sign."""
    region = kms.meta.region_name
    with translated(region):
        try:
            answer = kms.get_public_key(KeyId=arn)
        except aws.ClientError as error:
            if code(error) not in ("NotFoundException", "UnsupportedOperationException"):
                raise
            raise BadInput(
                f"KMS has no key {arn} that signs in {region}",
                hint="its usage has to be SIGN_VERIFY, its spec ECC_NIST_P256",
            ) from None
    if answer.get("KeyUsage") != USAGE or ALGORITHM not in answer.get("SigningAlgorithms", ()):
        raise BadInput(
            f"{arn} does not sign by {ALGORITHM}",
            hint="its usage has to be SIGN_VERIFY, its spec ECC_NIST_P256",
        )
    return bytes(answer["PublicKey"])
