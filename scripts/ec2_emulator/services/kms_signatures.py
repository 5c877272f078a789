"""Signatures by a key of KMS: moto hashes what it is given, whatever it is said to be."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.responses import KmsResponse

_HASHES: dict[str, hashes.HashAlgorithm] = {
    "ECDSA_SHA_256": hashes.SHA256(), "ECDSA_SHA_384": hashes.SHA384(),
    "ECDSA_SHA_512": hashes.SHA512()}


class SigningApi(KmsResponse):
    """The handlers."""

    def sign(self) -> str:
        """As moto does, which knows keys and algorithms; but a digest is signed as it is."""
        answer = json.loads(super().sign())
        if self._get_param("MessageType") == "DIGEST":
            key: Any = self.kms_backend.describe_key(self._get_param("KeyId")).private_key
            kind = _HASHES[answer["SigningAlgorithm"]]
            signature = key.private_key.sign(self._get_param("Message"), ECDSA(Prehashed(kind)))
            answer["Signature"] = base64.b64encode(signature).decode()
        return json.dumps(answer)
