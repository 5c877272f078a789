#!/usr/bin/python3
"""Give a container the GPUs that Docker's `--gpus` asks for, as `--device nvidia.com/gpu=...` does.

    golden-gpus BUNDLE

Docker names the GPUs in a hook and in NVIDIA_VISIBLE_DEVICES; with `--runtime nvidia` in the latter
alone. golden-runc calls this program before runc reads BUNDLE/config.json: the program removes the
hook, and adds devices and mounts of golden-cdi's specification. Nothing of the image is run. If a
GPU is missing, the exit status is 1 and one line says what to do.

Sources: daemon/nvidia_linux.go of Moby 26 (what Docker writes), config-linux.md of the OCI runtime
specification 1.2.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HOOK = "nvidia-container-runtime-hook"
SPECIFICATION = Path("/run/cdi/golden-nvidia.json")
NONE = ("", "void", "none")
ANYBODY = 0o666
"""Mode of the driver's device nodes, which they have on the machine, too."""

Json = dict[str, Any]


class Refused(Exception):
    """A requested GPU is missing. The text is one line that says what to do."""


def requested_gpus(config: Json) -> list[str]:
    """Return the names of the requested GPUs: `all`, numbers or UUIDs."""
    values = [
        entry.partition("=")[2]
        for entry in config["process"].get("env", [])
        if entry.startswith("NVIDIA_VISIBLE_DEVICES=")
    ]
    # Docker's own entry is the last; an image's may come before it.
    value = values[-1] if values else ""
    return [] if value in NONE else value.split(",")


def edits(specification: Path, names: list[str]) -> list[Json]:
    """Return CDI's edits for the GPUs of these names, after those for every container. Raises
    Refused if a name is unknown."""
    if not specification.is_file():
        raise Refused(
            "this machine has no GPU for containers: `systemctl status golden-cdi` says why"
        )
    document: Json = json.loads(specification.read_text())
    devices = {device["name"]: device["containerEdits"] for device in document["devices"]}
    for name in names:
        if name not in devices:
            raise Refused(f"no GPU is named `{name}`: take one of {', '.join(devices)}")
    return [document["containerEdits"], *(devices[name] for name in names)]


def give(config: Json, containers: list[Json]) -> None:
    """Add edits of CDI to a container's configuration, which runc reads."""
    linux = config.setdefault("linux", {})
    allowed = linux.setdefault("resources", {}).setdefault("devices", [])
    for entry in containers:
        for node in entry.get("deviceNodes", []):
            number = Path(node["path"]).stat().st_rdev
            device = {"type": "c", "major": os.major(number), "minor": os.minor(number)}
            # runc makes the node from this entry; `allowed` lets the container's cgroup open it.
            linux.setdefault("devices", []).append(
                {"path": node["path"], "fileMode": ANYBODY, **device}
            )
            allowed.append({"allow": True, "access": "rwm", **device})
        config.setdefault("mounts", []).extend(
            {
                "destination": mount["containerPath"],
                "source": mount["hostPath"],
                "type": "bind",
                "options": mount["options"],
            }
            for mount in entry.get("mounts", [])
        )


def main(bundle: Path, specification: Path = SPECIFICATION) -> int:
    """Rewrite the bundle's configuration in place."""
    path = bundle / "config.json"
    config: Json = json.loads(path.read_text())
    hooks = config.get("hooks", {}).get("prestart", [])
    hooks[:] = [hook for hook in hooks if not hook["path"].endswith(f"/{HOOK}")]
    try:
        if names := requested_gpus(config):
            give(config, edits(specification, names))
    except (Refused, OSError) as refusal:
        print(f"golden-gpus: {refusal}", file=sys.stderr)
        return 1
    path.write_text(json.dumps(config))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
