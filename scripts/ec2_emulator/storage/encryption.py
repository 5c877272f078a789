"""KMS keys: the key of a new snapshot, who manages a key, and signatures of digests."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.core.responses import ActionResult
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.kms.models import kms_backends
from moto.kms.responses import KmsResponse

from ec2_emulator.rules import rule

AWS_ALIAS = "alias/aws/ebs"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "ECDSA_SHA_256": hashes.SHA256(),
    "ECDSA_SHA_384": hashes.SHA384(),
    "ECDSA_SHA_512": hashes.SHA512(),
}


def aws_key(backend: Any) -> str:
    """Return the ARN of the key that AWS manages for EBS; it is created at the first use."""
    kms = kms_backends[backend.account_id][backend.region_name]
    if not kms.alias_exists(AWS_ALIAS):
        kms.create_alias(
            kms.create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", AWS_ALIAS, None).id,
            AWS_ALIAS,
        )
    return str(kms.describe_key(AWS_ALIAS).arn)


@rule
def key_of_new(backend: Any, encrypted: bool | None, key: str | None) -> str | None:
    """With encryption by default every new snapshot is encrypted, under the account's default key
    if none is named."""
    if key is None and (encrypted or backend.ebs_encryption_by_default):
        return backend.default_kms_key_id or aws_key(backend)
    return key


@rule
def key_works(backend: Any, key: str | None) -> bool:
    """A key that is disabled, is to be deleted or does not exist encrypts nothing."""
    if key is None:
        return True
    kms = kms_backends[backend.account_id][backend.region_name]
    is_known = kms.get_key_id(key) in kms.keys or kms.alias_exists(kms.get_alias_name(key))
    return is_known and kms.describe_key(key).key_state == "Enabled"


class EncryptionApi(EC2BaseResponse):
    """The handlers."""

    @rule
    def get_ebs_default_kms_key_id(self) -> ActionResult:
        """The default key is alias/aws/ebs until another one is chosen."""
        return ActionResult({"KmsKeyId": self.ec2_backend.default_kms_key_id or AWS_ALIAS})


class SigningApi(KmsResponse):
    """The handlers."""

    def describe_key(self) -> str:
        """Return moto's answer, with AWS as the manager of AWS's own keys, which moto makes when
        they are described
        (https://docs.aws.amazon.com/kms/latest/APIReference/API_DescribeKey.html)."""
        answer = json.loads(super().describe_key())
        metadata = answer["KeyMetadata"]
        aliases = self.kms_backend.describe_key(metadata["KeyId"]).aliases
        if any(alias.startswith("alias/aws/") for alias in aliases):
            metadata["KeyManager"] = "AWS"
        return json.dumps(answer)

    def sign(self) -> str:
        """Return moto's answer with a signature of the digest itself: moto hashes a digest once
        more."""
        answer = json.loads(super().sign())
        if self._get_param("MessageType") == "DIGEST":
            key: Any = self.kms_backend.describe_key(self._get_param("KeyId")).private_key
            algorithm = _HASHES[answer["SigningAlgorithm"]]
            # Prehashed: the message is a digest already.
            signature = key.private_key.sign(
                self._get_param("Message"), ECDSA(Prehashed(algorithm))
            )
            answer["Signature"] = base64.b64encode(signature).decode()
        return json.dumps(answer)
