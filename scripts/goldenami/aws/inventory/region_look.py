"""A region as `status` and `drift` see it: which instances run which build, and what the pointers,
templates and groups name. A list is read when it is first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeVar

from botocore import exceptions as aws

from goldenami.aws.channels import pointers
from goldenami.aws.channels.lease import read_lease
from goldenami.aws.channels.ledger import Channel, Ledger
from goldenami.aws.images import AmiState
from goldenami.aws.inventory import inventory
from goldenami.aws.inventory.topology import (
    AccountAmi,
    AccountInstance,
    AccountSnapshot,
    Launcher,
    TemplateVersion,
)
from goldenami.aws.session import Account, code, translated
from goldenami.aws.snapshots import encryption
from goldenami.core.terminal import command_name

T = TypeVar("T")


@dataclass(frozen=True)
class RegionLook:
    """The state of `images` in a region."""

    account: Account
    region: str
    images: Sequence[str]

    @cached_property
    def amis(self) -> dict[str, AccountAmi]:
        return {ami.id: ami for ami in inventory.amis(self.account.ec2(self.region), tagged=True)}

    @cached_property
    def snapshots(self) -> dict[str, AccountSnapshot]:
        return {
            snapshot.id: snapshot for snapshot in inventory.snapshots(self.account.ec2(self.region))
        }

    @cached_property
    def faults(self) -> list[tuple[AccountAmi, str]]:
        """AMIs that everybody may read, nobody can launch, or that are launched on other types than
        their publish allowed, each with what is wrong and how to mend it."""
        return [(ami, fault) for ami in self.amis.values() for fault in self._faults(ami)]

    @cached_property
    def _public_snapshots(self) -> set[str]:
        return inventory.public_snapshots(self.account.ec2(self.region))

    @cached_property
    def _key_problems(self) -> dict[str, str]:
        """Why a KMS key cannot be used, or "" if it can, by the key of each snapshot."""
        names = {snapshot.key for snapshot in self.snapshots.values() if snapshot.key}
        return {name: self._key_problem(name) for name in names}

    def _key_problem(self, name: str) -> str:
        try:
            key = encryption.find_key(self.account.kms(self.region), name)
        except aws.ClientError as error:
            if code(error) != "AccessDeniedException":  # KMS's answer for another account's key
                raise
            return f"nobody here may look at its KMS key {name} (kms:DescribeKey)"
        if not key.problem:
            return ""
        return f"{key.problem}: {key.remedy}"

    def _faults(self, ami: AccountAmi) -> Iterator[str]:
        call = f"`aws ec2 modify-{{}}-attribute --region {self.region} {{}}` takes that back"
        if ami.public:
            yield f"{ami.id} is public: " + call.format(
                "image", f"--image-id {ami.id} --launch-permission 'Remove=[{{Group=all}}]'"
            )
        for name in self._public_snapshots.intersection(ami.snapshots):
            yield f"{name} of {ami.id} is public: " + call.format(
                "snapshot",
                f"--snapshot-id {name} --attribute createVolumePermission "
                "--operation-type remove --group-names all",
            )
        if ami.state is not AmiState.AVAILABLE:
            return
        if ami.other_types:
            yield command_name.as_typed(
                f"somebody changed the instance types that EC2 launches {ami.id} on: "
                f"`golden publish {ami.image} --build {ami.build_id}` sets them again"
            )
        for name in ami.snapshots:
            snapshot = self.snapshots.get(name)
            if snapshot and (problem := self._key_problems.get(snapshot.key)):
                yield f"{ami.id} cannot be launched: {problem}"

    @cached_property
    def instances(self) -> list[AccountInstance]:
        return list(inventory.instances(self.account.ec2(self.region)))

    @cached_property
    def made_from(self) -> dict[str, str]:
        """The snapshot of each volume that was made from one of our AMIs."""
        snapshots = {snapshot for ami in self.amis.values() for snapshot in ami.snapshots}
        return inventory.volumes(self.account.ec2(self.region), snapshots)

    @cached_property
    def groups(self) -> list[Launcher]:
        return list(inventory.groups(self.account.autoscaling(self.region)))

    @cached_property
    def defaults(self) -> dict[str, TemplateVersion | None]:
        """The default version of each image's launch template, or None if it has no template."""
        by_name = {
            version.template: version
            for version in inventory.default_versions(self.account.ec2(self.region))
        }
        return {image: by_name.get(pointers.template_name(image)) for image in self.images}

    @cached_property
    def pointers(self) -> dict[str, dict[Channel, str]]:
        """The AMI that each channel's parameter names, by image."""
        ssm = self.account.ssm(self.region)
        return {image: pointers.read_channels(ssm, image) for image in self.images}

    def parameters(self, names: Sequence[str]) -> dict[str, str]:
        return pointers.read(self.account.ssm(self.region), names)

    @cached_property
    def ledgers(self) -> dict[str, Ledger]:
        dynamodb = self.account.dynamodb(self.region)
        return {image: read_lease(dynamodb, image).ledger for image in self.images}


def looks(
    account: Account,
    images: Mapping[str, Sequence[str]],
    tell: Callable[[RegionLook], T],
) -> dict[str, Callable[[], T]]:
    """For each region a function that looks at its `images` and returns what `tell` makes of it."""

    def look(region: str) -> T:
        with translated(region):
            return tell(RegionLook(account, region, images[region]))

    return {region: partial(look, region) for region in images}
