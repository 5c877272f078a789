"""The image's CUDA: of the locked version, complete, and able to compile and run what the declared
hardware needs."""

import base64
import zlib
from pathlib import Path
from typing import Any

import pytest
from goldenami.local.code_coverage import coverage
from goldenami.model.builds.plans import CoverageRequest
from goldenami.model.supported import instruction_sets

# driver_types.h, cudaError_t: a library that fits but finds no GPU, or no driver at all.
SUCCESS, INSUFFICIENT_DRIVER, NO_DEVICE = 0, 35, 100
RUNTIME = {
    "cublas",
    "cublasLt",
    "cudart",
    "cufft",
    "curand",
    "cusolver",
    "cusparse",
    "nvrtc",
    "nvrtc-builtins",
}
UNWANTED = (
    "default-jre",
    "openjdk",
    "nsight",
    "nvidia-visual-profiler",
    "cuda-documentation",
    "nvidia-cuda-toolkit-doc",
)
HERE = Path(__file__).parent
WITH_NVCC = ("toolkit", "nvcc")
NO_COMPILER = "not asked: the image holds the runtime libraries only, no compiler"


@pytest.fixture(scope="module")
def files(run_program: Any) -> Any:
    """What is on the disk, as a user's login shell finds it."""
    names = ("libraries", "nvcc", "home", "jit", "twice")
    return run_program((HERE / "gather.py").read_text(), *names, root=False)


@pytest.fixture(scope="module")
def facts(run_program: Any) -> Any:
    """How it runs on a machine, for the user who logged in."""
    return run_program(
        (HERE / "gather.py").read_text(), "gpu", "driver", "unloadable", "runtime", root=False
    )


@pytest.fixture(scope="module")
def compiled(run_program: Any, lock: dict[str, Any]) -> Any:
    """A program that the image's compiler made for every declared GPU, and how it ends."""
    if lock["cuda_variant"] not in WITH_NVCC:
        pytest.skip(NO_COMPILER)
    return run_program(
        (HERE / "compile.py").read_text(),
        ",".join(lock["cuda_architectures"]),
        (HERE / "add.cu").read_text(),
        root=False,
    )


@pytest.fixture
def toolkit(files: dict[str, Any], lock: dict[str, Any]) -> dict[str, Any]:
    """What is on the disk, where the image holds the toolkit."""
    if lock["cuda_variant"] not in WITH_NVCC:
        pytest.skip(NO_COMPILER)
    return files


@pytest.fixture(scope="module")
def answer(facts: dict[str, Any]) -> int:
    """What CUDA says on this machine when all is well."""
    return SUCCESS if facts["gpu"] else NO_DEVICE if facts["driver"] else INSUFFICIENT_DRIVER


@pytest.mark.no_boot
def test_libraries_are_complete(files: dict[str, Any], lock: dict[str, Any]) -> None:
    # nvJitLink came with CUDA 12.
    wanted = RUNTIME | ({"nvJitLink"} if int(lock["cuda_version"].split(".")[0]) >= 12 else set())
    missing = sorted(wanted - set(files["libraries"]))
    assert not missing, f"not in the linker's cache: {missing}"


def test_libraries_load(facts: dict[str, Any]) -> None:
    assert facts["unloadable"] == {}


def test_runtime_is_of_the_locked_version(facts: dict[str, Any], lock: dict[str, Any]) -> None:
    if lock["cuda_source"] == "wheels":  # their files are named by the major version
        major, minor = map(int, lock["cuda_version"].split("."))
        assert facts["runtime"]["version"] == 1000 * major + 10 * minor, facts["runtime"]
    else:
        assert facts["runtime"]["file"].startswith(f"libcudart.so.{lock['cuda_version']}."), facts[
            "runtime"
        ]


def test_runtime_answers_as_expected(facts: dict[str, Any], answer: int) -> None:
    assert facts["runtime"]["count"] == answer


@pytest.mark.no_boot
def test_compiler_is_of_the_locked_version(toolkit: dict[str, Any], lock: dict[str, Any]) -> None:
    assert toolkit["nvcc"]["rc"] == 0, toolkit["nvcc"]["err"]
    major = lock["cuda_version"].partition(".")[
        0
    ]  # the distribution's beside wheels: the major alone is the same
    release = f"{major}." if lock["cuda_variant"] == "nvcc" else f"{lock['cuda_version']},"
    assert f"release {release}" in toolkit["nvcc"]["out"]


@pytest.mark.no_boot
def test_shells_know_where_cuda_is(toolkit: dict[str, Any]) -> None:
    assert toolkit["home"]["rc"] == 0, (
        "CUDA_HOME of a login shell has no bin/nvcc or include/cuda.h"
    )


