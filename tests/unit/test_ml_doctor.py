"""roles/frameworks' ml-doctor: mistakes that people make, each seeded in a made-up machine with a
library of CUDA that answers, and machines in which nothing is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support import files
from support.builds.tools import need

PROGRAM = Path(__file__).resolve().parents[2] / "roles/frameworks/files/ml_doctor.py"
BUS = "sys/bus/pci/devices/0000:00:1e.0"
DRIVER = "550.163.01"
CUDA = r"""
#include <stdlib.h>
#include <unistd.h>
static int say(const char *name, int usual) { char *v = getenv(name); return v ? atoi(v) : usual; }
int cuInit(unsigned flags) { sleep(say("HANGS", 0)); return say("ANSWER", 0); }
int cuDeviceGetCount(int *count) { *count = say("GPUS", 1); return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetAttribute(int *value, int what, int index) {
    *value = what == 75 ? say("CAPABILITY", 86) / 10 : say("CAPABILITY", 86) % 10;
    return 0;
}
"""
MACHINE = {
    f"{BUS}/vendor": "0x10de\n", f"{BUS}/class": "0x030200\n",
    "proc/driver/nvidia/version":
        f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {DRIVER}  Tue\n",
    "dev/nvidia0": "", "dev/nvidiactl": "", "dev/nvidia-uvm": "", "dev/shm/x": "",
    "proc/self/cgroup": "0::/user.slice\n",
}
TORCH = {"torch/version.py": "cuda: Optional[str] = '12.4'\n",
         "torch-2.6.0.dist-info/WHEEL": "Tag: cp313-cp313-manylinux_2_17_x86_64\n"}
PLAIN_TORCH = {"torch/version.py": "cuda = None\n", "torch-2.6.0+cpu.dist-info/WHEEL": ""}
TENSORFLOW = {"tensorflow/python/platform/build_info.py": "build_info = {'cuda_version': '12.5'}\n",
              "tensorflow-2.18.0.dist-info/WHEEL": ""}
CUDNN = {"nvidia_cudnn_cu12-9.3.dist-info/WHEEL": ""}
JAX = {"jax-0.5.0.dist-info/WHEEL": "", "jaxlib-0.5.0.dist-info/WHEEL": ""}
JAX_PLUGIN = {"jax_cuda12_plugin-0.5.0.dist-info/WHEEL": ""}
QUOTA = {"sys/fs/cgroup/cpu.max": "100000 100000\n", "sys/fs/cgroup/user.slice/cpu.max": "max\n"}
IN_CONTAINER = {".dockerenv": ""}


@dataclass
class Case:
    """A machine and a Python: what differs from one in which nothing is wrong, and what is said.

    `without`: files that are missing. `shell`: what runs before the program.
    """

    said: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    site: Mapping[str, str] = field(default_factory=lambda: TORCH)
    here: Mapping[str, str] = field(default_factory=dict)
    shell: str = ""
    library: str = f"lib/libcuda.so.{DRIVER}"


NODES = ("dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")
MISTAKES = {
    "a machine without GPU": Case("this machine has no NVIDIA GPU", without=(f"{BUS}/vendor",)),
    "another driver": Case("nouveau holds the GPU", machine={f"{BUS}/driver/x": ""},
                           shell=f"mv $R/{BUS}/driver $R/nouveau; ln -s $R/nouveau $R/{BUS}/driver"),
    "no module": Case("NVIDIA's kernel module is not loaded",
                      without=("proc/driver/nvidia/version",)),
    "no node": Case("/dev/nvidia0 is missing", without=NODES[:1]),
    "no node of UVM": Case("/dev/nvidia-uvm is missing", without=NODES[2:]),
    "a container without GPUs": Case("the container was given no GPU (no /dev/nvidiactl)",
                                     machine=IN_CONTAINER, without=NODES),
    "a container without UVM": Case("the container was given no GPU (no /dev/nvidia-uvm)",
                                    machine=IN_CONTAINER, without=NODES[2:]),
    "a denied device": Case("the cgroup denies /dev/nvidia0",
                            shell="rm $R/dev/nvidia0; mknod -m 666 $R/dev/nvidia0 c 1 3; "
                                  "mount --bind $R/dev $R/dev; "
                                  "mount -o remount,bind,nodev $R/dev"),
    "no libcuda": Case("libcuda.so.1 is not found: install", library=""),
    "no libcuda in a container": Case("libcuda.so.1 is not found: start it with `--gpus all`",
                                      machine=IN_CONTAINER, library=""),
    "the linker's stub": Case("stubs/libcuda.so is CUDA's stub", library="lib/stubs/libcuda.so"),
    "another libcuda": Case(f"is of driver 535.274.02, the kernel's is {DRIVER}",
                            library="lib/libcuda.so.535.274.02"),
    "a library that hangs": Case("CUDA did not answer in 1.5 s", {"HANGS": "9"}),
    "no NVSwitches": Case("NVSwitches are not set up", {"ANSWER": "802"}),
    "an old container": Case("a container's own libcuda does not fit", {"ANSWER": "804"}),
    "a lost GPU": Case("CUDA finds no GPU (error 100)", {"ANSWER": "100"}),
    "a result of another kind": Case("cuInit ended with CUDA error 700", {"ANSWER": "700"}),
    "hidden GPUs": Case("CUDA_VISIBLE_DEVICES= hides all GPUs", {"CUDA_VISIBLE_DEVICES": ""}),
    "a GPU too many": Case("CUDA_VISIBLE_DEVICES=0,4 names a GPU that is not there (there are 1)",
                           {"CUDA_VISIBLE_DEVICES": "0,4"}),
    "JAX on the CPU": Case("JAX_PLATFORMS=cpu", {"JAX_PLATFORMS": "cpu"},
                           site={**JAX, **JAX_PLUGIN}),
    "kernels that wait": Case("CUDA_LAUNCH_BLOCKING=1", {"CUDA_LAUNCH_BLOCKING": "1"}),
    "torch for CPUs": Case("torch is built without CUDA (2.6.0+cpu)", site=PLAIN_TORCH),
    "a newer CUDA": Case("torch is built for CUDA 13, which needs driver 580; this machine's is "
                         f"{DRIVER}: take a build for CUDA 12",
                         site={**TORCH, "torch/version.py": "cuda = '13.0'\n"}),
    "an old GPU": Case("torch is built for CUDA 12, which has no code for this GPU (sm_37)",
                       {"CAPABILITY": "37"}),
    "TensorFlow for CPUs": Case("TensorFlow is built without CUDA (2.18.0)",
                                site={"tensorflow_cpu-2.18.0.dist-info/WHEEL": ""}),
    "TensorFlow without cuDNN": Case("TensorFlow finds no cuDNN of its own", site=TENSORFLOW),
    "JAX for CPUs": Case("JAX is built without CUDA (0.5.0)", site=JAX),
    "another plugin of JAX": Case("jaxlib is 0.5.0 and its CUDA plugin 0.4.1",
                                  site={**JAX, "jax_cuda12_plugin-0.4.1.dist-info/WHEEL": ""}),
    "the wrong Python": Case("has none of torch, TensorFlow and JAX: `ml env NAME`", site={}),
    "a file in the way": Case("./torch.py hides torch", here={"torch.py": ""}),
    "another cuDNN": Case("libcudnn.so.8 comes before the frameworks' own cuDNN",
                          {"LD_LIBRARY_PATH": "old"}, here={"old/libcudnn.so.8": ""}),
    "an old glibc": Case("torch needs glibc 2.99, this system has",
                         site={**TORCH, "torch-2.6.0.dist-info/WHEEL": "Tag: x-manylinux_2_99_x\n"}),
    "too many threads": Case("OMP_NUM_THREADS=64 is more than the ", {"OMP_NUM_THREADS": "64"}),
    "one CPU": Case("this process may run on one CPU only", shell="taskset -p 1 $$ >/dev/null"),
    "little shared memory": Case("/dev/shm has 64 MiB",
                                 shell="mount -t tmpfs -o size=64m none $R/dev/shm"),
    "few files": Case("a process may open 1024 files", shell="ulimit -n 1024"),
}
GOOD = {
    "one GPU": Case(),
    "eight GPUs": Case(environ={"GPUS": "8", "CUDA_VISIBLE_DEVICES": "0,7"}),
    "a GPU by its UUID": Case(environ={"CUDA_VISIBLE_DEVICES": "GPU-0000"}),
    "a container": Case(machine=IN_CONTAINER),
    "TensorFlow": Case(site={**TENSORFLOW, **CUDNN}),
    "JAX": Case(site={**JAX, **JAX_PLUGIN}),
    "all three": Case(site={**TORCH, **TENSORFLOW, **CUDNN, **JAX, **JAX_PLUGIN}),
    "a newer GPU": Case(environ={"CAPABILITY": "100"}),
    "a cgroup with its number of threads": Case(machine=QUOTA, environ={"OMP_NUM_THREADS": "1"}),
    "torch for CPUs without a GPU": Case(without=(f"{BUS}/vendor",), site=PLAIN_TORCH),
    "a project that is named as it likes": Case(here={"torch/version.py": "", "jax.txt": ""}),
}


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda that answers what variables say."""
    need("gcc", "unshare")
    made = tmp_path_factory.mktemp("cuda") / "libcuda.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", made], input=CUDA,
                   text=True, check=True)
    return made


