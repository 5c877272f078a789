"""A small lock for tests, of which each changes what it is about."""

from __future__ import annotations

from typing import Any

from goldenami.model.locked.locked_hardware import HardwareLock
from goldenami.model.locked.lockfile import BaseLock, Kernel, Lock, Package

IMAGE = "debian-13-ml-cpu"
HARDWARE = HardwareLock(
    families=["m7i"],
    cpus=["sapphirerapids"],
    gcc="14.2",
    march="sapphirerapids",
    options=["-march=sapphirerapids"],
    features=["avx2"],
    sm=[],
)


def sample(**changes: Any) -> Lock:
    found = Lock(
        image=IMAGE,
        description="ä",
        source_date_epoch=1,
        disk_size_gib=4,
        base=BaseLock(
            distribution="debian", release="trixie", major=13, architecture="amd64", suites=[]
        ),
        kernel=Kernel(
            release="6.1.0-50-cloud-amd64",
            package="linux-image-6.1.0-50-cloud-amd64",
            version="6.1.140-1",
        ),
        driver=None,
        cuda=None,
        hardware=HARDWARE,
        choices=[],
        base_packages=["bash"],
        roles=["os_updates"],
        steps=[],
        variables={"b": [1, None], "a": {"x": 1.5}},
        inputs={},
        packages={
            "bash": Package(
                version="1:5.2-2",
                architecture="amd64",
                sha256="0" * 64,
                size=7,
                installed_size=16384,
                origin="debian",
                path="pool/main/b/bash.deb",
                source="bash",
            )
        },
    )
    return found.model_copy(update=changes)
