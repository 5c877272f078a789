#!/usr/bin/env python3
"""Say why torch, TensorFlow or JAX of this Python does not use the GPU or the CPU fully.

    ml doctor                      the Python of this shell
    ml doctor --container NAME     the Python of a running container of Docker

One line for each finding: what is wrong, then what to do. Exit status 1 where there is one, else 0.
A note says what the hardware cannot do; it is no finding. Nothing is imported that could take
seconds or fail: frameworks are read as files, and CUDA is asked by a process that may hang.
The program needs Python 3.8 and nothing else, as it also runs in other people's containers.
"""

import argparse
import ctypes
import json
import os
import platform
import re
import resource
import subprocess
import sys
from pathlib import Path

CUDA_NEEDS = {11: 450, 12: 525, 13: 580}
"""CUDA's major version, and the oldest branch of the driver for it (CUDA's release notes, "CUDA
Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility")."""
OLDEST_GPU = {12: (5, 0), 13: (7, 5)}
"""CUDA's major version, and the oldest compute capability that it compiles for (release notes)."""
BF16_SINCE = (8, 0)
"""Compute capability of the first GPUs with bfloat16 (CUDA C++ Programming Guide, arithmetic)."""
ANSWERS = {
    2: "CUDA is out of memory: another process holds it (`nvidia-smi` names it)",
    3: "the driver does not answer (CUDA error 3): see `dmesg` for `NVRM`",
    100: "CUDA finds no GPU (error 100): see `nvidia-smi` and `dmesg` for `NVRM`",
    802: "NVSwitches are not set up (CUDA error 802): run `systemctl restart nvidia-fabricmanager`",
    803: "libcuda and the kernel's driver are of two versions (CUDA error 803): reboot",
    804: "a container's own libcuda does not fit this driver (CUDA error 804): remove its compat folder",
    999: "the driver failed (CUDA error 999): see `dmesg` for `NVRM` or `Xid`, then reboot",
}
"""Results of cuInit (cuda.h, CUresult)."""
SECONDS = 1.5
"""How long CUDA may take to answer: where it does, it takes 0.3 s."""
SHM = "/dev/shm"  # noqa: S108 - it is asked for its size
SHM_MIB, FILES = 1024, 4096
"""Less shared memory or fewer open files stop data loaders with several workers."""
ASK = """
import ctypes, json
cuda = ctypes.CDLL("libcuda.so.1")
status, count, version = cuda.cuInit(0), ctypes.c_int(), ctypes.c_int()
cuda.cuDeviceGetCount(ctypes.byref(count))
cuda.cuDriverGetVersion(ctypes.byref(version))
capabilities = []
for index in range(count.value):
    major, minor = ctypes.c_int(), ctypes.c_int()
    cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, index)
    cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
    capabilities.append([major.value, minor.value])
print(json.dumps([status, version.value, capabilities]))
"""


class Machine:
    """What is read of the machine; `root` is another tree in tests."""

    def __init__(self, root):
        self.root = Path(root)

    def at(self, path):
        """Where an absolute path is."""
        return self.root / path.lstrip("/")

    def text(self, path):
        """A file's text; "" where it cannot be read."""
        return read(self.at(path))

    @property
    def gpus(self):
        """PCI folders of NVIDIA's display controllers."""
        return [path for path in sorted(self.at("/sys/bus/pci/devices").glob("*"))
                if (path / "vendor").read_text().strip() == "0x10de"
                and (path / "class").read_text().startswith("0x03")]

    @property
    def driver(self):
        """The version of the driver that is loaded, or ""."""
        found = re.search(r"NVRM version:.*?\s(\d+(?:\.\d+){1,2})\s",
                          self.text("/proc/driver/nvidia/version"))
        return found[1] if found else ""

    @property
    def is_container(self):
        """Whether Docker or Podman runs this."""
        return any(self.at(path).exists() for path in ("/.dockerenv", "/run/.containerenv"))


def installed(name):
    """Version and folder of a distribution that this Python would use, or two empty strings."""
    word = name.replace("-", "[-_.]")
    for folder in sys.path:
        for path in sorted(Path(folder or ".").glob("*.dist-info")):
            found = re.fullmatch(rf"{word}-(.+)\.dist-info", path.name, re.IGNORECASE)
            if found:
                return found[1], folder or "."
    return "", ""


