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
import itertools
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

CUDA_NEEDS = {11: 450, 12: 525, 13: 580}
"""CUDA's major versions to the oldest driver branch for each (release notes, "CUDA Toolkit and
Minimum Required Driver Version for CUDA Minor Version Compatibility")."""
OLDEST_GPU = {12: (5, 0), 13: (7, 5)}
"""CUDA's major versions to the oldest compute capability that each compiles for (release notes)."""
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
"""Seconds that CUDA or an import may take. The first import reads gigabytes from a new disk; cuInit
of eight GPUs takes seconds."""
MEMORY = 32 << 30
"""Bytes of memory that an import may take. Threads of many CPUs reserve some of them."""
SHM = "/dev/shm"  # noqa: S108 - it is asked for its size
SHM_MIB, FILES, FREE_MIB = 1024, 4096, 200
"""Least MiB and open files for data loaders with several workers, and least MiB free on a disk."""
if "TRY" not in globals():  # --container has put it before this text: there is no file there
    TRY = Path(__file__).with_name(Path(__file__).name.replace("doctor", "try")).read_text()
TITLES = {"torch": "torch", "tensorflow": "TensorFlow", "jax": "JAX"}
BUILDS = {
    "torch": ("torch/version.py", r"^cuda[^=\n]*= *['\"]([0-9.]+)['\"]"),
    "tensorflow": (
        "tensorflow/python/platform/build_info.py",
        r"cuda_version['\"]: *['\"]([0-9.]+)",
    ),
}
"""Files in which a framework says for which CUDA it is built."""
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
"""What to do, by a text that the error contains in lower case."""


class Machine:
    """The machine, as files show it. `root` is another tree in tests."""

    def __init__(self, root):
        self.root = Path(root)

    def at(self, path):
        """Return an absolute path below the root."""
        return self.root / path.lstrip("/")

    @property
    def gpus(self):
        """Return the PCI folders of NVIDIA's display controllers."""
        return [
            path
            for path in sorted(self.at("/sys/bus/pci/devices").glob("*"))
            if (path / "vendor").read_text().strip() == "0x10de"
            and (path / "class").read_text().startswith("0x03")
        ]

    @property
    def driver(self):
        """Return the version of the loaded driver, or ""."""
        text = read(self.at("/proc/driver/nvidia/version"))
        match = re.search(r"NVRM version:.*?\s(\d+(?:\.\d+){1,2})\s", text)
        return match[1] if match else ""

    @property
    def is_container(self):
        """Return whether this program runs in a container."""
        markers = ("/.dockerenv", "/run/.containerenv", "/run/secrets/kubernetes.io")
        return "container" in os.environ or any(self.at(path).exists() for path in markers)

    @property
    def ask(self):
        """Return the advice how to give a container a GPU."""
        mounted = self.at("/run/secrets/kubernetes.io").exists()
        if "KUBERNETES_SERVICE_HOST" in os.environ or mounted:
            return "give the pod `nvidia.com/gpu: 1` in `resources.limits`"
        return "start it with `--gpus all`"


def distributions(name):
    """Yield each `dist-info` of a distribution; the first is the one that this Python uses."""
    pattern = re.compile(rf"{name.replace('-', '[-_.]')}-([^-]+)\.dist-info", re.IGNORECASE)
    for folder in sys.path:
        paths = sorted(Path(folder or ".").glob("*.dist-info"))
        yield from (path for path in paths if pattern.fullmatch(path.name))


def installed(name):
    """Return version and folder of a distribution that this Python uses, or two empty strings."""
    for path in [*distributions(name), *distributions(f"{name}-cpu")]:
        return path.name[: -len(".dist-info")].rpartition("-")[2], str(path.parent)
    return "", ""


def read(*parts):
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return Path(*parts).read_text(errors="replace")
    except OSError:
        return ""


def machine_findings(machine):
    """Return the first reason why no program here has a GPU: it causes the others."""
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
    if not nodes:
        missing.append("nvidia0")
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
            # The mode allows it, so the refusal comes from the cgroup's device rules.
            if os.access(machine.at(f"/dev/{name}"), os.R_OK | os.W_OK):
                fix = "start the unit or container anew with the GPU as its device"
                return [f"the cgroup denies /dev/{name} ({error.strerror}): {fix}"]
            return [f"/dev/{name} may not be opened by you: run `sudo chmod 0666 /dev/{name}`"]
        except OSError as error:
            return [f"/dev/{name} does not open ({error.strerror}): see `dmesg` for `NVRM`"]
    return []


