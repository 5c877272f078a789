#!/usr/bin/env python3
"""Say why torch, TensorFlow or JAX of this Python does not use the GPU or the CPU fully.

    ml doctor                      the Python of this shell
    ml doctor --container NAME     the Python of a running container of Docker

One line for each finding: what is wrong, then what to do. Exit status 1 where there is one, else 0.
A note says what the hardware cannot do; it is no finding. Frameworks are read as files, and then
each is imported, and CUDA asked, by a process of its own, which may hang, crash or take memory.
The program needs Python 3.8 and nothing else, as it also runs in other people's containers.
"""

import argparse
import ast
import contextlib
import csv
import ctypes
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

CUDA_NEEDS = {11: 450, 12: 525, 13: 580}
"""CUDA's major version, and the oldest driver branch for it (release notes, "CUDA Toolkit and
Minimum Required Driver Version for CUDA Minor Version Compatibility")."""
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
    804: "a container's own libcuda does not fit this driver (CUDA error 804): "
    "remove its compat folder",
    999: "the driver failed (CUDA error 999): see `dmesg` for `NVRM` or `Xid`, then reboot",
}
"""Results of cuInit (cuda.h, CUresult)."""
STARTS = {
    2: "another process holds its memory: `nvidia-smi` names it",
    46: "another process has it alone: `nvidia-smi -q -d COMPUTE,PIDS` names it, "
    "`sudo nvidia-smi -c 0` lets programs share it",
}
"""Results of cuCtxCreate (the same)."""
SECONDS = 120.0
"""How long CUDA or an import may take. The first import reads gigabytes from a new disk; cuInit of
eight GPUs takes seconds."""
MEMORY = 32 << 30
"""Bytes that an import may take; threads of many CPUs reserve some of them."""
SHM = "/dev/shm"  # noqa: S108 - it is asked for its size
SHM_MIB, FILES, FREE_MIB = 1024, 4096, 200
"""Less shared memory or fewer files stop data loaders with several workers, a full disk all."""
if "TRY" not in globals():  # as in a container, where there is no such file
    TRY = Path(__file__).with_name(Path(__file__).name.replace("doctor", "try")).read_text()
TITLES = {"torch": "torch", "tensorflow": "TensorFlow", "jax": "JAX"}
BUILDS = {
    "torch": ("torch/version.py", r"^cuda[^=\n]*= *['\"]([0-9.]+)['\"]"),
    "tensorflow": (
        "tensorflow/python/platform/build_info.py",
        r"cuda_version['\"]: *['\"]([0-9.]+)",
    ),
}
"""Where a framework says for which CUDA it is built."""
BRING = {
    "torch": "take the index's own build, whose version has no `+cpu`",
    "tensorflow": "`pip install tensorflow[and-cuda]`",
    "jax": "`pip install jax[cuda12]`",
}
HINTS = {
    "`glibc_": "take a newer base image",
    "numpy": "`pip install --force-reinstall numpy`; a torch before 2.3 wants 'numpy<2'",
    "busy or unavailable": STARTS[46],
    "out of memory": STARTS[2],
    "no kernel image": "take a build with code for this GPU",
    "memoryerror": f"it wants more than {MEMORY >> 30} GiB",
}
"""What to do by a word of an error, in small letters."""


class Machine:
    """What is read of the machine; `root` is another tree in tests."""

    def __init__(self, root):
        self.root = Path(root)

    def at(self, path):
        """Where an absolute path is."""
        return self.root / path.lstrip("/")

    @property
    def gpus(self):
        """PCI folders of NVIDIA's display controllers."""
        return [
            path
            for path in sorted(self.at("/sys/bus/pci/devices").glob("*"))
            if (path / "vendor").read_text().strip() == "0x10de"
            and (path / "class").read_text().startswith("0x03")
        ]

    @property
    def driver(self):
        """The version of the driver that is loaded, or ""."""
        text = read(self.at("/proc/driver/nvidia/version"))
        found = re.search(r"NVRM version:.*?\s(\d+(?:\.\d+){1,2})\s", text)
        return found[1] if found else ""

    @property
    def is_container(self):
        """Whether an engine of containers runs this."""
        marks = ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io")
        return "container" in os.environ or any(self.at(path).exists() for path in marks)

    @property
    def ask(self):
        """How a container is given a GPU."""
        mounted = self.at("/run/secrets/kubernetes.io").exists()
        if "KUBERNETES_SERVICE_HOST" in os.environ or mounted:
            return "give the pod `nvidia.com/gpu: 1` in `resources.limits`"
        return "start it with `--gpus all`"


