"""The record of a container image: `container.json` beside `bake.json`. Sizes are bytes, digests
are hex SHA-256 as OCI's descriptors have them behind `sha256:`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from goldenami.core.records import Record, Sha256
from goldenami.model.builds.build_records import BuildId, Bytes, Seconds, Utc

CONTAINER_FILE = "container.json"
LAYOUT = "container"
"""The folder of the image, by OCI's image layout."""

LOCK_LABEL, DRIVER_LABEL = "goldenami.lock-sha256", "goldenami.driver"
"""What an image says of itself, by which its tags are judged: `driver` is the AMI's."""


class ContainerLayer(Record):
    """One layer: what its files are, its blob, and the bytes of that and of the files in it."""

    name: str
    digest: Sha256
    bytes: Bytes
    unpacked: Bytes


class ContainerRecord(Record):
    """What `container` made: the manifest's digest and the layers, the lowest first. `bytes` is
    what a pull takes. `least_driver` is the oldest NVIDIA driver that runs its CUDA, "" without
    CUDA."""

    schema_version: Literal[1] = 1
    image: str
    build_id: BuildId
    lock_sha256: Sha256
    digest: Sha256
    bytes: Bytes
    layers: Annotated[list[ContainerLayer], Field(min_length=1)]
    least_driver: str
    started_at: Utc
    seconds: Seconds
