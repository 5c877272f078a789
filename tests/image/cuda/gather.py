"""Runs on the image: prints as JSON what the tests of role cuda look at, in one SSH command.

argv: names of FACTS. Needs only the standard library; changes nothing.
"""

import ctypes
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

LIBRARIES = (
    "cublas",
    "cublasLt",
    "cudart",
    "cufft",
    "curand",
    "cusolver",
    "cusparse",
    "nvrtc",
    "nvrtc-builtins",
    "nvJitLink",
)


def shell(command: str) -> dict[str, object]:
    """What a login shell answers, the one that reads /etc/profile.d, to a user without rights."""
    nobody = ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*nobody, "bash", "-lc", command], capture_output=True, text=True, check=False
    )
    return {"rc": done.returncode, "out": done.stdout.strip(), "err": done.stderr.strip()}


def cached() -> dict[str, str]:
    """CUDA library -> soname that the linker's cache knows."""
    names = subprocess.run(
        ["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True
    ).stdout.split()
    found = {}
    for name in LIBRARIES:
        matching = [one for one in names if re.fullmatch(rf"lib{name}\.so\.[0-9.]+", one)]
        if matching:
            found[name] = matching[0]
    return found


def loads(sonames: dict[str, str]) -> dict[str, str]:
    """Library -> why it does not load; those that load are left out."""
    failed = {}
    for name, soname in sonames.items():
        try:
            ctypes.CDLL(soname)
        except OSError as error:
            failed[name] = str(error)
    return failed


def runtime(soname: str | None) -> dict[str, object]:
    """File that the loader takes for the runtime, its version (CUDA 11.8 has none without a GPU),
    its count of GPUs."""
    if soname is None:
        return {}
    library, number = ctypes.CDLL(soname), ctypes.c_int()
    mapped = [
        line.split()[-1]
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "/libcudart.so" in line
    ]
    library.cudaRuntimeGetVersion(ctypes.byref(number))
    return {
        "file": Path(mapped[0]).resolve().name,
        "version": number.value,
        "count": library.cudaGetDeviceCount(ctypes.byref(number)),
    }


def copies(sonames: dict[str, str]) -> dict[str, list[str]]:
    """Library -> its files, where there are several of the same name."""
    wanted = set(sonames.values())
    found: dict[str, set[str]] = {}
    for top in ("/opt", "/usr"):
        for folder, _, names in os.walk(top):
            for name in wanted.intersection(names):
                found.setdefault(name, set()).add(str(Path(folder, name).resolve()))
    return {name: sorted(paths) for name, paths in found.items() if len(paths) > 1}


SONAMES = cached()
FACTS: dict[str, Callable[[], object]] = {
    "gpu": lambda: Path("/proc/driver/nvidia/gpus").is_dir(),
    "driver": lambda: shell("/sbin/ldconfig -p | grep -q 'libcuda\\.so\\.1 '")["rc"] == 0,
    "libraries": lambda: SONAMES,
    "unloadable": lambda: loads(SONAMES),
    "runtime": lambda: runtime(SONAMES.get("cudart")),
    "nvcc": lambda: shell("nvcc --version"),
    "home": lambda: shell(
        'test -x "$CUDA_HOME/bin/nvcc" && test -f "$CUDA_HOME/include/cuda.h" && echo "$CUDA_HOME"'
    ),
    "jit": lambda: shell(
        '"$CUDA_HOME/bin/ptxas" --version && cd "$CUDA_HOME" && cat '
        "nvvm/libdevice/libdevice.10.bc"
        " include/cuda.h include/crt/host_defines.h >/dev/null"
    ),
    "twice": lambda: copies(SONAMES),
}
print(json.dumps({name: FACTS[name]() for name in sys.argv[1:]}))
