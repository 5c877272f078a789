"""A key of KMS as securesystemslib asks for it."""

from __future__ import annotations

import hashlib
from typing import Any

from securesystemslib.signer import Signature, Signer, SSlibKey

from goldenami.aws import kms_keys
from goldenami.aws.kms_keys import KmsKey


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
