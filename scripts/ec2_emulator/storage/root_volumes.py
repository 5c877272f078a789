"""Root volumes of instances, and writes to them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from moto.ec2.models import ec2_backends

from ec2_emulator.rules import ApiError
from ec2_emulator.state import MY_ACCOUNT, STATE
from ec2_emulator.storage import snapshots
from ec2_emulator.storage.block_store import BLOCK


def _root_of(instance: Any) -> Any:
    """Return an instance's root volume, or refuse an instance without one
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateReplaceRootVolumeTask.html)."""
    device = instance.block_device_mapping.get(instance.root_device_name)
    if device is None:
        raise ApiError("IncorrectInstanceState", f"The instance '{instance.id}' has no root volume")
    return instance.ec2_backend.get_volume(device.volume_id)


def written(volume: Any) -> dict[int, bytes]:
    """Return the digests, by index, of the blocks that were written to a volume since it was made
    from its snapshot."""
    blocks: dict[int, bytes] = vars(volume).setdefault("written", {})
    return blocks


def write(instance: str, region: str, offset: int, data: str) -> None:
    """Write `data` (Base64) at `offset` (bytes) of an instance's root volume, as its kernel would.
    For tests: AWS has no such call. Only a snapshot that is made afterwards has the data."""
    backend, remaining = ec2_backends[MY_ACCOUNT][region], memoryview(base64.b64decode(data))
    volume = _root_of(backend.get_instance(instance))
    source = snapshots.find(backend, volume.snapshot_id) if volume.snapshot_id else None
    while remaining:
        index, start = divmod(offset, BLOCK)
        # A block that was not written yet has the snapshot's content, or zeros.
        digest = written(volume).get(index) or (
            source.digest(index) if source is not None else None
        )
        block = bytearray(STATE.blocks.get(digest) if digest else bytes(BLOCK))
        part = remaining[: BLOCK - start]
        block[start : start + len(part)] = part
        written(volume)[index] = hashlib.sha256(block).digest()
        STATE.blocks.put(written(volume)[index], bytes(block))
        remaining, offset = remaining[len(part) :], offset + len(part)