def distributions(name):
    """Each `dist-info` of a distribution, the one that this Python would use first."""
    word = re.compile(rf"{name.replace('-', '[-_.]')}-([^-]+)\.dist-info", re.IGNORECASE)
    for folder in sys.path:
        paths = sorted(Path(folder or ".").glob("*.dist-info"))
        yield from (path for path in paths if word.fullmatch(path.name))


def installed(name):
    """Version and folder of a distribution that this Python would use, or two empty strings."""
    for path in [*distributions(name), *distributions(f"{name}-cpu")]:
        return path.name[: -len(".dist-info")].rpartition("-")[2], str(path.parent)
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
    if not machine.driver and machine.is_container:
        return [f"the container was given no GPU, or its machine has no driver: {machine.ask}"]
    if not machine.driver:
        return ["NVIDIA's kernel module is not loaded: run `sudo modprobe nvidia`, see `dmesg`"]
    nodes = sorted(path.name for path in machine.at("/dev").glob("nvidia[0-9]*"))
    shared = ["nvidiactl", "nvidia-uvm"]
    missing = [name for name in shared if not machine.at(f"/dev/{name}").exists()]
    missing += [] if nodes else ["nvidia0"]
    if missing and machine.is_container:
        return [f"the container was given no GPU (no /dev/{missing[0]}): {machine.ask}"]
    if missing:
        return [f"/dev/{missing[0]} is missing: run `sudo nvidia-modprobe -u -c 0`"]
    return _closed_nodes(machine, nodes + shared)


def _closed_nodes(machine, names):
    for name in names:
        try:
            os.close(os.open(machine.at(f"/dev/{name}"), os.O_RDWR))
        except PermissionError as error:
            if os.access(machine.at(f"/dev/{name}"), os.R_OK | os.W_OK):
                do = "start the unit or container anew with the GPU as its device"
                return [f"the cgroup denies /dev/{name} ({error.strerror}): {do}"]
            return [f"/dev/{name} may not be opened by you: run `sudo chmod 0666 /dev/{name}`"]
        except OSError as error:
            return [f"/dev/{name} does not open ({error.strerror}): see `dmesg` for `NVRM`"]
    return []


def library_findings(machine):
    """What is wrong with the libcuda that programs get."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        fix = machine.ask if machine.is_container else "install libcuda1"
        return [f"libcuda.so.1 is not found: {fix}"]
    lines = [line.split(maxsplit=5) for line in Path("/proc/self/maps").read_text().splitlines()]
    path = min((row[5] for row in lines if len(row) == 6 and "libcuda.so" in row[5]), default="")
    if "stubs" in path:
        return [f"{path} is CUDA's stub for the linker: take its folder out of LD_LIBRARY_PATH"]
    version = os.path.realpath(path).partition(".so.")[2]
    if re.fullmatch(r"\d+\.\d+(\.\d+)?", version) and version != machine.driver:
        do = "reboot the machine, or start the container anew"
        return [f"{path} is of driver {version}, the kernel's is {machine.driver}: {do}"]
    return []


def bounded(*argv):
    """What a program of this Python prints, and its status; None for what does not end in time. It
    is the first that the kernel ends where memory is short."""

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")

    calm = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    argv = [sys.executable, *["-S"] * sys.flags.no_site, "-B", *argv]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=limit,  # noqa: PLW1509 - no thread
        env={**os.environ, **calm},
    )
    try:
        return process.communicate(timeout=SECONDS)[0], process.returncode
    except subprocess.TimeoutExpired:
        return None, 0
    finally:
        # It is not waited for: a process that hangs in the kernel does not end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def cuda_answer():
    """What is wrong with CUDA, and each GPU's compute capability."""
    text, ended = bounded("-I", "-c", TRY, "cuda")
    if text is None:
        return f"CUDA did not answer in {SECONDS:g} s: see `dmesg` for `Xid`, then reboot", []
    if ended:
        return f"CUDA's library ended the process that asked it ({ended}): see `dmesg`", []
    said = ast.literal_eval(text)
    status, capabilities = said["status"], said["capabilities"]
    if said.get("mig") and not capabilities:
        do = "`sudo nvidia-smi mig -cgi 0 -C` makes one of all of it"
        return f"the GPU is partitioned (MIG) and has no instance: {do}", []
    if status:
        return ANSWERS.get(status, f"cuInit ended with CUDA error {status}: see cuda.h"), []
    for index, start in enumerate(said["starts"]):
        if start:
            why = STARTS.get(start, f"CUDA error {start}: see cuda.h")
            return f"GPU {index} takes no program: {why}", capabilities
    return "", capabilities