@pytest.mark.no_boot
def test_compilers_at_run_time_have_their_parts(
    files: dict[str, Any], lock: dict[str, Any]
) -> None:
    """Numba, XLA and CuPy look for ptxas, libdevice and headers below CUDA_HOME."""
    if lock["cuda_source"] != "wheels" or lock["cuda_variant"] == "runtime":
        pytest.skip("not asked: variant runtime, or CUDA comes in packages")
    assert files["jit"]["rc"] == 0, files["jit"]
    assert f"release {lock['cuda_version']}," in files["jit"]["out"]


@pytest.mark.no_boot
def test_links_lead_to_the_wheels(user: Any, lock: dict[str, Any]) -> None:
    if lock["cuda_source"] != "wheels":
        pytest.skip("not asked: CUDA comes in packages")
    assert user.check_output("find -L /usr/local/cuda/ -type l") == ""


@pytest.mark.no_boot
def test_no_library_is_there_twice(files: dict[str, Any]) -> None:
    """What frameworks bring and what the toolkit has are the same files."""
    assert files["twice"] == {}


@pytest.mark.no_boot
def test_compiler_reaches_every_declared_gpu(
    compiled: dict[str, Any], lock: dict[str, Any]
) -> None:
    built = compiled["built"]
    assert built["rc"] == 0, built["err"] + built["out"]
    assert compiled["images"] == sorted(lock["cuda_architectures"])


@pytest.mark.no_boot
def test_compiled_program_passes_the_coverage_gate(
    compiled: dict[str, Any],
    lock: dict[str, Any],
    tmp_path: Path,
) -> None:
    """The gate reads what this CUDA's compiler writes: it agrees with cuobjdump, and misses what
    was left out."""
    program = tmp_path / "opt/ml/add"
    program.parent.mkdir(parents=True)
    program.write_bytes(zlib.decompress(base64.b64decode(compiled["program"])))
    declared, older = lock["cuda_architectures"], "37"
    record = coverage.scan(
        tmp_path,
        CoverageRequest(
            folders=["opt/ml"],
            features=sorted(instruction_sets.KNOWN_X86),
            sm=[*declared, older],
            allow=[],
        ),
    )
    assert record.files[0].sass == compiled["images"]
    assert {(found.symbol, found.extension) for found in record.findings} == {
        (coverage.WHOLE, f"sm_{older}")
    }


@pytest.mark.no_boot
def test_compiled_program_runs(compiled: dict[str, Any], answer: int) -> None:
    """It ends in the `no device` error without a GPU: everything before the GPU itself works."""
    ran = compiled["ran"]
    assert ran["out"].split(" ")[0] == str(answer), ran
    assert ran["rc"] == (0 if answer == SUCCESS else 2), ran


@pytest.mark.no_boot
def test_an_extension_of_pytorch_s_compiles_and_loads(
    run_program: Any, lock: dict[str, Any]
) -> None:
    if lock["cuda_variant"] not in WITH_NVCC:
        pytest.skip(NO_COMPILER)
    installed = {one["name"] for one in lock.get("frameworks_installed", [])}
    if "pytorch" not in installed or not lock["frameworks_compiler_enabled"]:
        pytest.skip("not asked: the image has no PyTorch, or no headers of Python")
    program = (HERE / "extension.py").read_text()
    made = run_program(program, max(lock["cuda_architectures"], key=int), root=False)
    assert (made["rc"], made["out"]) == (0, "golden_probe.plus_one"), made


@pytest.mark.no_boot
def test_static_libraries_are_as_the_lock_says(
    host: Any, toolkit: dict[str, Any], lock: dict[str, Any]
) -> None:
    if lock["cuda_source"] != "debian":
        pytest.skip("not asked: only Debian's packages have them in /usr/lib")
    found = host.run("ls /usr/lib/*-linux-gnu/libcublas*_static.a")
    assert found.succeeded == lock["cuda_static_libraries_enabled"]


@pytest.mark.no_boot
def test_no_desktop_documentation_or_java_came_along(host: Any) -> None:
    installed = host.check_output("dpkg-query -W -f %s", r"${db:Status-Abbrev} ${Package}\n")
    names = [line.split()[-1] for line in installed.splitlines() if line[1] == "i"]
    assert names and not [name for name in names if name.startswith(UNWANTED)]


@pytest.mark.no_boot
def test_image_without_a_compiler_says_so(host: Any, lock: dict[str, Any]) -> None:
    """To packages that would compile for the GPU, where CUDA_HOME leads them."""
    if (lock["cuda_source"], lock["cuda_variant"]) != ("wheels", "jit"):
        pytest.skip("not asked: the image has nvcc, or no CUDA_HOME")
    ran = host.run("/usr/local/cuda/bin/nvcc -V")
    assert (ran.rc, len(ran.stderr.splitlines())) == (127, 1) and "toolkit" in ran.stderr


@pytest.mark.no_boot
def test_runtime_image_has_no_compiler(files: dict[str, Any], lock: dict[str, Any]) -> None:
    if lock["cuda_variant"] != "runtime":
        pytest.skip("not asked: the image holds more than the runtime")
    assert files["nvcc"]["rc"] == 127
