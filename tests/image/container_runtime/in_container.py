"""Runs in a container, on the few files that probe.py has put there: prints as JSON what the
container may do.

argv: device nodes `<major>:<minor>` that it makes for itself and then tries to open.
"""

import ctypes
import errno
import json
import os
import resource
import stat
import sys
from pathlib import Path

LIMITS = {"nofile": resource.RLIMIT_NOFILE, "memlock": resource.RLIMIT_MEMLOCK}


def call(name: str, function: str) -> object:
    """What a function of a library returns without arguments or with 0; None where the library does
    not load."""
    try:
        return getattr(ctypes.CDLL(name), function)(0)
    except OSError:
        return None


def count() -> int | None:
    """How many GPUs CUDA has here, once cuInit was called; None where it does not say."""
    number = ctypes.c_int()
    try:
        return (
            None
            if ctypes.CDLL("libcuda.so.1").cuDeviceGetCount(ctypes.byref(number))
            else number.value
        )
    except OSError:
        return None


def opened(path: str) -> str:
    """`open`, or the name of what opening it ended in: EPERM is a device that the container is not
    given."""
    try:
        os.close(os.open(path, os.O_RDWR))
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "open"


def made(number: str) -> str:
    """The same of a node that the container makes itself, which is what the kernel's device filter
    is for."""
    major, minor = map(int, number.split(":"))
    path = f"/tmp/{number}"
    try:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(major, minor))
        return opened(path)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def maps() -> list[str]:
    """Files of the driver that are mounted, and how."""
    lines = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(
        f"{row[4]} {row[5].split(',')[0]}"
        for row in lines
        if "nvidia" in row[4] or "libcuda" in row[4]
    )


def names(folder: str) -> list[str]:
    """What is in a folder."""
    return sorted(path.name for path in Path(folder).iterdir())


print(
    json.dumps(
        {
            "cuda": call("libcuda.so.1", "cuInit"),
            "plain": call("libcuda.so", "cuInit"),
            "count": count(),
            "nvml": call("libnvidia-ml.so.1", "nvmlInit_v2"),
            "nodes": {
                name: opened(f"/dev/{name}") for name in names("/dev") if name.startswith("nvidia")
            },
            "made": {number: made(number) for number in sys.argv[1:]},
            "limits": {name: resource.getrlimit(limit) for name, limit in LIMITS.items()},
            "mounts": maps(),
            "uid": os.getuid(),
            "interfaces": names("/sys/class/net"),
        }
    )
)