def read(*parts):
    """The text of a file; "" where it cannot be read."""
    try:
        return Path(*parts).read_text(errors="replace")
    except OSError:
        return ""


def machine_findings(machine):
    """Why no program of this machine or container has a GPU; the first reason is the cause."""
    drivers = {(path / "driver").resolve().name for path in machine.gpus}
    if "nouveau" in drivers:
        return ["nouveau holds the GPU: blacklist it and reboot"]
    if not machine.driver:
        return ["NVIDIA's kernel module is not loaded: run `sudo modprobe nvidia`, see `dmesg`"]
    nodes = sorted(path.name for path in machine.at("/dev").glob("nvidia[0-9]*"))
    missing = [name for name in ("nvidiactl", "nvidia-uvm") if not machine.at(f"/dev/{name}").exists()]
    missing += [] if nodes else ["nvidia0"]
    if missing and machine.is_container:
        return [f"the container was given no GPU (no /dev/{missing[0]}): start it with `--gpus all`"]
    if missing:
        return [f"/dev/{missing[0]} is missing: run `sudo nvidia-modprobe -u -c 0`"]
    return _closed_nodes(machine, [*nodes, "nvidiactl", "nvidia-uvm"])


def _closed_nodes(machine, names):
    for name in names:
        try:
            os.close(os.open(machine.at(f"/dev/{name}"), os.O_RDWR))
        except PermissionError as error:
            if os.access(machine.at(f"/dev/{name}"), os.R_OK | os.W_OK):
                return [f"the cgroup denies /dev/{name} ({error.strerror}): "
                        "start the unit or container anew with the GPU as its device"]
            return [f"/dev/{name} may not be opened by you: run `sudo chmod 0666 /dev/{name}`"]
        except OSError as error:
            return [f"/dev/{name} does not open ({error.strerror}): see `dmesg` for `NVRM`"]
    return []


def library_findings(machine):
    """What is wrong with the libcuda that programs get."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        fix = "start it with `--gpus all`" if machine.is_container else "install libcuda1"
        return [f"libcuda.so.1 is not found: {fix}"]
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    paths = {row[5] for row in lines if len(row) == 6 and "libcuda.so" in row[5]}
    path = sorted(paths)[0] if paths else ""
    if "stubs" in path:
        return [f"{path} is CUDA's stub for the linker: take its folder out of LD_LIBRARY_PATH"]
    version = os.path.realpath(path).partition(".so.")[2]
    if re.fullmatch(r"\d+\.\d+(\.\d+)?", version) and version != machine.driver:
        return [f"{path} is of driver {version}, the kernel's is {machine.driver}: "
                "reboot the machine, or start the container anew"]
    return []


def cuda_answer():
    """Status of cuInit, the CUDA that the driver has, and each GPU's compute capability."""
    try:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", ASK], capture_output=True,
                              text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "CUDA did not answer in 1.5 s: see `dmesg` for `Xid`, then reboot", []
    if done.returncode:
        return f"CUDA's library ended the process that asked it ({done.returncode})", []
    status, _, capabilities = json.loads(done.stdout)
    if status:
        return ANSWERS.get(status, f"cuInit ended with CUDA error {status}: see cuda.h"), []
    return "", [tuple(pair) for pair in capabilities]


def hidden_findings(environ, count):
    """Variables that hide GPUs from programs."""
    found = []
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    numbers = (hidden or "").split(",")
    if hidden is not None and hidden.strip() in ("", "-1"):
        found.append(f"CUDA_VISIBLE_DEVICES={hidden} hides all GPUs: unset it")
    elif any(number.strip().isdecimal() and int(number) >= count for number in numbers):
        found.append(f"CUDA_VISIBLE_DEVICES={hidden} names a GPU that is not there "
                     f"(there are {count}): unset it")
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        if environ.get(name, "").strip() == "cpu":
            found.append(f"{name}=cpu keeps JAX from the GPU: unset it")
    if environ.get("CUDA_LAUNCH_BLOCKING") == "1":
        found.append("CUDA_LAUNCH_BLOCKING=1 makes each kernel wait for the one before: unset it")
    return found


