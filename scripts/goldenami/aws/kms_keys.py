"""Signing by a key that KMS keeps.

Source: https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html.
"""

from __future__ import annotations

from dataclasses import dataclass

from botocore import exceptions as aws

from goldenami.aws.session import Client, code, translated
from goldenami.core.errors import BadInput

USAGE, ALGORITHM = "SIGN_VERIFY", "ECDSA_SHA_256"


@dataclass(frozen=True)
class KmsKey:
    """A key by its ARN or that of an alias, with the client of its region."""

    kms: Client
    arn: str


def public_der(key: KmsKey) -> bytes:
    """The public key, DER of SubjectPublicKeyInfo; BadInput where there is no such key, or it does
    not sign."""
    region = key.kms.meta.region_name
    with translated(region):
        try:
            found = key.kms.get_public_key(KeyId=key.arn)
        except aws.ClientError as error:
            if code(error) not in ("NotFoundException", "UnsupportedOperationException"):
                raise
            raise BadInput(f"KMS has no key {key.arn} that signs in {region}",
                           hint="its usage has to be SIGN_VERIFY, its spec ECC_NIST_P256") from None
    if found.get("KeyUsage") != USAGE or ALGORITHM not in found.get("SigningAlgorithms", ()):
        raise BadInput(f"{key.arn} does not sign by {ALGORITHM}",
                       hint="its usage has to be SIGN_VERIFY, its spec ECC_NIST_P256")
    return bytes(found["PublicKey"])


def sign(key: KmsKey, digest: bytes) -> bytes:
    """The signature over what has that SHA-256, DER; KMS takes a message of 4,096 bytes at most, a
    digest of any."""
    with translated(key.kms.meta.region_name):
        return bytes(key.kms.sign(KeyId=key.arn, Message=digest, MessageType="DIGEST",
                                  SigningAlgorithm=ALGORITHM)["Signature"])
