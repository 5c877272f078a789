"""roles/container_runtime's golden-cdi over made-up trees: what it describes, and what it refuses
in one line."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[3] / "roles/container_runtime/files/golden_cdi.py"
VERSION, OTHER = "550.163.01", "535.274.02"
FOLDER, DEBIANS = "usr/lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/nvidia/current"
FIRST, SECOND = (
    "GPU-00000000-0000-0000-0000-00000000000a",
    "GPU-00000000-0000-0000-0000-00000000000b",
)
GPUS = "proc/driver/nvidia/gpus"
UVM = 508
"""A major number as Linux gives it out when the module is loaded."""


def run(root: Path) -> tuple[int, str]:
    """Exit status and what was said."""
    done = subprocess.run(
        [sys.executable, "-I", "-B", str(PROGRAM), "--root", str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "" and "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr.removesuffix("\n")


def described(root: Path) -> dict[str, Any]:
    """The specification of a tree that has to be right."""
    assert run(root) == (0, "")
    assert [path.name for path in (root / "run/cdi").iterdir()] == ["golden-nvidia.json"]
    found: dict[str, Any] = json.loads(
        (root / "run/cdi/golden-nvidia.json").read_text(encoding="utf-8")
    )
    return found


def refused(root: Path) -> str:
    """The one line for a tree that is wrong; an earlier specification must be gone."""
    (root / "run/cdi").mkdir(parents=True, exist_ok=True)
    (root / "run/cdi/golden-nvidia.json").write_text("{}", encoding="utf-8")
    status, said = run(root)
    assert (
        status == 1 and "\n" not in said and said.startswith("golden-cdi: containers get no GPU: ")
    )
    assert [path.name for path in (root / "run/cdi").iterdir()] == []
    return said


def write(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def gpu(root: Path, bus: str, uuid: str, minor: int) -> None:
    """A GPU as the driver's procfs shows it, and its device node."""
    write(
        root / GPUS / bus / "information",
        f"Model: \t\t Tesla T4\nIRQ:   \t\t 44\nGPU UUID: \t {uuid}\n"
        f"Bus Location: \t {bus}\nDevice Minor: \t {minor}\nGPU Excluded:\t No\n",
    )
    node(root, f"nvidia{minor}", minor)


def node(root: Path, name: str, minor: int, major: int = 195) -> None:
    """A character device, in place of the one that is there."""
    (root / "dev").mkdir(exist_ok=True)
    (root / "dev" / name).unlink(missing_ok=True)
    os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))


def library(root: Path, folder: str, stem: str, version: str, *links: str) -> None:
    """A library's file and, as in its package, the links beside it that end at it."""
    write(root / folder / f"{stem}.so.{version}")
    for name in links:
        link(root / folder / name, f"{stem}.so.{version}")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two GPUs, whose nodes are numbered against the order of the bus, with libraries laid out as
    Debian's."""
    if os.getuid():
        pytest.skip("only root can make a device node")
    root = tmp_path / "tree"
    write(root / "proc/mounts", "/dev/nvme0n1p3 / ext4 rw 0 0\ntmpfs /scratch/in tmpfs rw 0 0\n")
    write(
        root / "proc/driver/nvidia/version",
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {VERSION}  Tue Apr  8 12:41:17 UTC "
        "2026\nGCC version: 14\n",
    )
    gpu(root, "0000:00:1e.0", SECOND, 0)
    gpu(root, "0000:00:1b.0", FIRST, 1)
    write(
        root / "proc/devices",
        f"Character devices:\n195 nvidia\n{UVM} nvidia-uvm\n\nBlock devices:\n",
    )
    node(root, "nvidiactl", 255)
    node(root, "nvidia-uvm", 0, UVM)
    node(root, "nvidia-uvm-tools", 1, UVM)
    library(root, DEBIANS, "libcuda", VERSION, "libcuda.so.1")
    library(root, DEBIANS, "libnvidia-ml", VERSION, "libnvidia-ml.so.1", "libnvidia-ml.so")
    library(root, FOLDER, "libnvidia-gpucomp", VERSION)
    library(root, FOLDER, "libnvidia-gpucomp", OTHER)
    library(root, FOLDER, "libc", "6")
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):  # two hops: Debian's alternatives
        link(root / FOLDER / name, f"/etc/alternatives/nvidia--{name}")
        link(root / "etc/alternatives" / f"nvidia--{name}", f"/{DEBIANS}/{name}")
    return root


def names(spec: dict[str, Any]) -> dict[str, list[str]]:
    """CDI name -> device nodes beyond those that all have."""
    return {
        device["name"]: [entry["path"] for entry in device["containerEdits"]["deviceNodes"]]
        for device in spec["devices"]
    }


