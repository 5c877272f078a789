#!/usr/bin/python3
"""Describe this machine's NVIDIA GPUs to container engines: write a specification of CDI.

    golden-cdi [--root FOLDER]

The specification names device nodes, the driver's libraries and /scratch where local disks are
mounted there. It has no hook: a hook runs as root on an image's files.
It is /run/cdi/golden-nvidia.json, written by rename. Where the driver is not whole the exit status
is 1, one line says what to do, and no specification is left. FOLDER is for tests: a tree that is
taken for `/`.

Source of the format: SPEC.md of cncf-tags/container-device-interface, 0.5.0 (the first whose names
may be numbers).
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import posixpath
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SPECIFICATION = "run/cdi/golden-nvidia.json"
DRIVER = "proc/driver/nvidia"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
IN_CONTAINERS = (LIBRARIES, "/usr/lib64")
"""Folders in which the loaders of Debian's and of Red Hat's families look without a cache
(ld.so(8))."""
REQUIRED = ("libcuda.so.1", "libnvidia-ml.so.1")
SMI = "/usr/bin/nvidia-smi"
MAJOR = 195
"""The major number of NVIDIA's device nodes, except UVM's, which /proc/devices names (Linux:
admin-guide/devices.txt)."""
CONTROL = {"nvidiactl": 255, "nvidia-uvm": 0}
EXTRA = {"nvidia-uvm-tools": 1, "nvidia-modeset": 254}
"""Nodes beside the GPUs' own, with their minor numbers: CUDA needs those in CONTROL, tools those in
EXTRA."""
SCRATCH = "/scratch"
"""The folder at which the role instance_store mounts local disks. A job that gets GPUs gets these
disks, too."""
LINKS = 40
"""The number of links that Linux follows (path_resolution(7))."""


class Refused(Exception):
    """The driver is incomplete. The text is one line that says what to do."""


@dataclass(frozen=True)
class Gpu:
    """A GPU: its UUID as nvidia-smi prints it, the number of its device node, its PCI address."""

    uuid: str
    minor: int
    bus: str


def driver_version(root: Path) -> str:
    """Return the version of the loaded kernel module, such as `550.163.01`. Raises Refused if none
    is loaded."""
    path = root / DRIVER / "version"
    match = re.search(
        r"^NVRM version:.*?\s(\d+(?:\.\d+){1,2})\s", path.read_text() if path.is_file() else ""
    )
    if match is None:
        raise Refused(
            f"/{DRIVER}/version names no driver: is the module loaded? See `modprobe nvidia`"
        )
    return match[1]


def gpus(root: Path) -> list[Gpu]:
    """Return the GPUs that the driver has taken, in the order of the PCI bus, which is
    nvidia-smi's. Raises Refused if one cannot be given to a container."""
    taken: list[Gpu] = []
    for path in sorted(root.glob(f"{DRIVER}/gpus/*/information")):
        fields = dict(re.findall(r"^([^:]+?)\s*:\s*(.*?)\s*$", path.read_text(), re.MULTILINE))
        if fields.get("GPU Excluded") == "Yes":
            continue
        uuid, minor, bus = (
            fields.get("GPU UUID", ""),
            fields.get("Device Minor", ""),
            path.parent.name,
        )
        if not re.fullmatch(r"GPU-[0-9a-f-]{36}", uuid) or not minor.isdecimal():
            raise Refused(
                f"the driver has not initialised the GPU at {bus}: "
                "see `nvidia-smi -L` and the kernel's log"
            )
        if any((root / DRIVER / f"capabilities/gpu{minor}/mig").glob("gi*")):
            raise Refused(
                f"the GPU at {bus} is partitioned (MIG), which is not supported: "
                "run `nvidia-smi -mig 0`, or use container_runtime_gpu_source: nvidia"
            )
        gpu = Gpu(uuid, int(minor), bus)
        for earlier in taken:
            if gpu.minor == earlier.minor or uuid == earlier.uuid:
                raise Refused(
                    f"the GPUs at {earlier.bus} and {bus} have one number ({minor}) or UUID: "
                    "reboot, and see the kernel's log for `NVRM`"
                )
        taken.append(gpu)
    if not taken:
        raise Refused(f"the driver has no GPU (/{DRIVER}/gpus): see the kernel's log for `NVRM`")
    return taken


def follow(root: Path, name: str) -> str:
    """Return the absolute path within `root` at which the links at `name` end. No link leads out of
    `root`.

    Raises OSError if the links form a loop.
    """
    for _ in range(LINKS):
        path = root / name.lstrip("/")
        if not path.is_symlink():
            return name
        # Path.resolve() would take an absolute link for one of this machine, not of `root`.
        name = posixpath.normpath(posixpath.join(posixpath.dirname(name), path.readlink()))
    raise OSError(f"{name}: too many links")