def asked(folder: Path, cuda: Path, case: Case) -> tuple[int, list[str]]:
    """Exit status and lines of the doctor on that machine, in namespaces of its own."""
    root = folder / "root"
    files.write(root, {name: text for name, text in {**MACHINE, **case.machine}.items()
                       if name not in case.without})
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
    path = ":".join(filter(None, [case.environ.get("LD_LIBRARY_PATH"), str(library.parent)]))
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c",
         f"ulimit -n 8192; {case.shell or ':'}; exec {sys.executable} -S -B {PROGRAM} --root $R"],
        cwd=folder / "here", capture_output=True, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder / "site"), "R": str(root),
             **case.environ, "LD_LIBRARY_PATH": path})
    assert done.stderr == "", done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, cuda: Path, name: str) -> None:
    status, lines = asked(tmp_path, cuda, MISTAKES[name])
    lines = [line for line in lines if not line.startswith("note: ")]
    assert (status, len(lines)) == (1, 1), lines
    assert MISTAKES[name].said in lines[0] and ": " in lines[0]


@pytest.mark.parametrize("name", GOOD)
def test_where_nothing_is_wrong_nothing_is_found(tmp_path: Path, cuda: Path, name: str) -> None:
    status, lines = asked(tmp_path, cuda, GOOD[name])
    assert (status, lines[-1]) == (
        0, "nothing is wrong: the frameworks of this Python can use the GPU and the CPU")


def test_a_quota_without_a_number_of_threads_is_named(tmp_path: Path, cuda: Path) -> None:
    status, lines = asked(tmp_path, cuda, Case(machine=QUOTA))
    if len(os.sched_getaffinity(0)) == 1:
        assert status == 1
    else:
        assert lines[0].startswith("this session may use 1 CPUs, and programs start a thread for")


def test_what_the_hardware_lacks_is_a_note(tmp_path: Path, cuda: Path) -> None:
    status, lines = asked(tmp_path, cuda, Case(environ={"CAPABILITY": "75"}))
    assert status == 0
    assert lines[0] == "note: this GPU has no bfloat16: use float16, with a loss scaler"
