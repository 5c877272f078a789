"""The record of a container image: `container.json` beside `bake.json`. Sizes are in bytes. Digests
are hex SHA-256, as OCI's descriptors have them after `sha256:`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from goldenami.core.records import Record, Sha256
from goldenami.model.builds.build_records import BuildId, Bytes, Seconds, Utc

CONTAINER_FILE = "container.json"
LAYOUT = "container"
"""The folder of the image, in OCI's image layout."""

LOCK_LABEL, DRIVER_LABEL = "goldenami.lock-sha256", "goldenami.driver"
"""Labels of the image, from which a push decides about its tags. The driver is that of the AMI."""


class ContainerLayer(Record):
    """One layer. `name` says what its files are; `bytes` is the size of its blob, `unpacked` that
    of its files."""

    name: str
    digest: Sha256
    bytes: Bytes
    unpacked: Bytes


class ContainerRecord(Record):
    """The image that `container` made. `digest` is that of the manifest; the lowest layer is first.
    `bytes` is the size of a pull. `least_driver` is the oldest NVIDIA driver that runs its CUDA, or
    "" without CUDA."""

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