def library_findings(machine):
    """Return what is wrong with the libcuda that programs load."""
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
        fix = "reboot the machine, or start the container anew"
        return [f"{path} is of driver {version}, the kernel's is {machine.driver}: {fix}"]
    return []


def bounded(*argv):
    """Return a program's output, or None if it takes too long, and its exit status."""

    def limit():
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
        # If memory is short, the kernel shall end this process first.
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")

    frugal = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    argv = [sys.executable, *["-S"] * sys.flags.no_site, "-B", *argv]
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=limit,  # noqa: PLW1509 - no thread
        env={**os.environ, **frugal},
    )
    try:
        return process.communicate(timeout=SECONDS)[0], process.returncode
    except subprocess.TimeoutExpired:
        return None, 0
    finally:
        # No wait(): a process that hangs in the kernel does not end.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def cuda_answer():
    """Return what is wrong with CUDA or "", and each GPU's compute capability."""
    text, exit_status = bounded("-I", "-c", TRY, "cuda")
    if text is None:
        return f"CUDA did not answer in {SECONDS:g} s: see `dmesg` for `Xid`, then reboot", []
    if exit_status:
        return f"CUDA's library ended the process that asked it ({exit_status}): see `dmesg`", []
    answer = ast.literal_eval(text)
    status, capabilities = answer["status"], answer["capabilities"]
    if answer.get("mig") and not capabilities:
        fix = "`sudo nvidia-smi mig -cgi 0 -C` makes one of all of it"
        return f"the GPU is partitioned (MIG) and has no instance: {fix}", []
    if status:
        return ANSWERS.get(status, f"cuInit ended with CUDA error {status}: see cuda.h"), []
    for index, status_of_gpu in enumerate(answer["starts"]):
        if status_of_gpu:
            why = STARTS.get(status_of_gpu, f"CUDA error {status_of_gpu}: see cuda.h")
            return f"GPU {index} takes no program: {why}", capabilities
    return "", capabilities


def hidden_findings(environ, count):
    """Yield the variables that hide GPUs from programs."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    numbers = (visible or "").split(",")
    if visible is not None and visible.strip() in ("", "-1"):
        yield f"CUDA_VISIBLE_DEVICES={visible} hides all GPUs: unset it"
    elif any(number.strip().isdecimal() and int(number) >= count for number in numbers):
        why = f"names a GPU that is not there (there are {count})"
        yield f"CUDA_VISIBLE_DEVICES={visible} {why}: unset it"
    for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME"):
        if environ.get(name, "").strip() == "cpu":
            yield f"{name}=cpu keeps JAX from the GPU: unset it"
    if environ.get("CUDA_LAUNCH_BLOCKING") == "1":
        yield "CUDA_LAUNCH_BLOCKING=1 makes each kernel wait for the one before: unset it"


def built_for(name):
    """Return a framework's CUDA (`12.4`), None for a build without, "" if it is not installed."""
    version, folder = installed(name)
    if not version:
        return ""
    if name == "jax":  # its plugin's name says it
        majors = [major for major in ("13", "12") if installed(f"jax-cuda{major}-plugin")[0]]
        return majors[0] if majors else None
    path, pattern = BUILDS[name]
    match = re.search(pattern, read(folder, path), re.M)
    return match[1] if match else None


def framework_findings(driver, capabilities):
    """Yield builds without CUDA, for another CUDA, or without their libraries."""
    builds = {name: built_for(name) for name in TITLES}
    for name, cuda in builds.items():
        if cuda is None:
            yield f"{TITLES[name]} is built without CUDA ({installed(name)[0]}): {BRING[name]}"
        elif cuda:
            major = int(cuda.split(".")[0])
            if misfit := _misfit(major, driver, capabilities):
                yield f"{TITLES[name]} is built for CUDA {major}, which {misfit}"
    major = (builds["tensorflow"] or "").split(".")[0]
    if major and not installed(f"nvidia-cudnn-cu{major}")[0]:
        yield f"TensorFlow finds no cuDNN of its own: {BRING['tensorflow']} brings it"
    plugin, jaxlib = installed(f"jax-cuda{builds['jax']}-plugin")[0], installed("jaxlib")[0]
    if plugin and plugin != jaxlib:
        fix = "install both of one version"
        yield f"jaxlib is {jaxlib or 'missing'} and its CUDA plugin {plugin}: {fix}"


