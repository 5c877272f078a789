"""A made-up machine for roles/frameworks' ml-doctor: a library of CUDA that answers what variables
say, and small frameworks in which nothing is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from support import files

PROGRAM = Path(__file__).resolve().parents[3] / "roles/frameworks/files/ml_doctor.py"
BUS = "sys/bus/pci/devices/0000:00:1e.0"
DRIVER, VERSION = "550.163.01", "proc/driver/nvidia/version"
CUDA = r"""
#include <stdlib.h>
#include <unistd.h>
static int say(const char *name, int usual) { char *v = getenv(name); return v ? atoi(v) : usual; }
int cuCtxCreate_v2(void **to, unsigned flags, int index) {
    return index == say("OTHER", 0) ? say("CONTEXT", 0) : 0;
}
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = say("NVML", 1); return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **to) { return 0; }
int nvmlDeviceGetMigMode(void *of, unsigned *now, unsigned *then) {
    *now = say("MIG", 0);
    return 0;
}
int cuInit(unsigned flags) {
    if (say("ABORTS", 0)) abort();
    sleep(say("HANGS", 0));
    return say("ANSWER", 0);
}
int cuDeviceGetCount(int *count) { *count = say("GPUS", 1); return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetAttribute(int *value, int what, int index) {
    *value = what == 75 ? say("CAPABILITY", 86) / 10 : say("CAPABILITY", 86) % 10;
    return 0;
}
"""
MACHINE = {
    f"{BUS}/vendor": "0x10de\n",
    f"{BUS}/class": "0x030200\n",
    VERSION: f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {DRIVER}  Tue\n",
    "dev/nvidia0": "",
    "dev/nvidiactl": "",
    "dev/nvidia-uvm": "",
    "dev/shm/x": "",
    "proc/self/cgroup": "0::/user.slice\n",
}
ARRAYS = """
class Array:
    def same(self, *_): return self
    __matmul__ = __getitem__ = sum = block_until_ready = numpy = same
    def item(self): return 8.0
    def cuda(self): return self
def ones(*shape): return Array()
"""
NUMPY = {"numpy/__init__.py": "__version__ = '2.4.6'\n", "numpy-2.4.6.dist-info/WHEEL": ""}
TORCH = {
    "torch/version.py": "cuda: 'Optional[str]' = '12.4'\n",
    "torch-2.6.0.dist-info/WHEEL": "Tag: cp313-cp313-manylinux_2_17_x86_64\n",
    "torch/__init__.py": f"""__version__ = '2.6.0+cu124'
import json, random
try: import numpy
except ImportError: pass
{ARRAYS}
class nn:
    class functional:
        @staticmethod
        def conv2d(one, other): return one
""",
}
PLAIN_TORCH = {
    "torch/__init__.py": TORCH["torch/__init__.py"],
    "torch/version.py": "cuda = None\n",
    "torch-2.6.0+cpu.dist-info/WHEEL": "",
}
TENSORFLOW = {
    "tensorflow/__init__.py": f"""__version__ = '2.18.0'
print("I0000 what TensorFlow prints")
{ARRAYS}
class linalg:
    matmul = staticmethod(lambda one, other: one)
class config:
    list_physical_devices = staticmethod(lambda kind: [kind])
""",
    "tensorflow/python/platform/build_info.py": "build_info = {'cuda_version': '12.5'}\n",
    "tensorflow-2.18.0.dist-info/WHEEL": "",
}
CUDNN = {"nvidia_cudnn_cu12-9.3.dist-info/WHEEL": ""}
JAX = {
    "jax/__init__.py": "__version__ = '0.5.0'\ndef default_backend(): return 'gpu'\n"
    "import jax.numpy\n",
    "jax/numpy/__init__.py": ARRAYS,
    "jax-0.5.0.dist-info/WHEEL": "",
    "jaxlib-0.5.0.dist-info/WHEEL": "",
}
JAX_PLUGIN = {"jax_cuda12_plugin-0.5.0.dist-info/WHEEL": ""}
NCCL, CUBLAS = "nvidia/nccl/lib/libnccl.so.2", "nvidia/cublas/lib/libcublas.so.12"
WHEELS = {
    NCCL: "library",
    "nvidia_nccl_cu12-2.21.5.dist-info/RECORD": f"{NCCL},sha256=x,7\nempty,,\n",
    CUBLAS: "library",
    "nvidia_cublas_cu12-12.4.5.8.dist-info/RECORD": f'"{CUBLAS}",sha256=x,7\n',
    "torch-2.6.0.dist-info/METADATA": """Name: torch
Requires-Dist: nvidia-nccl-cu12==2.21.5; platform_system == "Linux"
Requires-Dist: nvidia-cublas-cu12 (==12.4.5.8) ; platform_system == "Linux"
Requires-Dist: triton==3.2.0 ; platform_system == "Linux"
Requires-Dist: nvidia-cudnn-cu12==1.0; extra == "other"
""",
}


def torch(more: str, **files: str) -> dict[str, str]:
    """A torch whose import ends with `more`."""
    return {**TORCH, "torch/__init__.py": f"{TORCH['torch/__init__.py']}\n{more}\n", **files}


@dataclass
class Case:
    """A machine and a Python: what differs from one in which nothing is wrong, and what is said.

    `without`: files that are missing. `shell`: what runs before the program, with `$R` the machine.
    `path`: a folder of PYTHONPATH. `quick`: what hangs is waited for 4 seconds.
    """

    said: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    site: Mapping[str, str] = field(default_factory=lambda: TORCH)
    here: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""
    library: str = f"lib/libcuda.so.{DRIVER}"
    path: str = ""
    quick: bool = False


def asked(folder: Path, cuda: Path, case: Case) -> tuple[int, list[str]]:
    """Exit status and lines of the doctor on that machine, in namespaces of its own."""
    root = folder / "root"
    files.write(
        root,
        {
            name: text
            for name, text in {**MACHINE, **case.machine}.items()
            if name not in case.without
        },
    )
    if f"{BUS}/vendor" in case.without:
        (root / BUS / "class").unlink()
        (root / BUS).rmdir()
    files.write(folder / "site", {"empty": "", **case.site})
    files.write(folder / "here", {"empty": "", **case.here})
    library = folder / (case.library or "lib/none")
    library.parent.mkdir(parents=True)
    if case.library:
        library.write_bytes(cuda.read_bytes())
        (library.parent / "libcuda.so.1").symlink_to(library.name)
    (library.parent / "libnvidia-ml.so.1").symlink_to(library.name)
    environ = {name: text.format(R=root) for name, text in case.environ.items()}
    libraries = ":".join(filter(None, [environ.get("LD_LIBRARY_PATH"), str(library.parent)]))
    program = PROGRAM.read_text(encoding="utf-8")
    files.write(
        folder,
        {
            "doctor.py": program.replace(
                "SECONDS = 120.0", f"SECONDS = {4 if case.quick else 120}"
            ),
            "try.py": PROGRAM.with_name("ml_try.py").read_text(encoding="utf-8"),
        },
    )
    done = subprocess.run(
        [
            "unshare",
            "--mount",
            "sh",
            "-c",
            f"ulimit -n 8192; {case.shell or ':'}; "
            f"exec {sys.executable} -S -B ../doctor.py --root $R",
        ],
        cwd=folder / "here",
        capture_output=True,
        text=True,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{case.path.format(R=root) or folder}:{folder / 'site'}",
            "R": str(root),
            **environ,
            "LD_LIBRARY_PATH": libraries,
        },
    )
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout.splitlines()