def test_what_is_described(tree: Path) -> None:
    """nvidia-smi's 0 is the first on the bus, whatever the number of its node; no hook runs."""
    link(tree / "usr/bin/nvidia-smi", "/etc/alternatives/nvidia--nvidia-smi")
    link(tree / "etc/alternatives/nvidia--nvidia-smi", "/usr/lib/nvidia/current/nvidia-smi")
    write(tree / "usr/lib/nvidia/current/nvidia-smi")
    link(tree / FOLDER / "libodd.so.1", "libodd.so.2")  # a loop among other libraries
    link(tree / FOLDER / "libodd.so.2", "libodd.so.1")
    spec = described(tree)
    assert (spec["cdiVersion"], spec["kind"]) == ("0.5.0", "nvidia.com/gpu")
    assert "hooks" not in json.dumps(spec)
    first, second = ["/dev/nvidia1"], ["/dev/nvidia0"]
    assert names(spec) == {
        "0": first,
        "1": second,
        FIRST: first,
        SECOND: second,
        "all": first + second,
    }
    assert spec["containerEdits"]["deviceNodes"] == [
        {"path": f"/dev/{name}"} for name in ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
    ]
    mounts = spec["containerEdits"]["mounts"]
    cuda, ml = (f"/{DEBIANS}/{stem}.so.{VERSION}" for stem in ("libcuda", "libnvidia-ml"))
    gpucomp = f"/{FOLDER}/libnvidia-gpucomp.so.{VERSION}"
    wanted = {
        (cuda, f"libcuda.so.{VERSION}"),
        (cuda, "libcuda.so.1"),
        (cuda, "libcuda.so"),
        (ml, f"libnvidia-ml.so.{VERSION}"),
        (ml, "libnvidia-ml.so.1"),
        (gpucomp, f"libnvidia-gpucomp.so.{VERSION}"),
    }
    assert {(mount["hostPath"], mount["containerPath"]) for mount in mounts} == {
        *(
            (host, f"{folder}/{name}")
            for host, name in wanted
            for folder in (f"/{FOLDER}", "/usr/lib64")
        ),
        ("/usr/lib/nvidia/current/nvidia-smi", "/usr/bin/nvidia-smi"),
    }
    assert all({"ro", "nosuid", "nodev"} <= set(mount["options"]) for mount in mounts)


def test_local_disks_come_with_gpus(tree: Path) -> None:
    """Where they are mounted: an engine starts no container whose mount is missing."""
    assert "/scratch" not in json.dumps(described(tree))
    with (tree / "proc/mounts").open("a", encoding="utf-8") as mounts:
        mounts.write("/dev/md0 /scratch xfs rw 0 0\n")
    assert described(tree)["containerEdits"]["mounts"][-1] == {
        "hostPath": "/scratch",
        "containerPath": "/scratch",
        "options": ["rw", "nosuid", "nodev", "rbind", "rprivate"],
    }


def test_open_modules_and_nvidia_s_own_layout(tree: Path) -> None:
    (tree / "proc/driver/nvidia/version").write_text(
        f"NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {VERSION}  Release Build  "
        "(dvs)\n",
        encoding="utf-8",
    )
    for name in ("libcuda.so.1", "libnvidia-ml.so.1"):
        (tree / FOLDER / name).unlink()
        library(tree, FOLDER, name.removesuffix(".so.1"), VERSION, name)
    hosts = {mount["hostPath"] for mount in described(tree)["containerEdits"]["mounts"]}
    assert hosts == {
        f"/{FOLDER}/{stem}.so.{VERSION}"
        for stem in ("libcuda", "libnvidia-ml", "libnvidia-gpucomp")
    }


def test_an_excluded_gpu_has_no_number(tree: Path) -> None:
    path = tree / GPUS / "0000:00:1b.0/information"
    path.write_text(
        path.read_text(encoding="utf-8").replace("Excluded:\t No", "Excluded:\t Yes"),
        encoding="utf-8",
    )
    assert names(described(tree)) == {name: ["/dev/nvidia0"] for name in ("0", SECOND, "all")}


def test_links_never_lead_out_of_the_tree(tree: Path, tmp_path: Path) -> None:
    """A library's link that climbs above the root ends within it: on a machine, the root's parent
    is the root."""
    write(tmp_path / f"outside/libnvidia-x.so.{VERSION}")
    link(tree / FOLDER / "libnvidia-x.so.1", f"{'../' * 4}outside/libnvidia-x.so.{VERSION}")
    assert "libnvidia-x" not in json.dumps(described(tree))


