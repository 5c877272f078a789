"""The references to the AMIs and snapshots of a region, computed from a topology without a call.

A version of the pipeline's own launch template is no reference unless it is the default, is the
latest, or a launcher selects it: there is one for each build ever published, and retirement deletes
it together with its AMI.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from goldenami.aws.channels.pointers import build_name
from goldenami.aws.inventory.topology import (
    AMI_ID,
    LauncherKind,
    SnapshotState,
    TemplateVersion,
    Topology,
    is_evidence,
    is_record,
)

RESOLVE = "resolve:ssm:"
"""Prefix by which a launch template names an SSM parameter instead of an AMI."""


class ReferenceKind(StrEnum):
    """Kinds of references to an AMI, besides launchers."""

    POINTER = "ledger:"
    PARAMETER = "SSM parameter"
    TEMPLATE = "launch template"
    CONFIGURATION = "launch configuration"
    INSTANCE = "instance"
    VOLUME = "volume"
    UPLOAD = "unfinished upload"
    SHARE = "createVolumePermission of"
    AMI = "AMI"


@dataclass(frozen=True, order=True)
class Reference:
    """One use of an AMI or a snapshot. `holder` is what uses it."""

    kind: ReferenceKind | LauncherKind
    holder: str

    def __str__(self) -> str:
        return f"{self.kind.value} {self.holder}"


References = Mapping[str, tuple[Reference, ...]]
"""The uses of each AMI or snapshot, by its id. One that nothing uses is not in it."""


def parameter_of(image_ref: str) -> str:
    """The SSM parameter in an image reference (`resolve:ssm:/a/b:3` -> `/a/b:3`), or "" if it names
    none."""
    return image_ref.removeprefix(RESOLVE) if image_ref.startswith(RESOLVE) else ""


def resolve(image_ref: str, parameters: Mapping[str, str]) -> str:
    """The AMI that an image reference stands for, or "" if its parameter does not exist."""
    name = parameter_of(image_ref)
    return parameters.get(name, "") if name else image_ref


def idle(topology: Topology) -> tuple[TemplateVersion, ...]:
    """The versions of the pipeline's own templates that nothing selects."""
    uses = [use for launcher in topology.launchers for use in launcher.templates]
    return tuple(
        version
        for version in topology.templates
        if version.ours
        and not version.default
        and not version.latest
        and not any(use.selects(version) for use in uses)
    )


def of_amis(topology: Topology) -> References:
    """Every use of every AMI in the region, sorted."""
    uses: dict[str, set[Reference]] = defaultdict(set)
    for source in (_pointers, _templates, _launchers, _running, _through_snapshots):
        for ami_id, reference in source(topology):
            uses[ami_id].add(reference)
    return {ami_id: tuple(sorted(references)) for ami_id, references in uses.items() if ami_id}


def _pointers(topology: Topology) -> Iterator[tuple[str, Reference]]:
    """Uses by the ledger, and by any parameter that mentions an AMI."""
    for pointer, ami_id in topology.pointers.items():
        yield ami_id, Reference(ReferenceKind.POINTER, pointer)
    records = {
        (build_name(ami.image, ami.build_id), ami.id)
        for ami in topology.amis
        if ami.image and ami.build_id
    }
    present = {ami.id for ami in topology.amis}
    for name, value in topology.parameters.items():
        for ami_id in AMI_ID.findall(value):
            # Records do not count: every published AMI has one, and the record of a GPU test does
            # not use what was tested.
            if (
                (name, ami_id) not in records
                and not (is_record(name) and value not in present)
                and not is_evidence(name)
            ):
                yield ami_id, Reference(ReferenceKind.PARAMETER, name)


def _templates(topology: Topology) -> Iterator[tuple[str, Reference]]:
    for version in _selected(topology):
        yield resolve(version.image_ref, topology.parameters), _of_version(version)
    for name, ami_id in topology.configurations.items():
        yield ami_id, Reference(ReferenceKind.CONFIGURATION, name)


def _selected(topology: Topology) -> Iterator[TemplateVersion]:
    unselected = set(idle(topology))
    return (version for version in topology.templates if version not in unselected)


def _of_version(version: TemplateVersion) -> Reference:
    return Reference(ReferenceKind.TEMPLATE, f"{version.template} version {version.number}")


def _launchers(topology: Topology) -> Iterator[tuple[str, Reference]]:
    for launcher in topology.launchers:
        reference = Reference(launcher.kind, launcher.name)
        for image_ref in launcher.image_refs:
            yield resolve(image_ref, topology.parameters), reference
        for version in topology.templates:
            if any(use.selects(version) for use in launcher.templates):
                yield resolve(version.image_ref, topology.parameters), reference


def _running(topology: Topology) -> Iterator[tuple[str, Reference]]:
    for instance in topology.instances:
        yield (
            instance.image_id,
            Reference(ReferenceKind.INSTANCE, f"{instance.id} ({instance.state})"),
        )


def _through_snapshots(topology: Topology) -> Iterator[tuple[str, Reference]]:
    uses = of_snapshots(topology)
    for ami in topology.amis:
        for snapshot_id in ami.snapshots:
            for reference in uses.get(snapshot_id, ()):
                if reference.kind is not ReferenceKind.AMI:
                    yield ami.id, reference


def of_snapshots(topology: Topology) -> References:
    """The uses of each snapshot: AMIs, volumes made from it, templates and launchers that make a
    further volume from it, accounts that may do so, and unfinished uploads whose parent it is."""
    uses: dict[str, set[Reference]] = defaultdict(set)
    for ami in topology.amis:
        for snapshot_id in ami.snapshots:
            uses[snapshot_id].add(Reference(ReferenceKind.AMI, ami.id))
    for volume, snapshot_id in topology.volumes.items():
        uses[snapshot_id].add(Reference(ReferenceKind.VOLUME, volume))
    for reference, snapshot_ids in _data_volumes(topology):
        for snapshot_id in snapshot_ids:
            uses[snapshot_id].add(reference)
    for snapshot_id, accounts in topology.shared_snapshots.items():
        uses[snapshot_id] |= {Reference(ReferenceKind.SHARE, account) for account in accounts}
    # A finished snapshot does not need its parent any more: deleting the parent removes only data
    # that no other snapshot needs ("Delete an Amazon EBS snapshot").
    for snapshot in topology.snapshots:
        if snapshot.parent and snapshot.state is SnapshotState.PENDING:
            uses[snapshot.parent].add(Reference(ReferenceKind.UPLOAD, snapshot.id))
    return {
        snapshot_id: tuple(sorted(references))
        for snapshot_id, references in uses.items()
        if snapshot_id
    }


def _data_volumes(topology: Topology) -> Iterator[tuple[Reference, tuple[str, ...]]]:
    for version in _selected(topology):
        yield _of_version(version), version.snapshots
    for launcher in topology.launchers:
        yield Reference(launcher.kind, launcher.name), launcher.snapshots
    for name, snapshot_ids in topology.configured.items():
        yield Reference(ReferenceKind.CONFIGURATION, name), snapshot_ids
