"""roles/frameworks' ml-doctor: mistakes that people make, each seeded in a made-up machine with a
library of CUDA that answers and small frameworks, and machines in which nothing is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import files
from support.builds.tools import need
from support.gpu.ml_machine import (
    BUS,
    CUBLAS,
    CUDA,
    CUDNN,
    DRIVER,
    JAX,
    JAX_PLUGIN,
    NCCL,
    NUMPY,
    PLAIN_TORCH,
    PROGRAM,
    TENSORFLOW,
    TORCH,
    VERSION,
    WHEELS,
    Case,
    asked,
    torch,
)

QUOTA = {"sys/fs/cgroup/cpu.max": "100000 100000\n", "sys/fs/cgroup/user.slice/cpu.max": "max\n"}
IN_CONTAINER = {".dockerenv": ""}
IN_POD = {"run/secrets/kubernetes.io/serviceaccount/token": ""}
LOADS = "import ctypes; ctypes.CDLL('libcublas.so.12')"
NODES = ("dev/nvidia0", "dev/nvidiactl", "dev/nvidia-uvm")
MISTAKES = {
    "a machine without GPU": Case("this machine has no NVIDIA GPU", without=(f"{BUS}/vendor",)),
    "another driver": Case(
        "nouveau holds the GPU",
        machine={f"{BUS}/driver/x": ""},
        shell=f"mv $R/{BUS}/driver $R/nouveau; ln -s $R/nouveau $R/{BUS}/driver",
    ),
    "no module": Case("NVIDIA's kernel module is not loaded", without=(VERSION,)),
    "no node": Case("/dev/nvidia0 is missing", without=NODES[:1]),
    "no node of UVM": Case("/dev/nvidia-uvm is missing", without=NODES[2:]),
    "a container without GPUs": Case(
        "the container was given no GPU (no /dev/nvidiactl)", machine=IN_CONTAINER, without=NODES
    ),
    "a container without UVM": Case(
        "the container was given no GPU (no /dev/nvidia-uvm)",
        machine=IN_CONTAINER,
        without=NODES[2:],
    ),
    "a denied device": Case(
        "the cgroup denies /dev/nvidia0",
        shell="rm $R/dev/nvidia0; mknod -m 666 $R/dev/nvidia0 c 1 3; "
        "mount --bind $R/dev $R/dev; "
        "mount -o remount,bind,nodev $R/dev",
    ),
    "no libcuda": Case("libcuda.so.1 is not found: install", library=""),
    "no libcuda in a container": Case(
        "libcuda.so.1 is not found: start it with `--gpus all`", machine=IN_CONTAINER, library=""
    ),
    "the linker's stub": Case("stubs/libcuda.so is CUDA's stub", library="lib/stubs/libcuda.so"),
    "another libcuda": Case(
        f"is of driver 535.274.02, the kernel's is {DRIVER}", library="lib/libcuda.so.535.274.02"
    ),
    "a library that hangs": Case("CUDA did not answer in 4 s", {"HANGS": "99"}, quick=True),
    "a library that crashes": Case(
        "CUDA's library ended the process that asked it (-6)", {"ABORTS": "1"}
    ),
    "no NVSwitches": Case("NVSwitches are not set up", {"ANSWER": "802"}),
    "an old container": Case("a container's own libcuda does not fit", {"ANSWER": "804"}),
    "a lost GPU": Case("CUDA finds no GPU (error 100)", {"ANSWER": "100"}),
    "a result of another kind": Case("cuInit ended with CUDA error 700", {"ANSWER": "700"}),
    "hidden GPUs": Case("CUDA_VISIBLE_DEVICES= hides all GPUs", {"CUDA_VISIBLE_DEVICES": ""}),
    "a GPU too many": Case(
        "CUDA_VISIBLE_DEVICES=0,4 names a GPU that is not there (there are 1)",
        {"CUDA_VISIBLE_DEVICES": "0,4"},
    ),
    "JAX on the CPU": Case(
        "JAX_PLATFORMS=cpu", {"JAX_PLATFORMS": "cpu"}, site={**JAX, **JAX_PLUGIN}
    ),
    "kernels that wait": Case("CUDA_LAUNCH_BLOCKING=1", {"CUDA_LAUNCH_BLOCKING": "1"}),
    "torch for CPUs": Case("torch is built without CUDA (2.6.0+cpu)", site=PLAIN_TORCH),
    "a newer CUDA": Case(
        "torch is built for CUDA 13, which needs driver 580; this machine's is "
        f"{DRIVER}: take a build for CUDA 12",
        site={**TORCH, "torch/version.py": "cuda = '13.0'\n"},
    ),
    "an old GPU": Case(
        "torch is built for CUDA 12, which has no code for this GPU (sm_37)", {"CAPABILITY": "37"}
    ),
    "TensorFlow for CPUs": Case(
        "TensorFlow is built without CUDA (2.18.0)",
        site={
            "tensorflow/__init__.py": TENSORFLOW["tensorflow/__init__.py"],
            "tensorflow_cpu-2.18.0.dist-info/WHEEL": "",
        },
    ),
    "TensorFlow without cuDNN": Case("TensorFlow finds no cuDNN of its own", site=TENSORFLOW),
    "JAX for CPUs": Case("JAX is built without CUDA (0.5.0)", site=JAX),
    "another plugin of JAX": Case(
        "jaxlib is 0.5.0 and its CUDA plugin 0.4.1",
        site={**JAX, "jax_cuda12_plugin-0.4.1.dist-info/WHEEL": ""},
    ),
    "the wrong Python": Case("has none of torch, TensorFlow and JAX: `ml env NAME`", site={}),
    "a file in the way": Case("./torch.py hides torch", here={"torch.py": ""}),
    "another cuDNN": Case(
        "libcudnn.so.8 comes before the frameworks' own cuDNN",
        {"LD_LIBRARY_PATH": "old"},
        here={"old/libcudnn.so.8": ""},
    ),
    "an old glibc": Case(
        "not found): take a newer base image",
        site=torch("raise ImportError('libc.so.6: version `GLIBC_2.99\\' not found')"),
    ),
    "too many threads": Case("OMP_NUM_THREADS=64 is more than the ", {"OMP_NUM_THREADS": "64"}),
    "one CPU": Case("this process may run on one CPU only", shell="taskset -p 1 $$ >/dev/null"),
    "little shared memory": Case(
        "/dev/shm has 64 MiB", shell="mount -t tmpfs -o size=64m none $R/dev/shm"
    ),
    "a full home": Case(
        "/home has 7 MiB left",
        {"HOME": "{R}/home"},
        machine={"home/x": ""},
        shell="mount -t tmpfs -o size=8m none $R/home && echo > $R/home/x",
    ),
    "a home without inodes": Case(
        "/home has 0 MiB left",
        {"HOME": "{R}/home"},
        machine={"home/x": ""},
        shell="mount -t tmpfs -o size=1g,nr_inodes=1 none $R/home",
    ),
    "a pod without GPU": Case(
        "this container has no NVIDIA GPU: give the pod `nvidia.com/gpu: 1`",
        machine=IN_POD,
        without=(f"{BUS}/vendor", VERSION),
    ),
    "a pod that asked for none": Case(
        "(no /dev/nvidiactl): give the pod `nvidia.com/gpu: 1`", machine=IN_POD, without=NODES
    ),
    "a pod whose node lacks the driver": Case(
        "the container was given no GPU, or its machine has no driver: give the pod",
        {"KUBERNETES_SERVICE_HOST": "10.0.0.1"},
        without=(VERSION,),
        machine=IN_CONTAINER,
    ),
    "MIG without instances": Case(
        "is partitioned (MIG) and has no instance: `sudo nvidia-smi mig",
        {"MIG": "1", "ANSWER": "100"},
    ),
    "MIG of eight without instances": Case(
        "is partitioned (MIG) and has no instance", {"MIG": "1", "GPUS": "0", "NVML": "8"}
    ),
    "a GPU that another has alone": Case(
        "GPU 0 takes no program: another process has it alone", {"CONTEXT": "46"}
    ),
    "the eighth of eight": Case(
        "GPU 7 takes no program: another process has it alone",
        {"CONTEXT": "46", "OTHER": "7", "GPUS": "8"},
    ),
    "a GPU whose memory is full": Case(
        "GPU 0 takes no program: another process holds its memory", {"CONTEXT": "2"}
    ),
    "a GPU that torch cannot have": Case(
        "busy or unavailable): another process has it alone",
        site=torch(
            "def cuda(self): raise RuntimeError('CUDA error: all CUDA-capable devices are busy or "
            "unavailable')\nArray.cuda = cuda"
        ),
    ),
    "code for other GPUs": Case(
        "torch does not work on the GPU (RuntimeError: CUDA error: no kernel",
        site=torch(
            "def cuda(self): raise RuntimeError('CUDA error: no kernel image is available')\n"
            "Array.cuda = cuda"
        ),
    ),
    "cuDNN of another version": Case(
        "torch does not work on the GPU (RuntimeError: cuDNN version",
        site=torch(
            "def conv2d(*_): raise RuntimeError('cuDNN version incompatibility')\n"
            "nn.functional.conv2d = conv2d"
        ),
    ),
    "a folder in the way": Case("./torch/__init__.py hides torch", here={"torch/__init__.py": ""}),
    "numpy in the way": Case(
        "./numpy.py hides numpy", here={"numpy.py": ""}, site={**TORCH, **NUMPY}
    ),
    "Python's own in the way": Case(
        "./random.py hides random", here={"random.py": "import torch\n"}
    ),
    "one that fails": Case("./json.py hides json", here={"json.py": "raise ImportError('no')\n"}),
    "numpy of another folder": Case(
        "other/numpy/__init__.py hides the numpy of ",
        path="other",
        here={"other/numpy/__init__.py": "__version__ = '1.26'\n"},
        site={**TORCH, **NUMPY},
    ),
    "torch of another folder": Case(
        "other/torch/__init__.py hides the torch of ",
        path="other",
        here={"other/torch/__init__.py": "__version__ = '1.0'\n"},
    ),
    "another numpy": Case(
        "NumPy is not available): `pip install --force-reinstall numpy`",
        site={
            **NUMPY,
            **torch(
                "def numpy(self): raise RuntimeError('NumPy is not available')\nArray.numpy = numpy"
            ),
        },
    ),
    "a numpy that fails": Case(
        "(ImportError: numpy._core failed): `pip install --force-reinstall numpy`",
        site={**TORCH, **NUMPY, "numpy/__init__.py": "raise ImportError('numpy._core failed')"},
    ),
    "a numpy without its parts": Case(
        "(ModuleNotFoundError: No module named 'numpy._core')",
        site={**TORCH, **NUMPY, "numpy/__init__.py": "import numpy._core"},
    ),
    "an emptied NCCL": Case(
        "libnccl.so.2 has 0 of its 7 bytes: `pip install --force-reinstall "
        "--no-deps nvidia-nccl-cu12==2.21.5`",
        site={**torch("raise ImportError('libnccl.so.2: file too short')"), **WHEELS, NCCL: ""},
    ),
    "a lost cuBLAS": Case(
        "libcublas.so.12 has none of its 7 bytes",
        site={**TORCH, **{name: text for name, text in WHEELS.items() if name != CUBLAS}},
    ),
    "a cut library of numpy": Case(
        "_core.so has 3 of its 90 bytes",
        site={
            **TORCH,
            **NUMPY,
            "numpy/_core.so": "cut",
            "numpy-2.4.6.dist-info/RECORD": "numpy/_core.so,sha256=x,90\n",
        },
    ),
    "another NCCL": Case(
        "torch was built with nvidia-nccl-cu12 2.21.5, and 2.27.3 is installed",
        site={
            **TORCH,
            "torch-2.6.0.dist-info/METADATA": WHEELS["torch-2.6.0.dist-info/METADATA"],
            "nvidia_nccl_cu12-2.27.3.dist-info/RECORD": "",
        },
    ),
    "another cuBLAS": Case(
        "torch was built with nvidia-cublas-cu12 12.4.5.8, and 12.9.1 is",
        site={
            **TORCH,
            "torch-2.6.0.dist-info/METADATA": WHEELS["torch-2.6.0.dist-info/METADATA"],
            "nvidia_cublas_cu12-12.9.1.dist-info/RECORD": "",
        },
    ),
    "another Triton": Case(
        "torch was built with triton 3.2.0, and 3.6.0 is",
        site={
            **TORCH,
            "torch-2.6.0.dist-info/METADATA": WHEELS["torch-2.6.0.dist-info/METADATA"],
            "triton-3.6.0.dist-info/RECORD": "",
        },
    ),
    "another cuBLAS by the loader": Case(
        "libcublas.so.12 comes before the frameworks' own",
        {"LD_LIBRARY_PATH": "{R}/toolkit"},
        machine={"toolkit/x": ""},
        site={CUBLAS: "", **torch(LOADS)},
        shell="cp $R/../lib/libcuda.so.1 $R/toolkit/libcublas.so.12",
    ),
    "another NCCL before all": Case(
        "libnccl.so.2 comes before the frameworks' own",
        site={NCCL: "", **TORCH},
        shell="cp $R/../lib/libcuda.so.1 $R/libnccl.so.2; export LD_PRELOAD=$R/libnccl.so.2",
    ),
    "a symbol of another build": Case(
        "torch does not work on the GPU (ImportError: undefined symbol: x)",
        site=torch("raise ImportError('undefined symbol: x')"),
    ),
    "a module that torch needs": Case(
        "No module named 'typing_extras'): `pip install typing_extras`",
        site=torch("import typing_extras"),
    ),
    "a part of torch that is gone": Case(
        "No module named 'torch._C'): `pip install --force-reinstall", site=torch("import torch._C")
    ),
    "torch that crashes": Case(
        "importing torch ended its process (-11): `python3 -X faulthandler",
        site=torch("import os; os.kill(os.getpid(), 11)"),
    ),
    "torch that leaves": Case(
        "torch does not work on the GPU (SystemExit: 3)", site=torch("raise SystemExit(3)")
    ),
    "torch that ends Python": Case(
        "importing torch ended its process (4)", site=torch("import os; os._exit(4)")
    ),
    "torch that hangs": Case(
        "importing torch took 4 s", quick=True, site=torch("import time; time.sleep(99)")
    ),
    "torch that takes all memory": Case(
        "(MemoryError:): it wants more than 32 GiB", site=torch("bytearray(40 << 30)")
    ),
    "an empty torch": Case(
        "torch is a folder without a program",
        site={"torch-2.6.0.dist-info/WHEEL": "", "torch/version.py": "cuda = '12.4'\n"},
    ),
    "a torch that is half new": Case(
        "torch says it is 2.5.1, and pip that it is 2.6.0",
        site={
            **TORCH,
            "torch/__init__.py": TORCH["torch/__init__.py"].replace("2.6.0+cu124", "2.5.1"),
        },
    ),
    "a torch that is not there": Case(
        "(ModuleNotFoundError: No module named 'torch'): `pip install --force-reinstall torch`",
        site={"torch-2.6.0.dist-info/WHEEL": ""},
        without=(f"{BUS}/vendor", VERSION),
    ),
    "TensorFlow without its GPU": Case(
        "TensorFlow does not work on the GPU (AssertionError: it sees no GPU)",
        site={
            **TENSORFLOW,
            **CUDNN,
            "tensorflow/__init__.py": TENSORFLOW["tensorflow/__init__.py"].replace("[kind]", "[]"),
        },
    ),
    "TensorFlow's protobuf": Case(
        "TensorFlow does not work on the GPU (TypeError: Descriptors cannot",
        site={
            **TENSORFLOW,
            **CUDNN,
            "tensorflow/__init__.py": "raise TypeError('Descriptors cannot be created')",
        },
    ),
    "JAX without its GPU": Case(
        "JAX does not work on the GPU (AssertionError: it sees no GPU)",
        site={
            **JAX,
            **JAX_PLUGIN,
            "jax/__init__.py": JAX["jax/__init__.py"].replace("'gpu'", "'cpu'"),
        },
    ),
    "few files": Case("a process may open 1024 files", shell="ulimit -n 1024"),
}
GOOD = {
    "one GPU": Case("torch computed on the GPU"),
    "eight GPUs": Case(environ={"GPUS": "8", "CUDA_VISIBLE_DEVICES": "0,7"}),
    "eight GPUs whose start takes seconds": Case(environ={"GPUS": "8", "HANGS": "2"}),
    "a GPU by its UUID": Case(environ={"CUDA_VISIBLE_DEVICES": "GPU-0000"}),
    "MIG with an instance": Case(environ={"MIG": "1"}),
    "a container": Case(machine=IN_CONTAINER),
    "a pod": Case(machine=IN_POD, environ={"KUBERNETES_SERVICE_HOST": "10.0.0.1"}),
    "TensorFlow": Case("TensorFlow computed on the GPU", site={**TENSORFLOW, **CUDNN}),
    "JAX": Case("JAX computed on the GPU", site={**JAX, **JAX_PLUGIN}),
    "all three": Case(
        "torch computed on the GPU, TensorFlow computed on the GPU, JAX computed on the GPU",
        site={**TORCH, **TENSORFLOW, **CUDNN, **JAX, **JAX_PLUGIN},
    ),
    "a newer GPU": Case(environ={"CAPABILITY": "100"}),
    "a cgroup with its number of threads": Case(machine=QUOTA, environ={"OMP_NUM_THREADS": "1"}),
    "torch for CPUs without a GPU": Case(
        "torch computed on the CPU", site=PLAIN_TORCH, without=(f"{BUS}/vendor", VERSION)
    ),
    "a project that is named as it likes": Case(here={"torch/version.py": "", "jax.txt": ""}),
    "a project with modules": Case(here={"train.py": "", "numerics/__init__.py": ""}),
    "whole wheels": Case(site={**torch(""), **WHEELS}),
    "numpy": Case(site={**TORCH, **NUMPY}),
    "a numpy of one's own before the image's": Case(
        path="{R}/own",
        site={**TORCH, **NUMPY},
        machine={"own/numpy/__init__.py": "", "own/numpy-1.26.dist-info/WHEEL": ""},
    ),
    "torch from its source": Case(
        path="{R}/source",
        site={
            "torch-2.6.0.dist-info/direct_url.json": "{}",
            "torch/version.py": TORCH["torch/version.py"],
        },
        machine={"source/torch/__init__.py": TORCH["torch/__init__.py"]},
    ),
    "the frameworks' own cuBLAS": Case(
        environ={"LD_LIBRARY_PATH": "{R}/../site/nvidia/cublas/lib"},
        site={CUBLAS: "", **torch(LOADS)},
        shell=f"cp $R/../lib/libcuda.so.1 $R/../site/{CUBLAS}",
    ),
    "a home with room": Case(environ={"HOME": "{R}/home"}, machine={"home/x": ""}),
    "torch that prints and never ends its threads": Case(
        site=torch(
            "import threading, time; print('x' * 100000); threading.Thread(target=time.sleep, "
            "args=(99,)).start()"
        )
    ),
}


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda that answers what variables say."""
    need("gcc", "unshare")
    made = tmp_path_factory.mktemp("cuda") / "libcuda.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", made], input=CUDA, text=True, check=True
    )
    return made


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_in_one_line(tmp_path: Path, cuda: Path, name: str) -> None:
    status, lines = asked(tmp_path, cuda, MISTAKES[name])
    lines = [line for line in lines if not line.startswith("note: ")]
    assert (status, len(lines)) == (1, 1), lines
    assert MISTAKES[name].said in lines[0] and ": " in lines[0]


@pytest.mark.parametrize("name", GOOD)
def test_where_nothing_is_wrong_nothing_is_found(tmp_path: Path, cuda: Path, name: str) -> None:
    status, lines = asked(tmp_path, cuda, GOOD[name])
    assert (status, lines[-1].partition(": ")[0]) == (0, "found nothing"), lines
    assert (GOOD[name].said or "computed on the GPU") in lines[-1]


def test_what_was_imported_alone_is_said_so(tmp_path: Path, cuda: Path) -> None:
    """Nothing is said of what was not asked."""
    site = {**TORCH, "torch/__init__.py": "__version__ = '2.6.0'\n"}
    assert asked(tmp_path, cuda, Case(site=site)) == (0, ["found nothing: torch was imported"])


def test_a_container_is_asked_by_the_same_program(tmp_path: Path) -> None:
    """Docker is given both programs as one, which needs no file beside it."""
    files.write_programs(
        tmp_path, {"docker": f'#!/bin/sh\necho "$*" >&2; exec {sys.executable} -S -B -\n'}
    )
    done = subprocess.run(
        [sys.executable, PROGRAM, "--container", "job"],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.stderr == "exec -i job python3 -\n"
    assert "has none of torch, TensorFlow and JAX" in done.stdout


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