def test_a_specification_is_replaced_whole(tree: Path) -> None:
    described(tree)
    gpu(tree, "0000:00:1f.0", "GPU-00000000-0000-0000-0000-00000000000c", 2)
    assert names(described(tree))["2"] == ["/dev/nvidia2"]
    assert stat.S_IMODE((tree / "run/cdi/golden-nvidia.json").stat().st_mode) == 0o644


def no_gpu(tree: Path) -> None:
    for path in (tree / GPUS).rglob("information"):
        path.unlink()


def half_a_driver(tree: Path) -> None:
    (tree / DEBIANS / "libnvidia-ml.so.1").unlink()
    library(tree, DEBIANS, "libnvidia-ml", OTHER, "libnvidia-ml.so.1")


def loop(tree: Path) -> None:
    (tree / DEBIANS / "libcuda.so.1").unlink()
    link(tree / DEBIANS / "libcuda.so.1", f"/{FOLDER}/libcuda.so.1")


def no_device(tree: Path) -> None:
    (tree / "dev/nvidia1").unlink()
    write(tree / "dev/nvidia1")


def linked_device(tree: Path) -> None:
    (tree / "dev/nvidia0").unlink()
    link(tree / "dev/nvidia0", "/dev/nvidia1")


def not_initialised(tree: Path) -> None:
    path = tree / GPUS / "0000:00:1b.0/information"
    path.write_text(
        re.sub("[0-9a-f]{4,}-?", "????", path.read_text(encoding="utf-8")), encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda tree: (tree / "proc/driver/nvidia/version").unlink(),
            "/proc/driver/nvidia/version names no driver: is",
        ),
        (no_gpu, "the driver has no GPU"),
        (
            not_initialised,
            "the driver has not initialised the GPU at 0000:00:1b.0: see `nvidia-smi -L`",
        ),
        (
            half_a_driver,
            f"the loaded kernel module is of driver {VERSION}, "
            f"libnvidia-ml.so.1 of {OTHER}: reboot, and if",
        ),
        (
            lambda tree: (tree / FOLDER / "libcuda.so.1").unlink(),
            "libcuda.so.1 is missing: install the driver's libraries",
        ),
        (loop, "too many links: install the driver's libraries again"),
        (
            no_device,
            "/dev/nvidia1 is no device: remove it, then run `systemctl restart golden-cdi`",
        ),
        (linked_device, "/dev/nvidia0 is no device"),
        (
            lambda tree: (tree / "dev/nvidia-uvm").unlink(),
            "/dev/nvidia-uvm is missing: run `nvidia-modprobe -u -c 0`, the",
        ),
        (
            lambda tree: (tree / "proc/driver/nvidia/capabilities/gpu1/mig/gi3").mkdir(
                parents=True
            ),
            "the GPU at 0000:00:1b.0 is partitioned (MIG), which is not supported: "
            "run `nvidia-smi -mig 0`, or use",
        ),
        (
            lambda tree: node(tree, "nvidia1", 3, 1),
            "/dev/nvidia1 is device 1:3, the driver's is 195:1: "
            "remove it, then run `systemctl restart",
        ),
        (
            lambda tree: node(tree, "nvidia-uvm-tools", 0, UVM),
            f"device {UVM}:0, the driver's is {UVM}:1",
        ),
        (lambda tree: node(tree, "nvidia-modeset", 3, 1), "device 1:3, the driver's is 195:254"),
        (
            lambda tree: write(tree / "proc/devices", "195 nvidia\n"),
            "/proc/devices has no nvidia-uvm: run `modprobe nvidia-uvm`, then",
        ),
        (
            lambda tree: gpu(tree, "0000:00:1f.0", FIRST[:-1] + "c", 0),
            "the GPUs at 0000:00:1e.0 and 0000:00:1f.0 have one number (0) or UUID: reboot",
        ),
    ],
)
def test_what_is_not_whole_is_refused_and_leaves_no_specification(
    tree: Path, spoil: Any, said: str
) -> None:
    spoil(tree)
    assert said in refused(tree)


def test_without_gpus_an_engine_shows_where_to_look(tree: Path) -> None:
    """Engines take the same name from /run/cdi before the one from /etc/cdi, and print a node that
    is not there."""
    text = PROGRAM.with_name("etc").joinpath("cdi/golden-none.json").read_text(encoding="utf-8")
    none, some = json.loads(text), described(tree)
    (device,), names = none["devices"], [each["name"] for each in some["devices"]]
    assert (none["kind"], none["cdiVersion"]) == (some["kind"], some["cdiVersion"])
    assert device["name"] == "all" and "all" in names
    (node,) = device["containerEdits"]["deviceNodes"]
    assert "`systemctl status golden-cdi`" in node["path"] and not Path(node["path"]).exists()
