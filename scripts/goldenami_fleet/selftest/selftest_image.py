"""The image of a run of `golden selftest`, in a repository of its own: two builds that differ in
one limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from goldenami.core import records
from goldenami.local.machine import container
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder

from goldenami_fleet.selftest.run import IMAGE

_SMALL: Mapping[str, Any] = {
    "immutable": True,
    "disk_size_gib": 2,
    "hardware": ["t3", "c6id"],
    "roles": dict.fromkeys(
        ("os_updates", "instance_store", "kernel", "limits", "network_tuning", "fast_boot")
    ),
}
_FOR_GPU: Mapping[str, Any] = {
    "disk_size_gib": 8,
    "hardware": ["t3", "c6id", "g4dn"],
    "roles": {
        **dict.fromkeys(("os_updates", "instance_store", "kernel", "limits", "network_tuning")),
        "nvidia_driver": {
            "nvidia_driver_source": "debian",
            "nvidia_driver_branch": "newest",
            "nvidia_driver_flavour": "any",
        },
    },
}
_LAST_ROLES = ("provenance", "seal")
_OPEN_FILES = (524288, 262144)
"""The limit of open files by which the two builds differ."""


def definition(
    regions: Sequence[str], tags: Mapping[str, str], number: int, *, gpu: bool
) -> dict[str, Any]:
    """The definition of the build `number` (0 or 1), for the regions, with tags on all that is
    made of it."""
    kind = _FOR_GPU if gpu else _SMALL
    roles = {**kind["roles"], "limits": {"limits_nofile": _OPEN_FILES[number]}}
    return {
        "image": IMAGE,
        "description": "Small image that shows that goldenami works in this account",
        "base": {"distribution": "debian", "release": "trixie"},
        "kernel": "cloud",
        **kind,
        "roles": {**roles, **dict.fromkeys(_LAST_ROLES)},
        "publish": {"regions": list(regions), "tags": dict(tags)},
    }


def write(root: Path, content: Mapping[str, Any]) -> None:
    """Write the definition into the repository `root`, which is made if it is not there."""
    path = root / "packer/images" / f"{IMAGE}.yml"
    records.write_text(path, yaml.safe_dump(dict(content), sort_keys=False))


def verified(root: Path) -> list[BuildFolder]:
    """The verified builds that are there, the oldest first."""
    builds = [build for build in ImageFolder.of(root, IMAGE).builds if build.is_verified]
    return sorted(builds, key=lambda build: build.read_bake().started_at)


def bake(
    root: Path, contents: Sequence[Mapping[str, Any]], golden: Callable[[list[str]], int]
) -> list[str]:
    """Return the ids of two verified builds of these definitions. Those of an earlier run are taken
    if they are for the same machines; what is missing is baked."""
    same = [
        build for build in verified(root) if _is_for(build, contents[0]) and build.disk.exists()
    ]
    missing = contents[len(same) :]
    if missing:
        container.check_host()  # before its packages are asked for
    for content in missing:
        write(root, content)
        for command in ("lock", "bake"):
            print(f"\n$ golden {command} {IMAGE}", flush=True)
            golden([command, IMAGE])
    same = [build for build in verified(root) if _is_for(build, contents[0])]
    return [build.build_id for build in same[-2:]]


def _is_for(build: BuildFolder, content: Mapping[str, Any]) -> bool:
    lock = records.read_object(build.lock)
    return set(lock["hardware"]["families"]) == set(content["hardware"])
