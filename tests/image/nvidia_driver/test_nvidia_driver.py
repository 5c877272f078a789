"""The image's NVIDIA driver: right for its kernel, of one version, and quiet on a machine without a
GPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

CUDA_SUCCESS, CUDA_ERROR_NO_DEVICE = 0, 100  # cuda.h, CUresult
MODULES = {"nvidia", "nvidia_drm", "nvidia_modeset", "nvidia_uvm"}
ON_DISK = ("modules", "initramfs", "packages", "bus")
RUNNING = ("gpu", "models", "cuda", "nvml", "smi")


@pytest.fixture(scope="module")
def gathered(run_program: Any, lock: dict[str, Any]) -> Callable[[Sequence[str]], dict[str, Any]]:
    """A function that returns these facts."""
    program = Path(__file__).with_name("gather.py").read_text()
    driver = (lock["nvidia_driver_kernel_release"], lock["nvidia_driver_version"])
    return lambda names: dict(run_program(program, *driver, *names))


@pytest.fixture(scope="module")
def files(gathered: Any) -> Any:
    """What is on the disk."""
    return gathered(ON_DISK)


@pytest.fixture(scope="module")
def facts(gathered: Any, record_testsuite_property: Callable[[str, object], None]) -> Any:
    """What shows on a machine alone."""
    found = gathered(RUNNING)
    if found["models"]:  # what makes the JUnit file a proof for `golden gpu-test --junit`
        record_testsuite_property("goldenami:gpu", ", ".join(found["models"]))
    return found


@pytest.fixture(scope="module")
def modprobe(host: Any, lock: dict[str, Any]) -> list[str]:
    """modprobe's configuration."""
    release = lock["nvidia_driver_kernel_release"]
    return list(host.check_output(f"modprobe -S {release} --showconfig").splitlines())


@pytest.mark.no_boot
def test_every_kernel_has_the_modules(files: dict[str, Any], lock: dict[str, Any]) -> None:
    assert lock["nvidia_driver_kernel_release"] in files["modules"], (
        "the locked kernel is not in the image"
    )
    missing = {release: sorted(MODULES - set(found)) for release, found in files["modules"].items()}
    assert not any(missing.values()), f"kernels without modules: {missing}"


@pytest.mark.no_boot
def test_modules_are_of_the_locked_driver(files: dict[str, Any], lock: dict[str, Any]) -> None:
    versions = {
        name: one["version"] for found in files["modules"].values() for name, one in found.items()
    }
    assert set(versions.values()) == {lock["nvidia_driver_version"]}, versions


@pytest.mark.no_boot
def test_modules_fit_their_kernel(files: dict[str, Any]) -> None:
    wrong = {
        f"{release} {name}": one["vermagic"]
        for release, found in files["modules"].items()
        for name, one in found.items()
        if one["vermagic"].split(" ")[0] != release
    }
    assert not wrong, wrong


@pytest.mark.no_boot
def test_modules_are_signed_by_the_lock_s_signer_or_nobody(
    files: dict[str, Any], lock: dict[str, Any]
) -> None:
    """A key that a bake made would differ in every bake; one that a user gave is named by the
    lock."""
    wanted = (
        lock["nvidia_driver_modules_signer"] if lock["nvidia_driver_build"] == "prebuilt" else ""
    )
    signers = {one["signer"] for found in files["modules"].values() for one in found.values()}
    assert signers == {wanted}


@pytest.mark.no_boot
def test_modprobe_nvidia_reaches_the_module(host: Any, lock: dict[str, Any]) -> None:
    """Debian's modules have other names: `nvidia` is an alias that its configuration resolves."""
    found = host.run(f"modprobe -S {lock['nvidia_driver_kernel_release']} -n -v nvidia")
    assert found.stdout and "not found" not in found.stderr, found.stderr


@pytest.mark.no_boot
def test_gsp_firmware_is_of_the_locked_driver(host: Any, lock: dict[str, Any]) -> None:
    version = lock["nvidia_driver_version"]
    assert host.file("/lib/firmware/nvidia").listdir() == [version]
    found = host.file(f"/lib/firmware/nvidia/{version}").listdir()
    assert {"gsp_ga10x.bin", "gsp_tu10x.bin"} <= set(found)


@pytest.mark.no_boot
def test_gsp_option_is_what_the_lock_says(modprobe: list[str], lock: dict[str, Any]) -> None:
    wanted = lock.get("nvidia_driver_gsp_enabled")
    key = "NVreg_EnableGpuFirmware="
    options = [line.split(key)[1][0] for line in modprobe if key in line]
    assert options == ([] if wanted is None else ["1" if wanted else "0"])


@pytest.mark.no_boot
def test_nouveau_is_kept_out_of_the_root_and_the_initramfs(
    modprobe: list[str], files: dict[str, Any]
) -> None:
    assert "blacklist nouveau" in modprobe
    assert "blacklist nouveau" in files["initramfs"]["lines"]
    assert "options nouveau modeset=0" in files["initramfs"]["lines"]
    assert files["initramfs"]["modules"] == []