def hidden_findings(environ, count):
    """Variables that hide GPUs from programs."""
    hidden = environ.get("CUDA_VISIBLE_DEVICES")
    numbers = (hidden or "").split(",")
    if hidden is not None and hidden.strip() in ("", "-1"):
        yield f"CUDA_VISIBLE_DEVICES={hidden} hides all GPUs: unset it"
    elif any(number.strip().isdecimal() and int(number) >= count for number in numbers):
        yield (
            f"CUDA_VISIBLE_DEVICES={hidden} names a GPU that is not there "
            f"(there are {count}): unset it"
        )
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        if environ.get(name, "").strip() == "cpu":
            yield f"{name}=cpu keeps JAX from the GPU: unset it"
    if environ.get("CUDA_LAUNCH_BLOCKING") == "1":
        yield "CUDA_LAUNCH_BLOCKING=1 makes each kernel wait for the one before: unset it"


def built_for(name):
    """CUDA of a framework that is installed: `12.4`, None for a build without, "" for none."""
    version, folder = installed(name)
    if not version:
        return ""
    if name == "jax":  # its plugin's name says it
        majors = [major for major in ("13", "12") if installed(f"jax-cuda{major}-plugin")[0]]
        return majors[0] if majors else None
    path, pattern = BUILDS[name]
    found = re.search(pattern, read(folder, path), re.M)
    return found[1] if found else None


def framework_findings(driver, capabilities):
    """Builds without CUDA, for another CUDA, or without their libraries."""
    builds = {name: built_for(name) for name in TITLES}
    for name, cuda in builds.items():
        if cuda is None:
            yield f"{TITLES[name]} is built without CUDA ({installed(name)[0]}): {BRING[name]}"
        elif cuda:
            major = int(cuda.split(".")[0])
            if why := _misfit(major, driver, capabilities):
                yield f"{TITLES[name]} is built for CUDA {major}, which {why}"
    major = (builds["tensorflow"] or "").split(".")[0]
    if major and not installed(f"nvidia-cudnn-cu{major}")[0]:
        yield f"TensorFlow finds no cuDNN of its own: {BRING['tensorflow']} brings it"
    plugin, jaxlib = installed(f"jax-cuda{builds['jax']}-plugin")[0], installed("jaxlib")[0]
    if plugin and plugin != jaxlib:
        do = "install both of one version"
        yield f"jaxlib is {jaxlib or 'missing'} and its CUDA plugin {plugin}: {do}"


def _misfit(major, driver, capabilities):
    branch, needs = int(driver.split(".")[0]) if driver else 0, CUDA_NEEDS.get(major, 0)
    if branch and branch < needs:
        fits = max((cuda for cuda, least in CUDA_NEEDS.items() if least <= branch), default="10")
        return f"needs driver {needs}; this machine's is {driver}: take a build for CUDA {fits}"
    for gpu in capabilities:
        if gpu < OLDEST_GPU.get(major, (0, 0)):
            sm = f"sm_{gpu[0]}{gpu[1]}"
            return f"has no code for this GPU ({sm}): take a build for CUDA {major - 1}"
    return ""


