"""The KMS key that encrypts new snapshots in a region, and whether a key can be used.

The key is the one that the definition names, or else the account's default.

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
"""The key that AWS manages for EBS in each account. Its policy cannot be changed, so no other
account can use it."""
USABLE = ("Enabled", "Updating")
"""Key states in which a key encrypts and decrypts."""
_WAYS_BACK = {"Disabled": ("enable-key",), "PendingDeletion": ("cancel-key-deletion", "enable-key")}
"""KMS commands that make a key usable again, by the key's state."""


class SnapshotEncryption(Record):
    """Encryption of new snapshots in a region.

    `key` is an ARN, or None if new snapshots are not encrypted. `named` is True if the definition
    names the key, False if it is the account's default. `by_aws` is True for a key that AWS
    manages: no other account can use what it encrypts.
    """

    key: str | None = None
    named: bool = False
    by_aws: bool = False

    @property
    def asked(self) -> str | None:
        """The key that a request has to name, or None if the account's default decides."""
        return self.key if self.named else None

    def unfit(self, snapshot: str, key: str | None) -> str:
        """Why a snapshot encrypted by `key` cannot be the parent of a new one, or "" if it can."""
        # A child has its parent's key, and EBS refuses an unencrypted parent if the account
        # encrypts by default.
        if key == self.key:
            return ""
        if self.key is None:
            return f"{snapshot} is encrypted by {key}, which nothing asks for any more"
        if key is None:
            return f"{snapshot} is not encrypted, and new snapshots are, by {self.key}"
        return f"{snapshot} is encrypted by {key}, new snapshots by {self.key}"


@dataclass(frozen=True)
class Key:
    """A KMS key. `problem` is why it cannot encrypt or decrypt, or "" if it can; `remedy` is what
    to do about it."""

    arn: str = ""
    by_aws: bool = False
    problem: str = ""
    remedy: str = (
        "create the key and its alias in that region, or correct `publish: kms_key:`; what a "
        "deleted key encrypted is lost: deregister that AMI, then publish it again"
    )


def find_key(kms: Client, name: str) -> Key:
    """Look a key up by its id, ARN or alias. Asking for an alias of AWS's own creates its key."""
    region = kms.meta.region_name
    try:
        metadata = kms.describe_key(KeyId=name)["KeyMetadata"]
    except aws.ClientError as error:
        if code(error) != "NotFoundException":
            raise
        return Key(problem=f"no KMS key {name} in {region}")
    arn, state = metadata["Arn"], metadata["KeyState"]
    calls = [
        f"`aws kms {call} --region {region} --key-id {arn}`" for call in _WAYS_BACK.get(state, ())
    ]
    problem = "" if state in USABLE else f"the KMS key {name} is {state}"
    return Key(
        arn,
        metadata["KeyManager"] == "AWS",
        problem,
        ", then ".join(calls) or "wait for it, or look at it in the console",
    )


def _usable(account: Account, region: str, name: str, subject: str) -> Key:
    """Return the key that encrypts `subject`, as errors call it. Raises BadInput if the key cannot
    be used."""
    key = find_key(account.kms(region), name)
    if key.problem:
        raise BadInput(f"{key.problem}, by which {subject} is encrypted", hint=key.remedy)
    return key


def of_region(account: Account, region: str, alias: str | None) -> SnapshotEncryption:
    """Return the encryption of new snapshots in the region. `alias` is the key that the definition
    names, or None. Raises BadInput if the key cannot be used."""
    ec2 = account.ec2(region)
    with translated(region):
        if alias is None and not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]:
            return SnapshotEncryption()
        name = alias or ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
        key = _usable(account, region, name, "a new snapshot")
    return SnapshotEncryption(key=key.arn, named=alias is not None, by_aws=key.by_aws)


def of_snapshot(account: Account, region: str, snapshot: str) -> SnapshotEncryption:
    """Return the encryption of a snapshot. Raises BadInput if its key cannot be used, since no
    launch, copy or child could then read its blocks."""
    with translated(region):
        name = snapshot_key(account.ec2(region), snapshot)
        if name is None:
            return SnapshotEncryption()
        key = _usable(account, region, name, snapshot)
    return SnapshotEncryption(key=name, by_aws=key.by_aws)


def check_shareable(region: str, accounts: tuple[str, ...], encryption: SnapshotEncryption) -> None:
    """Raise BadInput if the accounts that an AMI is to be shared with could not decrypt it."""
    # Nobody can change the policy of AWS's own key, so no other account ever gets access to it.
    if accounts and encryption.by_aws:
        raise BadInput(
            f"{region} encrypts snapshots by {AWS_ALIAS}, which {', '.join(accounts)} cannot use",
            hint="name a key of yours as `publish: kms_key:`, make it the account's "
            "default for EBS, or "
            "take `share_with` out",
        )


def snapshot_key(ec2: Client, snapshot: str) -> str | None:
    """The ARN of the key that encrypts a snapshot, or None if it is not encrypted."""
    described = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return str(described["KmsKeyId"]) if described.get("Encrypted") else None