def torch_cuda():
    """CUDA of the torch that is installed: `12.4`, None for a build without, "" for no torch."""
    version, folder = installed("torch")
    if not version:
        return ""
    found = re.search(r"^cuda[^=\n]*= *['\"]([0-9.]+)['\"]", read(folder, "torch/version.py"), re.M)
    return found[1] if found else None


def tensorflow_cuda():
    """The same of TensorFlow."""
    for name in ("tensorflow", "tensorflow-cpu"):
        version, folder = installed(name)
        if version:
            text = read(folder, "tensorflow/python/platform/build_info.py")
            found = re.search(r"['\"]cuda_version['\"]: *['\"]([0-9.]+)", text)
            return found[1] if found else None
    return ""


def jax_cuda():
    """The same of JAX, whose plugin says it by its name."""
    version, _ = installed("jax")
    if not version:
        return ""
    return next((major for major in ("13", "12") if installed(f"jax-cuda{major}-plugin")[0]), None)


def framework_findings(driver, capabilities):
    """Builds without CUDA, for another CUDA, or without their libraries."""
    found = []
    builds = {"torch": torch_cuda(), "TensorFlow": tensorflow_cuda(), "JAX": jax_cuda()}
    for name, cuda in builds.items():
        if cuda is None:
            found.append(f"{name} is built without CUDA ({_version(name)}): {_BUILDS[name]}")
        elif cuda:
            found += _misfits(name, int(cuda.split(".")[0]), driver, capabilities)
    major = (builds["TensorFlow"] or "").split(".")[0]
    if major and not installed(f"nvidia-cudnn-cu{major}")[0]:
        found.append("TensorFlow finds no cuDNN of its own: "
                     "`pip install tensorflow[and-cuda]` brings it")
    if builds["JAX"]:
        plugin = installed(f"jax-cuda{builds['JAX']}-plugin")[0]
        if plugin != installed("jaxlib")[0]:
            found.append(f"jaxlib is {installed('jaxlib')[0] or 'missing'} and its CUDA plugin "
                         f"{plugin}: install both of one version")
    return found


_BUILDS = {"torch": "take the index's own build, whose version has no `+cpu`",
           "TensorFlow": "`pip install tensorflow[and-cuda]`",
           "JAX": "`pip install jax[cuda12]`"}


def _version(name):
    return installed(name.lower())[0] or installed("tensorflow-cpu")[0]


def _misfits(name, major, driver, capabilities):
    branch = int(driver.split(".")[0]) if driver else 0
    if branch and branch < CUDA_NEEDS.get(major, 0):
        return [f"{name} is built for CUDA {major}, which needs driver {CUDA_NEEDS[major]}; "
                f"this machine's is {driver}: take a build for CUDA {_newest(branch)}"]
    old = [pair for pair in capabilities if pair < OLDEST_GPU.get(major, (0, 0))]
    if old:
        return [f"{name} is built for CUDA {major}, which has no code for this GPU "
                f"(sm_{old[0][0]}{old[0][1]}): take a build for CUDA {major - 1}"]
    return []


def _newest(branch):
    return max((cuda for cuda, needs in CUDA_NEEDS.items() if needs <= branch), default="10")


def python_findings(environ):
    """What this Python, its environment and its shell get wrong."""
    found = []
    names = ("torch", "tensorflow", "jax")
    if not any(installed(name)[0] for name in (*names, "tensorflow-cpu")):
        found.append(f"{sys.executable} has none of torch, TensorFlow and JAX: "
                     "`ml env NAME` makes an environment that sees the image's")
    for name in names:
        for path in (f"{name}.py", name):
            if Path(path).exists() and installed(name)[0] and not Path(path, "version.py").exists():
                found.append(f"./{path} hides {name} from programs of this folder: rename it")
    folders = environ["LD_LIBRARY_PATH"].split(":") if environ.get("LD_LIBRARY_PATH") else []
    for folder in folders:
        # An empty entry is the working directory to the loader (ld.so(8)).
        for path in sorted(Path(folder or ".").glob("libcudnn.so.[0-9]*"))[:1]:
            found.append(f"{path} comes before the frameworks' own cuDNN: "
                         f"take {folder or 'the empty entry'} out of LD_LIBRARY_PATH")
    return found + _glibc_findings()


