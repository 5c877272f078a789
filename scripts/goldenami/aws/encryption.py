"""What a new snapshot of a region is encrypted by: the key that the definition names, or the
account's default.

Sources: EBS user guide, "Encryption outcomes for EBS direct APIs" and "Enable encryption by
default".
"""

from __future__ import annotations

from botocore import exceptions as aws

from goldenami.aws.session import Account, Client, code, translated
from goldenami.core.errors import BadInput
from goldenami.core.records import Record

AWS_ALIAS = "alias/aws/ebs"
"""The key that AWS keeps for EBS in each account. Its policy cannot be changed, so nobody else can
use it."""


class SnapshotEncryption(Record):
    """`key` is an ARN; none: new snapshots are not encrypted. `named`: the definition names it,
    else it is the account's default. `by_aws`: AWS manages it, and no other account can use what it
    encrypts."""

    key: str | None = None
    named: bool = False
    by_aws: bool = False

    @property
    def asked(self) -> str | None:
        """The key that a request has to name; none where the account's default decides."""
        return self.key if self.named else None

    def unfit(self, snapshot: str, key: str | None) -> str:
        """Why a snapshot under `key` cannot be the parent of a new one; nothing where it can.

        A child has its parent's key; with encryption by default an unencrypted parent is refused.
        """
        if key == self.key:
            return ""
        if self.key is None:
            return f"{snapshot} is encrypted by {key}, which nothing asks for any more"
        if key is None:
            return f"{snapshot} is not encrypted, and new snapshots are, by {self.key}"
        return f"{snapshot} is encrypted by {key}, new snapshots by {self.key}"


def of_region(account: Account, region: str, alias: str | None) -> SnapshotEncryption:
    """What a new snapshot of the region is encrypted by, where the definition names `alias` or
    none."""
    ec2, kms = account.ec2(region), account.kms(region)
    with translated(region):
        if alias:
            return SnapshotEncryption(key=key_arn(kms, alias), named=True)
        if not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]:
            return SnapshotEncryption()
        default = key_arn(kms, ec2.get_ebs_default_kms_key_id()["KmsKeyId"])
        return SnapshotEncryption(key=default, by_aws=is_aws_key(kms, default))


def check_shareable(region: str, accounts: tuple[str, ...], encryption: SnapshotEncryption) -> None:
    """BadInput where the accounts that an AMI shall be shared with could not use it."""
    if accounts and encryption.by_aws:
        raise BadInput(f"{region} encrypts snapshots by {AWS_ALIAS}, which {', '.join(accounts)} "
                       "cannot use",
                       hint="name a key of yours as `publish: kms_key:`, make it the account's "
                            "default for EBS, or "
                            "take `share_with` out")


def is_aws_key(kms: Client, key: str | None) -> bool:
    """Whether `key` (an ARN) is the one that AWS keeps for EBS."""
    return key is not None and key == key_arn(kms, AWS_ALIAS)


def snapshot_key(ec2: Client, snapshot: str) -> str | None:
    """The ARN of the key that a snapshot is encrypted by; None where it is not encrypted."""
    described = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return str(described["KmsKeyId"]) if described.get("Encrypted") else None


def key_arn(kms: Client, alias: str) -> str:
    """The ARN of the key behind an alias, which StartSnapshot wants; BadInput without one."""
    try:
        return str(kms.describe_key(KeyId=alias)["KeyMetadata"]["Arn"])
    except aws.ClientError as error:
        if code(error) != "NotFoundException":
            raise
        raise BadInput(f"no KMS key {alias} in {kms.meta.region_name}",
                       hint="create the key and its alias in that region, or correct `publish: "
                            "kms_key:`") from None
