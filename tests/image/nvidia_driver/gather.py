"""Runs on the image, as root: prints as JSON what the tests of role nvidia_driver look at, in one
SSH command.

argv: kernel release, driver version, names of FACTS. Needs only the standard library; changes
nothing.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

RELEASE, VERSION = sys.argv[1:3]


def run(*argv: str) -> str:
    """Both output streams of a command, whatever its exit status; a command that is absent says
    so."""
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
    except FileNotFoundError:
        return f"{argv[0]}: not installed"
    return done.stdout.strip()


def modules() -> dict[str, dict[str, dict[str, str]]]:
    """kernel release -> module name -> modinfo fields, for every kernel in the image."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for tree in sorted(Path("/lib/modules").iterdir()):
        if (tree / "kernel").is_dir():
            found[tree.name] = {}
            for path in tree.rglob("nvidia*.ko*"):
                if path.parent.name == "dkms":
                    wanted = ("version", "vermagic", "signer")
                    fields = {field: run("modinfo", "-F", field, str(path)) for field in wanted}
                    found[tree.name][run("modinfo", "-F", "name", str(path))] = fields
    return found


def library(name: str, call: str, *args: int) -> dict[str, object]:
    """Which file the loader takes for a library, and what one call into it returns without a
    GPU."""
    try:
        loaded = ctypes.CDLL(name)
    except OSError as error:
        return {"error": str(error)}
    stem = name.split(".so")[0]
    mapped = [
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if f"/{stem}.so" in line
    ]
    return {"file": Path(mapped[0]).resolve().name, "returned": getattr(loaded, call)(*args)}


def initramfs() -> dict[str, object]:
    """Lines of modprobe configuration that name nouveau in the initramfs, and nouveau modules in
    it."""
    with tempfile.TemporaryDirectory() as folder:
        run("unmkinitramfs", f"/boot/initrd.img-{RELEASE}", folder)
        lines = [
            line
            for path in Path(folder).rglob("modprobe.d/*.conf")
            if path.is_file()
            for line in path.read_text().splitlines()
            if "nouveau" in line and not line.startswith("#")
        ]
        return {
            "lines": lines,
            "modules": [path.name for path in Path(folder).rglob("nouveau.ko*")],
        }


def on_bus(kind: str, vendor: str, pci_class: str, device: str) -> int:
    """Exit status of the units' condition for a bus with one made-up device."""
    with tempfile.TemporaryDirectory() as bus:
        folder = Path(bus, "0000:00:1e.0")
        folder.mkdir()
        for name, value in (("vendor", vendor), ("class", pci_class), ("device", device)):
            (folder / name).write_text(value + "\n")
        environment = dict(os.environ, GOLDEN_PCI_DEVICES=bus)
        argv = ["/usr/local/libexec/golden-nvidia-on-bus", kind]
        return subprocess.run(argv, env=environment, check=False).returncode


def bus() -> dict[str, int]:
    """Exit status of the condition for each kind of unit and device."""
    return {
        "gpu": on_bus("gpu", "0x10de", "0x030200", "0x1eb8"),
        "display": on_bus("gpu", "0x10de", "0x030000", "0x2237"),
        "other": on_bus("gpu", "0x1d0f", "0x030000", "0x1111"),
        "switch_is_no_gpu": on_bus("gpu", "0x10de", "0x068000", "0x22a3"),
        "nvswitch": on_bus("nvswitch", "0x10de", "0x068000", "0x22a3"),
        "gpu_is_no_switch": on_bus("nvswitch", "0x10de", "0x030200", "0x2330"),
    }


def packages() -> list[list[str]]:
    """[want, source package, package, upstream version] of installed packages."""
    form = (
        "${db:Status-Want}\t${db:Status-Status}\t${source:Package}\t${Package}\t"
        "${source:Upstream-Version}\n"
    )
    rows = [line.split("\t") for line in run("dpkg-query", "-W", "-f", form).splitlines()]
    return [[row[0], *row[2:]] for row in rows if row[1] == "installed"]


def smi_version() -> bool:
    """Whether nvidia-smi is of this driver: its version option needs a loaded driver, so the file
    is read."""
    path = Path("/usr/bin/nvidia-smi")
    return path.exists() and VERSION.encode() in path.read_bytes()


def models() -> list[str]:
    """Names of the GPUs that the loaded driver has taken: `NVIDIA A10G`."""
    texts = (
        path.read_text() for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    )
    return [
        line.partition(":")[2].strip()
        for text in texts
        for line in text.splitlines()
        if line.startswith("Model:")
    ]


FACTS: dict[str, Callable[[], object]] = {
    "gpu": lambda: run(
        "sh", "-c", "/usr/local/libexec/golden-nvidia-on-bus gpu && echo yes"
    ).endswith("yes"),
    "models": models,
    "modules": modules,
    "initramfs": initramfs,
    "cuda": lambda: library("libcuda.so.1", "cuInit", 0),
    "nvml": lambda: library("libnvidia-ml.so.1", "nvmlInit_v2"),
    "smi": smi_version,
    "packages": packages,
    "bus": bus,
}
print(json.dumps({name: FACTS[name]() for name in sys.argv[3:]}))