def _misfit(major, driver, capabilities):
    """Return why a build for a CUDA does not fit the driver or a GPU, or ""."""
    branch, needed = int(driver.split(".")[0]) if driver else 0, CUDA_NEEDS.get(major, 0)
    if branch and branch < needed:
        fitting = max((cuda for cuda, least in CUDA_NEEDS.items() if least <= branch), default="10")
        return f"needs driver {needed}; this machine's is {driver}: take a build for CUDA {fitting}"
    for gpu in capabilities:
        if gpu < OLDEST_GPU.get(major, (0, 0)):
            sm = f"sm_{gpu[0]}{gpu[1]}"
            return f"has no code for this GPU ({sm}): take a build for CUDA {major - 1}"
    return ""


def _files(name):
    """Return which library has a wrong version or size for the installed framework, or ""."""
    metadata = read(*[path / "METADATA" for path in distributions(name)][:1])
    pinned = r"^Requires-Dist: (nvidia-[\w-]+|triton) *\(?==([\w.]+)(?!.*extra)"
    for package, version in re.findall(pinned, metadata, re.M):
        actual = installed(package)[0]
        if actual not in ("", version):
            fix = f"`pip install {package}=={version}`"
            return f"{name} was built with {package} {version}, and {actual} is installed: {fix}"
    packages = (name, "jaxlib", "numpy", "triton", "nvidia-.+")
    for dist in itertools.chain.from_iterable(map(distributions, packages)):
        for row in csv.reader(read(dist, "RECORD").splitlines()):
            path = dist.parent / row[0]
            size = str(path.stat().st_size) if path.is_file() else "none"
            if ".so" in path.name and row[2] not in ("", size):
                wheel = dist.name[: -len(".dist-info")].replace("-", "==").replace("_", "-")
                fix = f"`pip install --force-reinstall --no-deps {wheel}`"
                return f"{path} has {size} of its {row[2]} bytes: {fix}"
    return ""


def _tried(name, device):
    """Import a framework. Return why it does not work or "", the cause first, and what it did."""
    title, (text, exit_status) = TITLES[name], bounded("-c", TRY, name, device)
    reinstall = f"`pip install --force-reinstall {name}` brings its files back"
    if text is None or exit_status:
        failure = f"took {SECONDS:g} s" if text is None else f"ended its process ({exit_status})"
        debug = f"`python3 -X faulthandler -X importtime -c 'import {name}'` shows where"
        return f"importing {title} {failure}: {debug}", ""
    facts = ast.literal_eval(text)
    wrong = _shadow(facts["files"]) or _foreign(facts["mapped"])
    missing = re.search(r"No module named '(\w+)'", facts["error"])
    version = installed(name)[0].partition("+")[0]
    if not wrong and facts["error"]:
        fix = next((tip for key, tip in HINTS.items() if key in facts["error"].lower()), reinstall)
        fix = f"`pip install {missing[1]}`" if missing and missing[1] != name else fix
        wrong = f"{title} does not work on the {device.upper()} ({facts['error']}): {fix}"
    elif not wrong and not facts["file"]:
        wrong = f"{name} is a folder without a program: {reinstall}"
    elif not wrong and version not in (facts["version"] or version):
        wrong = f"{title} says it is {facts['version']}, and pip that it is {version}: {reinstall}"
    return wrong, f"{title} {facts['did']}"


def _shadow(files):
    """Return which file of the working folder or of PYTHONPATH hides an installed module, or ""."""
    cwd, search_path = Path.cwd(), {Path(folder).resolve() for folder in sys.path if folder}
    for module, file in [(module, file) for module, file in files if file]:
        path = Path(file)
        top = path.parent.parent if path.stem == "__init__" else path.parent
        if top.resolve() == cwd not in search_path:
            name = module or path.stem
            return f"./{path.relative_to(top)} hides {name} from programs of this folder: rename it"
        dist = next(distributions(module), None) if module in (*TITLES, "numpy", "jaxlib") else None
        editable = dist and (dist / "direct_url.json").exists()
        if dist and not editable and not top.samefile(dist.parent):
            return f"{file} hides the {module} of {dist.parent}: take {top} out of PYTHONPATH"
    return ""


def _foreign(mapped):
    """Return which loaded library of CUDA is not the one that came with the framework, or ""."""
    own = {}
    for folder in sys.path:
        own.update((path.name, path) for path in Path(folder).glob("nvidia/*/lib/*.so*"))
    for path in map(Path, mapped):
        if path.name in own and not path.samefile(own[path.name]):
            fix = f"take {path.parent} out of LD_LIBRARY_PATH and LD_PRELOAD"
            return f"{path} comes before the frameworks' own {own[path.name]}: {fix}"
    return ""


