"""What new snapshots are encrypted by: the key that is asked for, or the account's default."""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.kms.models import kms_backends

from ec2_emulator.rules import EBS_GUIDE, EC2_API, rule

AWS_ALIAS = "alias/aws/ebs"


def aws_key(backend: Any) -> str:
    """The ARN of the key that AWS keeps for EBS."""
    kms = kms_backends[backend.account_id][backend.region_name]
    if not kms.alias_exists(AWS_ALIAS):
        kms.create_alias(
            kms.create_key(None, "ENCRYPT_DECRYPT", "SYMMETRIC_DEFAULT", AWS_ALIAS, None).id,
            AWS_ALIAS,
        )
    key = kms.describe_key(AWS_ALIAS)
    key.key_manager = "AWS"
    return str(key.arn)


@rule(EBS_GUIDE + "encryption-by-default.html")
def key_of_new(backend: Any, encrypted: bool | None, key: str | None) -> str | None:
    """With encryption by default every new snapshot is encrypted, under the account's default key
    if none is named."""
    if key is None and (encrypted or backend.ebs_encryption_by_default):
        return backend.default_kms_key_id or aws_key(backend)
    return key


class EncryptionApi(EC2BaseResponse):
    """The handlers."""

    @rule(EC2_API + "API_GetEbsDefaultKmsKeyId.html")
    def get_ebs_default_kms_key_id(self) -> ActionResult:
        """The default key is alias/aws/ebs until another one is chosen."""
        return ActionResult({"KmsKeyId": self.ec2_backend.default_kms_key_id or AWS_ALIAS})
