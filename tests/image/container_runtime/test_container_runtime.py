"""The image's container engine: configured and never started at rest, and what its containers see
once it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CUDA_SUCCESS, CUDA_ERROR_NO_DEVICE = 0, 100  # cuda.h, CUresult
UNLIMITED = -1
CONTROL = {"nvidiactl", "nvidia-uvm"}
DENIED, NOBODY_THERE = "EPERM", "ENXIO"
RULE = "/etc/udev/rules.d/71-golden-cdi.rules"


@pytest.fixture(scope="module")
def daemon(host: Any, lock: dict[str, Any]) -> dict[str, Any]:
    """Docker's settings."""
    if lock["container_runtime_engine"] != "docker":
        pytest.skip("not asked: the engine is not Docker")
    read: dict[str, Any] = json.loads(host.file("/etc/docker/daemon.json").content_string)
    return read


@pytest.fixture(scope="module")
def asked(lock: dict[str, Any], needs_boot: None, run_program: Any) -> Any:
    """What probe.py answers; half a minute where the processor is emulated, which starts each
    container in seconds."""
    version = (
        lock["nvidia_driver_version"] if lock["container_runtime_gpu_source"] == "debian" else ""
    )
    program, inner = (
        (HERE / name).read_text(encoding="utf-8") for name in ("probe.py", "in_container.py")
    )
    return run_program(program, lock["container_runtime_engine"], version, inner)


@pytest.fixture
def gpus(asked: dict[str, Any], lock: dict[str, Any]) -> dict[str, Any]:
    """What containers saw of GPUs, where golden-cdi describes them."""
    if lock["container_runtime_gpu_source"] != "debian":
        pytest.skip("not asked: golden-cdi describes no GPU in this image")
    assert asked["gpus"]["hostile image"]["rc"] == 0, asked["gpus"]["hostile image"]
    return dict(asked["gpus"])


@pytest.fixture
def made_up(asked: dict[str, Any], gpus: dict[str, Any]) -> dict[str, Any]:
    """The same on a machine without GPUs, where two were made up."""
    if asked["gpu"]:
        pytest.skip("not asked: this machine has GPUs, and their number is its own")
    return gpus


def said(answer: dict[str, Any]) -> dict[str, Any]:
    """What in_container.py printed."""
    assert answer["rc"] == 0, answer["err"]
    found: dict[str, Any] = json.loads(answer["out"])
    return found


def test_docker_is_configured(daemon: dict[str, Any], lock: dict[str, Any]) -> None:
    found, nofile = daemon, lock["container_runtime_nofile"]
    memlock = lock["container_runtime_memlock"]
    memlock = UNLIMITED if memlock == "unlimited" else int(memlock) * 1024
    assert found["default-ulimits"] == {
        "nofile": {"Name": "nofile", "Soft": nofile, "Hard": nofile},
        "memlock": {"Name": "memlock", "Soft": memlock, "Hard": memlock},
    }
    assert found["exec-opts"] == ["native.cgroupdriver=systemd"]
    assert found["live-restore"] is lock["container_runtime_live_restore_enabled"]
    assert found["log-driver"] == lock["container_runtime_log_driver"]
    rotation = {
        "max-size": f"{lock['container_runtime_log_max_size_mib']}m",
        "max-file": str(lock["container_runtime_log_max_files"]),
    }
    assert found.get("log-opts", {}) == (rotation if found["log-driver"] == "local" else {})
    assert found.get("features", {}).get("cdi", False) is (
        lock["container_runtime_gpu_source"] != "none"
    )


@pytest.mark.at_rest
def test_keys_of_others_stay(daemon: dict[str, Any]) -> None:
    """Molecule's prepare.yml wrote one before the role ran."""
    assert daemon["labels"] == ["written-by=another"]


def test_podman_is_configured(host: Any, lock: dict[str, Any]) -> None:
    if lock["container_runtime_engine"] != "podman":
        pytest.skip("not asked: the engine is not Podman")
    nofile = lock["container_runtime_nofile"]
    found = host.file("/etc/containers/containers.conf.d/60-golden.conf").content_string
    assert {f'"nofile={nofile}:{nofile}",', 'cgroup_manager = "systemd"'} <= {
        line.strip() for line in found.splitlines()
    }


def test_engine_reads_cdi(host: Any, lock: dict[str, Any]) -> None:
    """Docker does from 25 on, Podman from 4.1 on."""
    words = host.check_output(f"{lock['container_runtime_engine']} --version").split()
    version = tuple(map(int, words[2].split("+")[0].rstrip(",").split(".")[:2]))
    oldest = (25, 0) if lock["container_runtime_engine"] == "docker" else (4, 1)
    assert version >= oldest or lock["container_runtime_gpu_source"] == "none"