def _glibc_findings():
    kind, has = platform.libc_ver()
    for name in ("torch", "tensorflow", "jaxlib"):
        version, folder = installed(name)
        text = read(folder, f"{name}-{version}.dist-info/WHEEL") if version else ""
        needs = re.search(r"manylinux_2_(\d+)_", text)
        if needs and kind != "glibc":
            return [f"{name} is built for glibc, and this system has none: take another base image"]
        if needs and int(has.split(".")[1]) < int(needs[1]):
            return [f"{name} needs glibc 2.{needs[1]}, this system has {has}: "
                    "take a newer base image"]
    return []


def cpus(machine):
    """How many CPUs this process may use: its set, or its cgroup's quota where that is less."""
    count = len(os.sched_getaffinity(0))
    group = re.search(r"^0::(.*)$", machine.text("/proc/self/cgroup"), re.M)
    folder = group[1].rstrip("/") if group else ""
    while True:
        quota, _, period = machine.text(f"/sys/fs/cgroup{folder}/cpu.max").strip().partition(" ")
        if quota.isdecimal():
            count = min(count, max(1, -(-int(quota) // int(period))))
        if not folder:
            return count
        folder = folder.rpartition("/")[0]


def cpu_findings(machine, environ):
    """What keeps programs from the CPUs, from shared memory, or from files."""
    found, count = [], cpus(machine)
    threads = environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) > count:
        found.append(f"OMP_NUM_THREADS={threads} is more than the {count} CPUs that this "
                     f"session may use: set it to {count}")
    elif threads == "1" and count > 1:
        found.append(f"OMP_NUM_THREADS=1 leaves {count - 1} of {count} CPUs idle: "
                     f"set it to {count}")
    elif not threads and count < len(os.sched_getaffinity(0)):
        found.append(f"this session may use {count} CPUs, and programs start a thread for each of "
                     f"{len(os.sched_getaffinity(0))}: set OMP_NUM_THREADS={count}")
    if len(os.sched_getaffinity(0)) == 1 and (os.cpu_count() or 1) > 1:
        found.append("this process may run on one CPU only: see `taskset -p $$`")
    status = os.statvfs(machine.at(SHM))
    shm = status.f_frsize * status.f_blocks // 2**20
    if shm < SHM_MIB:
        found.append(f"{SHM} has {shm} MiB, too little for data loaders: "
                     "start the container with `--ipc=host` or `--shm-size=8g`")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < FILES:
        found.append(f"a process may open {files} files: run `ulimit -n 65536`")
    return found


def notes(capabilities):
    """What the hardware cannot do."""
    if capabilities and min(capabilities) < BF16_SINCE:
        return ["this GPU has no bfloat16: use float16, with a loss scaler"]
    return []


def examine(machine, environ):
    """Findings and notes, the cause first: what hides the GPU hides all that follows from it."""
    if not machine.gpus:
        return _without_gpu(machine, environ)
    capabilities = []
    gpu = machine_findings(machine) or library_findings(machine)
    if not gpu:
        error, capabilities = cuda_answer()
        hidden = hidden_findings(environ, len(capabilities) or len(machine.gpus))
        # A variable that hides all GPUs is why CUDA finds none.
        gpu = hidden or ([error] if error else [])
    gpu += framework_findings(machine.driver, capabilities)
    return gpu + python_findings(environ) + cpu_findings(machine, environ), notes(capabilities)


def _without_gpu(machine, environ):
    """A machine without a GPU is as somebody wants it, unless a framework was built for one."""
    rest = python_findings(environ) + cpu_findings(machine, environ)
    line = "this machine has no NVIDIA GPU: a type such as g6.xlarge has one"
    wants = any((torch_cuda(), tensorflow_cuda(), jax_cuda()))
    return ([line, *rest], []) if wants else (rest, [line])


def main():
    """Print findings and notes, or what is fine."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--container", metavar="NAME", help="a running container of Docker")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.container:
        program = Path(__file__).read_bytes()
        return subprocess.run(["docker", "exec", "-i", options.container, "python3", "-"],
                              input=program, check=False).returncode
    findings, asides = examine(Machine(options.root), dict(os.environ))
    for line in findings:
        print(line)
    for line in asides:
        print(f"note: {line}")
    if not findings:
        print("nothing is wrong: the frameworks of this Python can use the GPU and the CPU")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
