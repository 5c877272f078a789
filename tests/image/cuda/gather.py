"""Runs on the image: prints as JSON what the tests of role cuda look at, in one SSH command.

argv: variant, architectures joined by commas, source of a CUDA program. Needs only the standard library; writes only
to a temporary folder.
"""

import base64
import ctypes
import json
import re
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

VARIANT, ARCHITECTURES, SOURCE = sys.argv[1], sys.argv[2].split(","), sys.argv[3]
LIBRARIES = (
    "cublas", "cublasLt", "cudart", "cufft", "curand", "cusolver", "cusparse", "nvrtc", "nvrtc-builtins", "nvJitLink",
)


def shell(command: str) -> dict[str, object]:
    """What a login shell answers: the one that reads /etc/profile.d."""
    done = subprocess.run(["bash", "-lc", command], capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "out": done.stdout.strip(), "err": done.stderr.strip()}


def cached() -> dict[str, str]:
    """CUDA library -> soname that the linker's cache knows."""
    names = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout.split()
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
    """File that the loader takes for the runtime, and its answer to a count of GPUs.

    cudaRuntimeGetVersion says nothing here: CUDA 11.8's fails without a GPU.
    """
    if soname is None:
        return {}
    library, number = ctypes.CDLL(soname), ctypes.c_int()
    mapped = [line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libcudart.so" in line]
    return {"file": Path(mapped[0]).resolve().name, "count": library.cudaGetDeviceCount(ctypes.byref(number))}


def compiled() -> dict[str, object]:
    """A program for every architecture: built by nvcc, the program itself, what is in it, and how it ends."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "add.cu").write_text(SOURCE)
        codes = " ".join(f"-gencode arch=compute_{one},code=sm_{one}" for one in ARCHITECTURES)
        built = shell(f"cd {folder} && nvcc --threads 0 {codes} -o add add.cu -lcublas")
        images = shell(f"cuobjdump --list-elf {folder}/add")
        found = sorted(set(re.findall(r"sm_(\d+)", str(images["out"]))))
        program = Path(folder, "add").read_bytes() if built["rc"] == 0 else b""
        return {"built": built, "images": found, "ran": shell(f"{folder}/add"),
                "program": base64.b64encode(zlib.compress(program)).decode()}


SONAMES = cached()
print(
    json.dumps(
        {
            "gpu": Path("/proc/driver/nvidia/gpus").is_dir(),
            "driver": shell("/sbin/ldconfig -p | grep -q 'libcuda\\.so\\.1 '")["rc"] == 0,
            "libraries": SONAMES,
            "unloadable": loads(SONAMES),
            "runtime": runtime(SONAMES.get("cudart")),
            "nvcc": shell("nvcc --version"),
            "home": shell('test -x "$CUDA_HOME/bin/nvcc" && test -f "$CUDA_HOME/include/cuda.h" && echo "$CUDA_HOME"'),
            "compiled": compiled() if VARIANT == "toolkit" else {},
            "static": sorted(path.name for path in Path("/usr/lib").glob("*-linux-gnu/libcublas*_static.a")),
            "packages": shell("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' | sed -n 's/^.i  *//p'")["out"],
        }
    )
)