def _files(name):
    """A library of CUDA of another version than the framework was built with, or whose file is not
    as pip installed it."""
    needs = read(*[path / "METADATA" for path in distributions(name)][:1])
    pinned = r"^Requires-Dist: (nvidia-[\w-]+|triton) *\(?==([\w.]+)(?!.*extra)"
    for other, version in re.findall(pinned, needs, re.M):
        has = installed(other)[0]
        if has not in ("", version):
            do = f"`pip install {other}=={version}`"
            return f"{name} was built with {other} {version}, and {has} is installed: {do}"
    others = (name, "jaxlib", "numpy", "triton", "nvidia-.+")
    for dist in [path for other in others for path in distributions(other)]:
        for row in csv.reader(read(dist, "RECORD").splitlines()):
            path = dist.parent / row[0]
            size = str(path.stat().st_size) if path.is_file() else "none"
            if ".so" in path.name and row[2] not in ("", size):
                wheel = dist.name[: -len(".dist-info")].replace("-", "==").replace("_", "-")
                do = f"`pip install --force-reinstall --no-deps {wheel}`"
                return f"{path} has {size} of its {row[2]} bytes: {do}"
    return ""


def _tried(name, device):
    """Why a framework cannot be imported or does not compute, the cause first, and what it did."""
    title, (text, ended) = TITLES[name], bounded("-c", TRY, name, device)
    again = f"`pip install --force-reinstall {name}` brings its files back"
    if text is None or ended:
        how = f"took {SECONDS:g} s" if text is None else f"ended its process ({ended})"
        look = f"`python3 -X faulthandler -X importtime -c 'import {name}'` shows where"
        return f"importing {title} {how}: {look}", ""
    said = ast.literal_eval(text)
    wrong = _shadow(said["files"]) or _foreign(said["mapped"])
    missing = re.search(r"No module named '(\w+)'", said["error"])
    version = installed(name)[0].partition("+")[0]
    if not wrong and said["error"]:
        do = next((hint for word, hint in HINTS.items() if word in said["error"].lower()), again)
        do = f"`pip install {missing[1]}`" if missing and missing[1] != name else do
        wrong = f"{title} does not work on the {device.upper()} ({said['error']}): {do}"
    elif not wrong and not said["file"]:
        wrong = f"{name} is a folder without a program: {again}"
    elif not wrong and version not in (said["version"] or version):
        wrong = f"{title} says it is {said['version']}, and pip that it is {version}: {again}"
    return wrong, f"{title} {said['did']}"


def _shadow(files):
    """Which file is imported in place of an installed one: of the working folder, as a program of
    that folder would, or of another folder of this Python's path."""
    here, folders = Path.cwd(), {Path(folder).resolve() for folder in sys.path if folder}
    for module, file in [(module, file) for module, file in files if file]:
        path = Path(file)
        place = path.parent.parent if path.stem == "__init__" else path.parent
        if place.resolve() == here not in folders:
            what = module or path.stem
            return (
                f"./{path.relative_to(place)} hides {what} from programs of this folder: rename it"
            )
        dist = next(distributions(module), None) if module in (*TITLES, "numpy", "jaxlib") else None
        editable = dist and (dist / "direct_url.json").exists()
        if dist and not editable and not place.samefile(dist.parent):
            return f"{file} hides the {module} of {dist.parent}: take {place} out of PYTHONPATH"
    return ""


def _foreign(mapped):
    """Which library of CUDA is another's than the one that came with the framework."""
    paths = [path for folder in sys.path for path in Path(folder).glob("nvidia/*/lib/*.so*")]
    own = {path.name: path for path in paths}
    for path in map(Path, mapped):
        if path.name in own and not path.samefile(own[path.name]):
            do = f"take {path.parent} out of LD_LIBRARY_PATH and LD_PRELOAD"
            return f"{path} comes before the frameworks' own {own[path.name]}: {do}"
    return ""


def python_findings(environ):
    """What this Python, its environment and its shell get wrong."""
    if not any(installed(name)[0] for name in TITLES):
        do = "`ml env NAME` makes an environment that sees the image's"
        yield f"{sys.executable} has none of torch, TensorFlow and JAX: {do}"
    folders = environ["LD_LIBRARY_PATH"].split(":") if environ.get("LD_LIBRARY_PATH") else []
    for folder in folders:
        # An empty entry is the working directory to the loader (ld.so(8)).
        for path in sorted(Path(folder or ".").glob("libcudnn.so.[0-9]*"))[:1]:
            do = f"take {folder or 'the empty entry'} out of LD_LIBRARY_PATH"
            yield f"{path} comes before the frameworks' own cuDNN: {do}"