def libraries(root: Path, version: str) -> dict[str, set[str]]:
    """Return the files of the driver's libraries of exactly `version`, each with the names that
    load it."""
    required = [_required(root, name, version) for name in REQUIRED]
    names_by_file: dict[str, set[str]] = {}
    for folder in sorted({LIBRARIES, *map(posixpath.dirname, required)}):
        # A name without a version, libx.so, is for the linker alone.
        for link in sorted((root / folder.lstrip("/")).glob("lib*.so.*")):
            try:
                file = follow(root, f"{folder}/{link.name}")
            except OSError:
                continue  # a loop among other libraries' links
            if file.endswith(f".so.{version}") and (root / file.lstrip("/")).is_file():
                names_by_file.setdefault(file, {posixpath.basename(file)}).add(link.name)
    names_by_file[required[0]].add("libcuda.so")
    return names_by_file


def _required(root: Path, name: str, version: str) -> str:
    """Return the file of a library without which no program uses a GPU. Raises Refused if it is
    missing or of another version than the loaded module."""
    try:
        file = follow(root, f"{LIBRARIES}/{name}")
    except OSError as error:
        raise Refused(f"{error}: install the driver's libraries again") from None
    if not (root / file.lstrip("/")).is_file():
        raise Refused(f"{LIBRARIES}/{name} is missing: install the driver's libraries")
    installed = posixpath.basename(file).partition(".so.")[2]
    if installed != version:
        raise Refused(
            f"the loaded kernel module is of driver {version}, {name} of {installed}: "
            "reboot, and if that does not help install both of one version"
        )
    return file


def nodes(root: Path, minors: dict[str, int], *, required: bool) -> list[dict[str, str]]:
    """Return CDI's entries for the nodes in /dev. Raises Refused if a required node is missing, or
    if a node is not the driver's."""
    entries = []
    for name, minor in minors.items():
        path = root / "dev" / name
        if os.path.lexists(path):
            status, major = path.lstat(), _major(root, name)
            if not stat.S_ISCHR(status.st_mode):
                raise Refused(f"/dev/{name} is no device: {_MAKE_ANEW}")
            if (actual := (os.major(status.st_rdev), os.minor(status.st_rdev))) != (major, minor):
                raise Refused(
                    f"/dev/{name} is device {actual[0]}:{actual[1]}, the driver's is "
                    f"{major}:{minor}: {_MAKE_ANEW}"
                )
            entries.append({"path": f"/dev/{name}"})
        elif required:
            raise Refused(
                f"/dev/{name} is missing: run `nvidia-modprobe -u -c 0`, then "
                "`systemctl restart golden-cdi`"
            )
    return entries


_MAKE_ANEW = "remove it, then run `systemctl restart golden-cdi`"


def _major(root: Path, name: str) -> int:
    """Return the major number of a node. Linux chooses UVM's when its module is loaded."""
    if not name.startswith("nvidia-uvm"):
        return MAJOR
    path = root / "proc/devices"
    match = re.search(
        r"^ *(\d+) nvidia-uvm$", path.read_text() if path.is_file() else "", re.MULTILINE
    )
    if match is None:
        raise Refused(
            "/proc/devices has no nvidia-uvm: run `modprobe nvidia-uvm`, then "
            "`systemctl restart golden-cdi`"
        )
    return int(match[1])


def specification(root: Path) -> dict[str, Any]:
    """Return the whole specification. Each GPU has the names `<index>` and `<UUID>`; `all` names
    all GPUs."""
    version = driver_version(root)
    files = libraries(root, version)
    nodes_by_gpu = {
        gpu: nodes(root, {f"nvidia{gpu.minor}": gpu.minor}, required=True) for gpu in gpus(root)
    }
    mounts = []
    for file, names in sorted(files.items()):
        for name in sorted(names):
            mounts += [_mount(file, f"{folder}/{name}") for folder in IN_CONTAINERS]
    smi = follow(root, SMI)
    if (root / smi.lstrip("/")).is_file():
        mounts.append(_mount(smi, SMI))
    if re.search(rf"^\S+ {SCRATCH} ", (root / "proc/mounts").read_text(), re.MULTILINE):
        mounts.append(_mount(SCRATCH, SCRATCH, "rw"))
    devices = {str(index): entries for index, entries in enumerate(nodes_by_gpu.values())}
    devices |= {gpu.uuid: entries for gpu, entries in nodes_by_gpu.items()}
    devices["all"] = list(itertools.chain.from_iterable(nodes_by_gpu.values()))
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "containerEdits": {
            "deviceNodes": nodes(root, CONTROL, required=True) + nodes(root, EXTRA, required=False),
            "mounts": mounts,
        },
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": entries}}
            for name, entries in devices.items()
        ],
    }


def _mount(host: str, container: str, mode: str = "ro") -> dict[str, object]:
    return {
        "hostPath": host,
        "containerPath": container,
        "options": [mode, "nosuid", "nodev", "rbind", "rprivate"],
    }


def main() -> int:
    """Write the specification, or remove it and say why."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=Path("/"))
    root: Path = parser.parse_args().root
    path = root / SPECIFICATION
    try:
        text = json.dumps(specification(root), indent=1)
    except (Refused, OSError, UnicodeDecodeError) as refusal:
        path.unlink(missing_ok=True)
        print(f"golden-cdi: containers get no GPU: {refusal}", file=sys.stderr)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written by rename: an engine may read it at any time.
    part = path.with_name(f".{path.name}.part")
    part.write_text(text + "\n")
    part.chmod(0o644)
    part.replace(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