def test_libcuda_loads_and_finds_what_is_there(facts: dict[str, Any], lock: dict[str, Any]) -> None:
    """Without a GPU cuInit answers `no device`; a library that does not fit does not load, or
    answers otherwise."""
    assert facts["cuda"] == {
        "file": f"libcuda.so.{lock['nvidia_driver_version']}",
        "returned": CUDA_SUCCESS if facts["gpu"] else CUDA_ERROR_NO_DEVICE,
    }


def test_video_libraries_load_where_they_are_wanted(host: Any, lock: dict[str, Any]) -> None:
    program = "import ctypes; ctypes.CDLL('libnvcuvid.so.1'); ctypes.CDLL('libnvidia-encode.so.1')"
    done = host.run("python3 -c %s", program)
    assert (done.rc == 0) is lock["nvidia_driver_video_enabled"], done.stderr


def test_management_library_and_tool_are_of_the_locked_driver(
    facts: dict[str, Any], lock: dict[str, Any]
) -> None:
    assert facts["nvml"].get("file") == f"libnvidia-ml.so.{lock['nvidia_driver_version']}", facts[
        "nvml"
    ]
    assert facts["smi"], f"/usr/bin/nvidia-smi is not of driver {lock['nvidia_driver_version']}"


@pytest.mark.no_boot
def test_packages_are_of_one_version_and_held(files: dict[str, Any], lock: dict[str, Any]) -> None:
    """Debian releases nvidia-persistenced and nvidia-modprobe on their own: held, but of other
    versions."""
    driver = [
        row
        for row in files["packages"]
        if row[1].startswith(("nvidia-graphics-drivers", "nvidia-open-gpu"))
    ]
    assert driver, "no package of the driver is installed"
    others = {row[2]: row[3] for row in driver if row[3] != lock["nvidia_driver_version"]}
    assert not others, f"not of {lock['nvidia_driver_version']}: {others}"
    alone = [
        row for row in files["packages"] if row[1] in ("nvidia-persistenced", "nvidia-modprobe")
    ]
    modules = [
        row for row in files["packages"] if row[2] == lock.get("nvidia_driver_modules_package")
    ]
    loose = [row[2] for row in driver + alone + modules if row[0] != "hold"]
    assert not loose, f"not held: {loose}"


@pytest.mark.no_boot
def test_nothing_of_a_desktop_came_along(files: dict[str, Any]) -> None:
    names = {row[2] for row in files["packages"]}
    assert not [
        name
        for name in names
        if name.startswith(("xserver-xorg", "libglx-nvidia", "nvidia-settings"))
    ]


def test_persistence_daemon_is_enabled_and_idle_without_a_gpu(
    host: Any, facts: dict[str, Any], lock: dict[str, Any]
) -> None:
    """Asked to start, it is stopped by its condition, quietly."""
    host.run("systemctl start nvidia-persistenced.service")
    unit = host.service("nvidia-persistenced.service").systemd_properties
    assert unit["LoadState"] == "loaded"
    assert unit["UnitFileState"] == (
        "enabled" if lock["nvidia_driver_persistenced_enabled"] else "disabled"
    )
    idle = {"ActiveState": "inactive", "Result": "exec-condition"}
    busy = {"ActiveState": "active", "Result": "success"}
    assert {key: unit[key] for key in idle} == (busy if facts["gpu"] else idle)


@pytest.mark.no_boot
def test_units_look_for_the_right_hardware(files: dict[str, Any]) -> None:
    assert files["bus"] == {
        "gpu": 0, "display": 0, "other": 1, "switch_is_no_gpu": 1, "nvswitch": 0,
        "gpu_is_no_switch": 1
    }  # fmt: skip


def test_no_unit_failed(host: Any) -> None:
    assert host.check_output("systemctl --failed --plain --no-legend") == ""


@pytest.mark.no_boot
def test_no_nvidia_module_is_loaded_by_name_at_boot(host: Any) -> None:
    """Debian asks for nvidia-drm in modules-load.d: without a GPU, errors and a tainted kernel on
    every boot."""
    found = host.run("cat /etc/modules-load.d/*.conf /usr/lib/modules-load.d/*.conf").stdout
    assert [line for line in found.splitlines() if line.strip().startswith("nvidia")] == []


@pytest.mark.no_boot
def test_no_build_tree_and_no_signing_key_is_left(
    host: Any, files: dict[str, Any], lock: dict[str, Any]
) -> None:
    if lock["nvidia_driver_keep_build_tools"]:
        pytest.skip("not asked: the image definition keeps the build tools")
    left = host.run("ls -d /var/lib/dkms/* /var/lib/shim-signed/mok/* /etc/dkms/no*")
    assert left.stdout == ""
    names = {row[2] for row in files["packages"]}
    assert not [name for name in names if name == "dkms" or name.startswith("linux-headers-")]


def test_driver_loads_into_the_running_kernel(
    needs_boot: None, host: Any, facts: dict[str, Any]
) -> None:
    """The kernel takes the module: without a GPU it says so, with a misfit it says `Invalid module
    format` instead."""
    done = host.run("modprobe nvidia")
    log = host.run("dmesg | grep -iE 'nvrm|nvidia' | tail -n 20").stdout
    if facts["gpu"]:
        assert done.succeeded, log + done.stderr
    else:
        assert "No NVIDIA GPU found" in log, log + done.stderr
        assert "disagrees" not in log and "Invalid module format" not in done.stderr
