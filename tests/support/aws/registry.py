"""Builds that have a small container image."""

from __future__ import annotations

import hashlib
import random
import tarfile
from io import BytesIO
from pathlib import Path

from goldenami.core import records
from goldenami.local.tree.oci_layout import OciLayout
from goldenami.model.builds.build_folder import BuildFolder
from goldenami.model.builds.container_records import (
    DRIVER_LABEL,
    LOCK_LABEL,
    ContainerLayer,
    ContainerRecord,
)
from goldenami.packages.registries import LEAST_DRIVER_LABEL

CREATED = "2026-01-01T00:00:00Z"


def containerize(folder: Path, *, least: str = "", layers: int = 2, size: int = 1000) -> str:
    """Give the build in `folder` a container image of `layers` layers of `size` random bytes, the
    first of them the same in all builds; returns its digest."""
    build = BuildFolder(folder)
    lock_sha256, tar = records.sha256_file(build.lock), folder / "layer.tar"
    layout, found = OciLayout(build.layout, build.build_id), []
    layout.begin()
    for number in range(layers):
        seed = f"{number}{build.build_id if number else ''}"
        with tarfile.open(tar, "w") as sink:
            info = tarfile.TarInfo(f"file-{number}")
            info.size = size
            sink.addfile(info, BytesIO(random.Random(seed).randbytes(size)))
        digest, count = layout.add(tar, f"layer-{number}", CREATED)
        found.append(
            ContainerLayer(name=f"layer-{number}", digest=digest, bytes=count, unpacked=size)
        )
    tar.unlink()
    labels = {LOCK_LABEL: lock_sha256, DRIVER_LABEL: "550.163.01"}
    labels |= {LEAST_DRIVER_LABEL: least} if least else {}
    layout.configure(
        architecture="amd64", environment={}, entrypoint=[], labels=labels, created=CREATED
    )
    records.write(
        build.container,
        ContainerRecord(
            image=build.image.image,
            build_id=build.build_id,
            lock_sha256=lock_sha256,
            digest=layout.digest,
            bytes=sum(layer.bytes for layer in found),
            layers=found,
            least_driver=least,
            started_at=CREATED,
            seconds=1.0,
        ),
    )
    assert (
        hashlib.sha256((build.layout / f"blobs/sha256/{layout.digest}").read_bytes()).hexdigest()
        == layout.digest
    )
    return f"sha256:{layout.digest}"