def test_engine_starts_at_boot(host: Any, lock: dict[str, Any], booted: bool, settled: str) -> None:
    if lock["container_runtime_engine"] == "docker":
        docker = host.service("docker.service")
        assert docker.is_enabled and host.service("containerd.service").is_enabled
        assert docker.is_running == booted


@pytest.mark.at_rest
def test_engine_never_ran(host: Any) -> None:
    """Its first start makes keys and an identity, which all machines of the image would share."""
    for path in ("/etc/docker/key.json", "/var/lib/docker/engine-id", "/var/lib/docker/overlay2"):
        assert not host.file(path).exists, path


def test_gpus_are_described_before_docker_starts(host: Any, lock: dict[str, Any]) -> None:
    unit = host.service("golden-cdi.service")
    if lock["container_runtime_gpu_source"] == "none":
        assert not unit.exists
    else:
        assert unit.is_enabled
        before = unit.systemd_properties["Before"].split()
        assert {"docker.service", "podman-restart.service"} <= set(before)
        assert 'ENV{SYSTEMD_WANTS}+="golden-cdi.service"' in host.file(RULE).content_string


def test_toolkit_is_held(host: Any, lock: dict[str, Any]) -> None:
    toolkit = {
        "libnvidia-container1",
        "libnvidia-container-tools",
        "nvidia-container-toolkit",
        "nvidia-container-toolkit-base",
    }
    assert toolkit & set(host.check_output("apt-mark showhold").split()) == (
        toolkit if lock["container_runtime_gpu_source"] == "nvidia" else set()
    )


def test_engine_runs_as_configured(asked: dict[str, Any], lock: dict[str, Any]) -> None:
    info = said(asked["info"])
    if lock["container_runtime_engine"] == "docker":
        assert (info["CgroupDriver"], info["Driver"]) == ("systemd", "overlay2")
        assert info["LoggingDriver"] == lock["container_runtime_log_driver"]
        assert info["LiveRestoreEnabled"] is lock["container_runtime_live_restore_enabled"]
    else:
        assert (info["host"]["cgroupManager"], info["store"]["graphDriverName"]) == (
            "systemd",
            "overlay",
        )


def test_container_has_the_limits_and_a_network(
    asked: Any, lock: dict[str, Any], record_values: Any
) -> None:
    """Neither less nor more than the lock says, soft and hard."""
    found, memlock = said(asked["plain"]), lock["container_runtime_memlock"]
    memlock = UNLIMITED if memlock == "unlimited" else int(memlock) * 1024
    assert found["limits"] == {
        "nofile": [lock["container_runtime_nofile"]] * 2,
        "memlock": [memlock] * 2,
    }
    assert found["interfaces"] == ["eth0", "lo"]
    record_values("first container", "s", [asked["plain"]["seconds"]])


def test_job_by_systemd_run_keeps_its_folder_and_nothing_else(
    asked: dict[str, Any], lock: dict[str, Any]
) -> None:
    found, nofile = asked["job"], lock["container_runtime_nofile"]
    assert found["ended"]["rc"] == 0, found["ended"]
    assert found["kept"] == {"limits": f"({nofile}, {nofile})"}
    assert found["left"] == ""


def test_container_without_a_device_sees_no_gpu(asked: dict[str, Any]) -> None:
    found = said(asked["plain"])
    assert (found["cuda"], found["plain"], found["nvml"]) == (None, None, None)
    assert (found["nodes"], found["mounts"]) == ({}, [])


def test_container_with_all_gpus_loads_the_driver(
    asked: dict[str, Any], gpus: dict[str, Any]
) -> None:
    found = said(gpus["lasting"]["before"])
    wanted = CUDA_SUCCESS if asked["gpu"] else CUDA_ERROR_NO_DEVICE
    assert (found["cuda"], found["plain"]) == (wanted, wanted)
    assert set(found["nodes"]) > CONTROL and DENIED not in found["nodes"].values()
    assert found["mounts"] and all(mount.endswith(" ro") for mount in found["mounts"])


def test_gpus_stay_after_systemd_reads_its_units_again(gpus: dict[str, Any]) -> None:
    """What takes GPUs from running containers elsewhere: systemd writes the device filter that it
    knows anew."""
    assert gpus["lasting"]["reload"]["rc"] == 0
    assert said(gpus["lasting"]["after"]) == said(gpus["lasting"]["before"])


