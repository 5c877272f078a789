"""Calls that may hang, crash or take memory: ml-doctor runs them in a process of their own.

    ml-try cuda                          ask CUDA of each GPU
    ml-try torch|tensorflow|jax gpu|cpu  import a framework, as a program here would, and compute

It prints a Python literal. Nothing is imported here that the working folder could hide.
"""

import sys


def cuda():
    """Return cuInit's status, each GPU's compute capability and whether it takes a program, and
    whether one is partitioned."""
    import ctypes  # noqa: PLC0415 - the working folder may hide it from a framework

    library, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
    status, count, mig = library.cuInit(0), ctypes.c_int(), ctypes.c_uint()
    library.cuDeviceGetCount(ctypes.byref(count))
    answer = {"status": status, "capabilities": [], "starts": []}
    for index in range(0 if status else count.value):
        major, minor = ctypes.c_int(), ctypes.c_int()
        # cuda.h: CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR is 75, ..._MINOR 76.
        library.cuDeviceGetAttribute(ctypes.byref(major), 75, index)
        library.cuDeviceGetAttribute(ctypes.byref(minor), 76, index)
        answer["capabilities"].append((major.value, minor.value))
        if hasattr(library, "cuCtxCreate_v2"):
            answer["starts"].append(library.cuCtxCreate_v2(ctypes.byref(context), 0, index))
    try:
        nvml, device, count = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p(), ctypes.c_uint()
        nvml.nvmlInit_v2()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for index in range(count.value):
            nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device))
            nvml.nvmlDeviceGetMigMode(device, ctypes.byref(mig), ctypes.byref(ctypes.c_uint()))
            answer["mig"] = answer.get("mig") or mig.value
    except (OSError, AttributeError):
        pass
    return answer


def compute(module, name, gpu):
    """Multiply matrices with the framework's own libraries."""
    if name == "torch":
        matrix = module.ones(8, 8)
        (matrix @ matrix).sum().item()
        try:
            import numpy  # noqa: F401, PLC0415 - torch says nothing of one that is broken
        except ModuleNotFoundError as error:
            if error.name != "numpy":
                raise
        else:
            (matrix @ matrix).numpy()
        if gpu:
            matrix = matrix.cuda()
            module.nn.functional.conv2d(
                (matrix @ matrix)[None, None], matrix[None, None]
            ).sum().item()
    elif name == "tensorflow":
        module.linalg.matmul(module.ones((8, 8)), module.ones((8, 8))).numpy()
        assert not gpu or module.config.list_physical_devices("GPU"), "it sees no GPU"
    else:
        (module.numpy.ones((8, 8)) @ module.numpy.ones((8, 8))).block_until_ready()
        assert not gpu or module.default_backend() == "gpu", "it sees no GPU"


def framework(name, device):
    """Import a framework and compute. Return the error or "", its version, and the files that were
    imported."""
    answer, files = {"error": "", "file": "", "version": "", "did": "was imported"}, []
    try:
        module = __import__(name)
        answer.update(file=module.__file__ or "", version=getattr(module, "__version__", ""))
        if hasattr(module, "numpy" if name == "jax" else "ones"):
            compute(module, name, device == "gpu")
            answer["did"] = f"computed on the {device.upper()}"
    except BaseException as error:
        answer["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        while error.__traceback__:
            files.append(("", error.__traceback__.tb_frame.f_code.co_filename))
            error.__traceback__ = error.__traceback__.tb_next
    files += [
        (module_name, getattr(module, "__file__", None))
        for module_name, module in list(sys.modules.items())
        if "." not in module_name
    ]
    files = [
        (module_name, file)
        for module_name, file in files
        if isinstance(file, str) and "<" not in file
    ]
    with open("/proc/self/maps") as maps:  # noqa: PTH123 - pathlib may be hidden
        mapped = sorted({line.split()[-1] for line in maps if ".so" in line})
    return dict(answer, files=files, mapped=mapped)


if __name__ == "__main__":
    import os

    out = os.dup(1)
    os.dup2(2, 1)  # libraries print to stdout, which is for the answer alone
    os.write(out, repr(cuda() if sys.argv[1] == "cuda" else framework(*sys.argv[1:])).encode())
    os._exit(0)
