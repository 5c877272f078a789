"""Root volumes of instances: what is written to them, and their replacement by a task."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models import ec2_backends
from moto.ec2.responses._base_response import EC2BaseResponse
from moto.moto_api._internal import mock_random

from ec2_emulator import listing
from ec2_emulator.compute import images, resource_tags
from ec2_emulator.compute.images import EmulatedImage
from ec2_emulator.rules import ApiError
from ec2_emulator.state import MY_ACCOUNT, STATE
from ec2_emulator.storage import snapshots
from ec2_emulator.storage.block_store import BLOCK

STATES = ("pending", "in-progress", "succeeded")


def _root_of(instance: Any) -> Any:
    """https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateReplaceRootVolumeTask.html"""
    device = instance.block_device_mapping.get(instance.root_device_name)
    if device is None:
        raise ApiError("IncorrectInstanceState", f"The instance '{instance.id}' has no root volume")
    return instance.ec2_backend.get_volume(device.volume_id)


def written(volume: Any) -> dict[int, bytes]:
    """Digests, by index, of the blocks of a volume that were written since it was made from its
    snapshot."""
    blocks: dict[int, bytes] = vars(volume).setdefault("written", {})
    return blocks


def write(instance: str, region: str, offset: int, data: str) -> None:
    """Write Base64 `data` at `offset` of an instance's root volume, as its kernel would. For tests:
    AWS has no such call. A snapshot that is made afterwards has it, one that was made before has
    not.
    """
    backend, rest = ec2_backends[MY_ACCOUNT][region], memoryview(base64.b64decode(data))
    volume = _root_of(backend.get_instance(instance))
    source = snapshots.find(backend, volume.snapshot_id) if volume.snapshot_id else None
    while rest:
        index, at = divmod(offset, BLOCK)
        digest = written(volume).get(index) or (source.digest(index) if source is not None
                                                else None)
        block = bytearray(STATE.blocks.get(digest) if digest else bytes(BLOCK))
        part = rest[:BLOCK - at]
        block[at:at + len(part)] = part
        written(volume)[index] = hashlib.sha256(block).digest()
        STATE.blocks.put(written(volume)[index], bytes(block))
        rest, offset = rest[len(part):], offset + len(part)


@dataclass
class ReplacementTask:
    """One replacement of a root volume: pending, then in progress, then done whenever somebody
    looks."""

    instance: Any
    image: EmulatedImage
    delete: bool
    tags: dict[str, str]
    id: str = field(default_factory=lambda: f"replacevol-{mock_random.get_random_hex(17)}")
    state: str = STATES[0]
    started: Any = field(default_factory=STATE.now)
    ended: Any = None
    moved_at: float = field(default_factory=time.monotonic)

    def advance(self) -> None:
        while self.state in STATES[:2] and STATE.is_over(self.moved_at, lambda at: at.pending_s):
            self.state, self.moved_at = STATES[STATES.index(self.state) + 1], time.monotonic()
            if self.state == STATES[2]:
                replace(self.instance, self.image, delete=self.delete)
                self.ended = STATE.now()

    def shown(self) -> dict[str, Any]:
        return {"ReplaceRootVolumeTaskId": self.id, "InstanceId": self.instance.id,
                "TaskState": self.state,
                "StartTime": self.started.isoformat(),
                "CompleteTime": self.ended.isoformat() if self.ended else None,
                "ImageId": self.image.id,
                "DeleteReplacedRootVolume": self.delete,
                "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()]}


def replace(instance: Any, image: EmulatedImage, *, delete: bool) -> None:
    """The old root volume is detached, a new one of the same type takes its place, and all else of
    the instance stays, but that it has the new AMI's id from then on."""
    backend, old, device = instance.ec2_backend, _root_of(instance), instance.root_device_name
    source = image.snapshots()[0]
    on_termination = instance.block_device_mapping[device].delete_on_termination
    backend.detach_volume(old.id, instance.id, device)
    new = backend.create_volume(size=max(old.size, backend.get_snapshot(source).volume_size),
                                zone_name=old.zone.name,
                                snapshot_id=source, volume_type=old.volume_type)
    backend.attach_volume(new.id, instance.id, device, on_termination)
    instance.image_id = image.id
    if delete:
        backend.delete_volume(old.id)


def _tasks(backend: Any) -> dict[str, ReplacementTask]:
    tasks: dict[str, ReplacementTask] = vars(backend).setdefault("replacement_tasks", {})
    for task in tasks.values():
        task.advance()
    return tasks


class RootVolumeApi(EC2BaseResponse):
    """The handlers."""

    def create_replace_root_volume_task(self) -> ActionResult:
        """Begin a replacement by an AMI; by a snapshot nobody here asks."""
        backend, kind = self.ec2_backend, "replace-root-volume-task"
        tags = resource_tags.tags_for(kind, self._get_param("TagSpecifications", []), [kind])
        task = ReplacementTask(
            backend.get_instance(self._get_param("InstanceId")),
            images.launchable(backend, self._get_param("ImageId")),
            bool(self._get_param("DeleteReplacedRootVolume")), tags)
        _tasks(backend)[task.id] = task
        return ActionResult({"ReplaceRootVolumeTask": task.shown()})

    def describe_replace_root_volume_tasks(self) -> ActionResult:
        wanted = listing.filters_of(self._get_param("Filters"))["instance-id"]
        tasks = [task for task in _tasks(self.ec2_backend).values() if task.instance.id in wanted]
        return listing.answer(self, "ReplaceRootVolumeTasks", tasks, ReplacementTask.shown, most=50)
