"""What a new snapshot of a region is encrypted by: the key that the definition names, or the
account's default; and whether a key can be used.

Sources: EBS user guide, "Encryption outcomes for EBS direct APIs" and "Enable encryption by
default"; KMS developer guide, "Key states of AWS KMS keys".
"""

from __future__ import annotations

from dataclasses import dataclass

from botocore import exceptions as aws

from goldenami.aws.session import Account, Client, code, translated
from goldenami.core.errors import BadInput
from goldenami.core.records import Record

AWS_ALIAS = "alias/aws/ebs"
"""The key that AWS keeps for EBS in each account. Its policy cannot be changed, so nobody else can
use it."""
USABLE = ("Enabled", "Updating")
"""States of a key in which it encrypts and decrypts."""
_WAYS_BACK = {"Disabled": ("enable-key",), "PendingDeletion": ("cancel-key-deletion", "enable-key")}
"""Calls that make a key of a state usable."""


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


@dataclass(frozen=True)
class Key:
    """A key of KMS. `problem` says why no disk can be read or written by it, "" where one can;
    `remedy` what to do."""

    arn: str = ""
    by_aws: bool = False
    problem: str = ""
    remedy: str = (
        "create the key and its alias in that region, or correct `publish: kms_key:`; what a "
        "deleted key encrypted is lost: deregister that AMI, then publish it again"
    )


def find_key(kms: Client, name: str) -> Key:
    """A key by its id, ARN or alias. The question makes one of AWS's own where there is none."""
    region = kms.meta.region_name
    try:
        found = kms.describe_key(KeyId=name)["KeyMetadata"]
    except aws.ClientError as error:
        if code(error) != "NotFoundException":
            raise
        return Key(problem=f"no KMS key {name} in {region}")
    arn, state = found["Arn"], found["KeyState"]
    calls = [
        f"`aws kms {call} --region {region} --key-id {arn}`" for call in _WAYS_BACK.get(state, ())
    ]
    problem = "" if state in USABLE else f"the KMS key {name} is {state}"
    return Key(
        arn,
        found["KeyManager"] == "AWS",
        problem,
        ", then ".join(calls) or "wait for it, or look at it in the console",
    )


def _usable(account: Account, region: str, name: str, what: str) -> Key:
    """The key that encrypts `what`; BadInput for one that nothing can be done with."""
    key = find_key(account.kms(region), name)
    if key.problem:
        raise BadInput(f"{key.problem}, by which {what} is encrypted", hint=key.remedy)
    return key


def of_region(account: Account, region: str, alias: str | None) -> SnapshotEncryption:
    """The encryption of a new snapshot of the region, where the definition names `alias` or none.
    BadInput where its key cannot be used."""
    ec2 = account.ec2(region)
    with translated(region):
        if alias is None and not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]:
            return SnapshotEncryption()
        name = alias or ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
        key = _usable(account, region, name, "a new snapshot")
    return SnapshotEncryption(key=key.arn, named=alias is not None, by_aws=key.by_aws)


def of_snapshot(account: Account, region: str, snapshot: str) -> SnapshotEncryption:
    """The encryption of a snapshot; BadInput where its key cannot be used: no launch, copy or child
    would get its blocks."""
    with translated(region):
        name = snapshot_key(account.ec2(region), snapshot)
        if name is None:
            return SnapshotEncryption()
        key = _usable(account, region, name, snapshot)
    return SnapshotEncryption(key=name, by_aws=key.by_aws)


def check_shareable(region: str, accounts: tuple[str, ...], encryption: SnapshotEncryption) -> None:
    """BadInput where the accounts that an AMI shall be shared with could not use it."""
    if accounts and encryption.by_aws:
        raise BadInput(
            f"{region} encrypts snapshots by {AWS_ALIAS}, which {', '.join(accounts)} cannot use",
            hint="name a key of yours as `publish: kms_key:`, make it the account's "
            "default for EBS, or "
            "take `share_with` out",
        )


def snapshot_key(ec2: Client, snapshot: str) -> str | None:
    """The ARN of the key that a snapshot is encrypted by; None where it is not encrypted."""
    described = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return str(described["KmsKeyId"]) if described.get("Encrypted") else None