def cpus(machine):
    """How many CPUs this process may use: its set, or its cgroup's quota where that is less."""
    count = len(os.sched_getaffinity(0))
    group = re.search(r"^0::(.*)$", read(machine.at("/proc/self/cgroup")), re.M)
    folder = group[1].rstrip("/") if group else ""
    while True:
        limit = read(machine.at(f"/sys/fs/cgroup{folder}/cpu.max"))
        quota, _, period = limit.strip().partition(" ")
        if quota.isdecimal():
            count = min(count, max(1, -(-int(quota) // int(period))))
        if not folder:
            return count
        folder = folder.rpartition("/")[0]


def cpu_findings(machine, environ):
    """What keeps programs from the CPUs, from shared memory, or from files."""
    count, allowed = cpus(machine), len(os.sched_getaffinity(0))
    threads = environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) > count:
        yield (
            f"OMP_NUM_THREADS={threads} is more than the {count} CPUs that this "
            f"session may use: set it to {count}"
        )
    elif threads == "1" and count > 1:
        yield f"OMP_NUM_THREADS=1 leaves {count - 1} of {count} CPUs idle: set it to {count}"
    elif not threads and count < allowed:
        default = f"programs start a thread for each of {allowed}"
        yield f"this session may use {count} CPUs, and {default}: set OMP_NUM_THREADS={count}"
    if allowed == 1 and (os.cpu_count() or 1) > 1:
        yield "this process may run on one CPU only: see `taskset -p $$`"
    shm = _mib(machine.at(SHM), "f_blocks")
    if shm < SHM_MIB:
        do = "start the container with `--ipc=host` or `--shm-size=8g`"
        yield f"{SHM} has {shm} MiB, too little for data loaders: {do}"
    for folder in (environ.get("HOME", ""), "/tmp"):  # noqa: S108 - it is asked for its size
        if folder and Path(folder).is_dir() and _mib(folder, "f_bavail") < FREE_MIB:
            left, do = _mib(folder, "f_bavail"), f"`du -xh {folder} | sort -h` shows the rest"
            keep = "where frameworks keep what they compile and download"
            yield f"{folder} has {left} MiB left, {keep}: {do}"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < FILES:
        yield f"a process may open {files} files: run `ulimit -n 65536`"


def _mib(folder, which):
    status = os.statvfs(folder)
    is_full = status.f_files and not status.f_favail
    return 0 if is_full else status.f_frsize * getattr(status, which) >> 20


def examine(machine, environ):
    """Findings and notes, the cause first: what hides the GPU hides all that follows from it."""
    capabilities, gpu, asides = [], [], []
    if not machine.gpus:
        # A machine without a GPU is as somebody wants it, unless a framework was built for one.
        do = machine.ask if machine.is_container else "a type such as g6.xlarge has one"
        line = f"this {'container' if machine.is_container else 'machine'} has no NVIDIA GPU: {do}"
        (gpu if any(map(built_for, TITLES)) else asides).append(line)
    elif not (gpu := machine_findings(machine) or library_findings(machine)):
        error, capabilities = cuda_answer()
        # A variable that hides all GPUs is why CUDA finds none.
        hidden = hidden_findings(environ, len(capabilities) or len(machine.gpus))
        gpu = list(hidden) or list(filter(None, [error]))
    if machine.gpus:
        gpu += framework_findings(machine.driver, capabilities)
    device = "gpu" if capabilities and not gpu else "cpu"
    tried = [(_files(name), *_tried(name, device)) for name in TITLES if installed(name)[0]]
    gpu += [files or wrong for files, wrong, _ in tried if files or wrong]
    if capabilities and min(capabilities) < BF16_SINCE:
        asides.append("this GPU has no bfloat16: use float16, with a loss scaler")
    findings = [*gpu, *python_findings(environ), *cpu_findings(machine, environ)]
    return findings, asides, [did for _, _, did in tried]


def main():
    """Print findings and notes, or what is fine."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--container", metavar="NAME", help="a running container of Docker")
    parser.add_argument("--root", default="/", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.container:
        program = f"TRY = {TRY!r}\n{Path(__file__).read_text()}"
        argv = ["docker", "exec", "-i", options.container, "python3", "-"]
        return subprocess.run(argv, input=program, text=True, check=False).returncode
    findings, asides, done = examine(Machine(options.root), dict(os.environ))
    for line in [*findings, *(f"note: {line}" for line in asides)]:
        print(line)
    if not findings:
        print(f"found nothing: {', '.join(done)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