def python_findings(environ):
    """Yield what is wrong with this Python, its environment and its shell."""
    if not any(installed(name)[0] for name in TITLES):
        fix = "`ml env NAME` makes an environment that sees the image's"
        yield f"{sys.executable} has none of torch, TensorFlow and JAX: {fix}"
    folders = environ["LD_LIBRARY_PATH"].split(":") if environ.get("LD_LIBRARY_PATH") else []
    for folder in folders:
        # An empty entry is the working directory to the loader (ld.so(8)).
        for path in sorted(Path(folder or ".").glob("libcudnn.so.[0-9]*"))[:1]:
            fix = f"take {folder or 'the empty entry'} out of LD_LIBRARY_PATH"
            yield f"{path} comes before the frameworks' own cuDNN: {fix}"


def cpus(machine):
    """Return the number of CPUs that this process may use, by its CPU set and cgroups' quotas."""
    count = len(os.sched_getaffinity(0))
    group = re.search(r"^0::(.*)$", read(machine.at("/proc/self/cgroup")), re.M)
    folder = group[1].rstrip("/") if group else ""
    while True:  # each group above may have a lower quota
        limit = read(machine.at(f"/sys/fs/cgroup{folder}/cpu.max"))
        quota, _, period = limit.strip().partition(" ")
        if quota.isdecimal():
            count = min(count, max(1, -(-int(quota) // int(period))))
        if not folder:
            return count
        folder = folder.rpartition("/")[0]


def cpu_findings(machine, environ):
    """Yield what keeps programs from the CPUs, from shared memory, or from files."""
    count, allowed = cpus(machine), len(os.sched_getaffinity(0))
    threads = environ.get("OMP_NUM_THREADS", "")
    if threads.isdecimal() and int(threads) > count:
        why = f"is more than the {count} CPUs that this session may use"
        yield f"OMP_NUM_THREADS={threads} {why}: set it to {count}"
    elif threads == "1" and count > 1:
        yield f"OMP_NUM_THREADS=1 leaves {count - 1} of {count} CPUs idle: set it to {count}"
    elif not threads and count < allowed:
        default = f"programs start a thread for each of {allowed}"
        yield f"this session may use {count} CPUs, and {default}: set OMP_NUM_THREADS={count}"
    if allowed == 1 and (os.cpu_count() or 1) > 1:
        yield "this process may run on one CPU only: see `taskset -p $$`"
    shm = _mib(machine.at(SHM), "f_blocks")
    if shm < SHM_MIB:
        fix = "start the container with `--ipc=host` or `--shm-size=8g`"
        yield f"{SHM} has {shm} MiB, too little for data loaders: {fix}"
    for folder in (environ.get("HOME", ""), "/tmp"):  # noqa: S108 - it is asked for its size
        if folder and Path(folder).is_dir() and _mib(folder, "f_bavail") < FREE_MIB:
            left, fix = _mib(folder, "f_bavail"), f"`du -xh {folder} | sort -h` shows the rest"
            content = "where frameworks keep what they compile and download"
            yield f"{folder} has {left} MiB left, {content}: {fix}"
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < FILES:
        yield f"a process may open {files} files: run `ulimit -n 65536`"


def _mib(folder, field):
    """Return a file system's size or free space in MiB; 0 if it has no inode left."""
    status = os.statvfs(folder)
    has_no_inode = status.f_files and not status.f_favail
    return 0 if has_no_inode else status.f_frsize * getattr(status, field) >> 20


def examine(machine, environ):
    """Return findings, notes and successes. A cause that hides the GPU hides what follows from
    it."""
    capabilities, gpu, notes = [], [], []
    if not machine.gpus:
        # A machine without a GPU is as somebody wants it, unless a framework was built for one.
        place, fix = "machine", "a type such as g6.xlarge has one"
        if machine.is_container:
            place, fix = "container", machine.ask
        lines = gpu if any(map(built_for, TITLES)) else notes
        lines.append(f"this {place} has no NVIDIA GPU: {fix}")
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
        notes.append("this GPU has no bfloat16: use float16, with a loss scaler")
    findings = [*gpu, *python_findings(environ), *cpu_findings(machine, environ)]
    return findings, notes, [did for _, _, did in tried]


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
    findings, notes, tried = examine(Machine(options.root), dict(os.environ))
    for line in [*findings, *(f"note: {line}" for line in notes)]:
        print(line)
    if not findings:
        print(f"found nothing: {', '.join(tried)}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
