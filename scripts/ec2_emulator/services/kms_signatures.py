"""Signatures by a key of KMS: moto hashes what it is given, whatever it is said to be."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.exceptions import ValidationException
from moto.kms.responses import KmsResponse

from ec2_emulator.rules import rule

KMS_API = "https://docs.aws.amazon.com/kms/latest/APIReference/"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "ECDSA_SHA_256": hashes.SHA256(), "ECDSA_SHA_384": hashes.SHA384(),
    "ECDSA_SHA_512": hashes.SHA512()}


@rule(KMS_API + "API_Sign.html")
def signed_as_it_is(key: EllipticCurvePrivateKey, digest: bytes, algorithm: str) -> bytes:
    """With MessageType DIGEST the message is not hashed again, and has to be of the algorithm's
    length."""
    kind = _HASHES[algorithm]
    if len(digest) != kind.digest_size:
        raise ValidationException(f"Digest is invalid length for algorithm {algorithm}.")
    return key.sign(digest, ECDSA(Prehashed(kind)))


class SigningApi(KmsResponse):
    """The handlers."""

    def sign(self) -> str:
        """As moto does, which knows keys and algorithms; but a digest is signed as it is."""
        answer = json.loads(super().sign())
        if self._get_param("MessageType") == "DIGEST":
            key: Any = self.kms_backend.describe_key(self._get_param("KeyId")).private_key
            signature = signed_as_it_is(key.private_key, self._get_param("Message"),
                                        answer["SigningAlgorithm"])
            answer["Signature"] = base64.b64encode(signature).decode()
        return json.dumps(answer)