def test_one_gpu_is_the_first_on_the_bus_and_no_other(made_up: dict[str, Any]) -> None:
    found = said(made_up["hostile"])
    assert set(found["nodes"]) == CONTROL | {"nvidia1"}
    assert found["made"] == {"195:1": NOBODY_THERE, "195:0": DENIED}


def test_gpu_by_its_uuid_is_another(made_up: dict[str, Any]) -> None:
    """With Docker by `--gpus`."""
    assert set(said(made_up["careful"])["nodes"]) == CONTROL | {"nvidia0"}


def test_gpu_that_is_not_there_is_refused(gpus: dict[str, Any]) -> None:
    assert gpus["seventh"]["rc"] != 0 and "nvidia.com/gpu=7" in gpus["seventh"]["err"]


def test_user_in_a_read_only_container_has_the_gpu(
    asked: dict[str, Any], gpus: dict[str, Any]
) -> None:
    found = said(gpus["careful"])
    assert (found["uid"], found["cuda"]) == (
        1000,
        CUDA_SUCCESS if asked["gpu"] else CUDA_ERROR_NO_DEVICE,
    )


def test_driver_of_an_image_is_hidden_and_its_links_lead_nowhere(
    asked: dict[str, Any],
    gpus: dict[str, Any],
) -> None:
    """An image with a libcuda of its own gets the machine's; a link that climbs out of it touches
    no file outside."""
    assert said(gpus["hostile"])["cuda"] == (CUDA_SUCCESS if asked["gpu"] else CUDA_ERROR_NO_DEVICE)
    assert gpus["outside"] == []


def test_gpus_of_docker_are_refused_without_a_gpu(
    asked: dict[str, Any], made_up: dict[str, Any], lock: dict[str, Any]
) -> None:
    if lock["container_runtime_engine"] != "docker":
        pytest.skip("not asked: the engine is not Docker")
    assert made_up and asked["no gpu"]["rc"] != 0
    assert "golden-gpus: this machine has no GPU for containers: " in asked["no gpu"]["err"]


def test_devices_are_refused_without_a_gpu(
    asked: dict[str, Any],
    made_up: dict[str, Any],
) -> None:
    assert made_up and asked["no device"]["rc"] != 0
    assert (
        "this machine has no GPU for containers: `systemctl status golden-cdi`"
        in (asked["no device"]["err"])
    )


def test_docker_knows_the_runtime_nvidia(
    asked: dict[str, Any], made_up: dict[str, Any], lock: dict[str, Any]
) -> None:
    """Without NVIDIA_VISIBLE_DEVICES it is runc."""
    if lock["container_runtime_engine"] != "docker":
        pytest.skip("not asked: the engine is not Docker")
    assert made_up and asked["runtime"]["rc"] == 0, asked["runtime"]


@pytest.mark.no_boot
def test_docker_has_its_plugins(host: Any, lock: dict[str, Any]) -> None:
    if lock["container_runtime_engine"] != "docker" or lock["container_runtime_packages"]:
        pytest.skip("not asked: the engine is not Docker, or not the distribution's")
    found = [name for name in ("buildx", "compose") if not host.run(f"docker {name} version").rc]
    assert found == (["buildx", "compose"] if lock["container_runtime_plugins_enabled"] else [])


def test_golden_cdi_is_idle_without_a_gpu_and_fails_loudly_on_a_misfit(
    asked: dict[str, Any],
    made_up: dict[str, Any],
    lock: dict[str, Any],
) -> None:
    unit = asked["unit"]
    assert len(unit["programs"]) == 4 and all(unit["programs"].values()), unit["programs"]
    assert unit["without"] == {"result": "exec-condition", "said": [], "specification": False}
    assert (unit["misfit"]["result"], unit["misfit"]["specification"]) == ("exit-code", False)
    assert unit["misfit"]["said"] == [
        "golden-cdi: containers get no GPU: the loaded kernel module is of driver 1.2.3, "
        f"libcuda.so.1 of {lock['nvidia_driver_version']}: reboot, and if that does not help "
        "install both of one version"
    ]
    assert unit["fitting"] == {"result": "success", "said": [], "specification": True}


def test_a_launch_s_container_waits_for_the_file_that_names_it(host: Any) -> None:
    assert host.service("golden-container.service").is_enabled
    refused = host.run("/usr/local/libexec/golden-container check /etc/none.json")
    assert refused.rc == 1 and refused.stderr.startswith("golden-container: /etc/none.json is no")
