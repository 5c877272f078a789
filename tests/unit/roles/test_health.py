"""golden-health on a made-up GPU machine: each fault that a machine at rest shows is named, and
nothing is said of a healthy one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_health import findings, jobs
from golden_idle.machine import Sampler
from goldenami.model.supported import hardware
from support.ec2.instance_types import described
from support.files import write
from support.gpu import gpu_machine, health_machine
from support.gpu.faults import ALONE, HURRIED, TOGETHER
from support.gpu.gpu_machine import GpuMachine
from support.gpu.kernel_lines import HARMLESS, LOG, TROUBLES, UNCORRECTED
from support.idle import recording, traces
from support.idle.lives import LIVES
from support.idle.recording import Life
from support.waiting import until

BIG, SMALL = "p5.48xlarge", "g4dn.xlarge"
BROKEN, ODD = True, False
OF_ALONE = {
    "GPU missing": ("7 of 8 GPUs on the bus: ", BROKEN),
    "GPU unknown to the driver": ("on the bus, unknown to the driver: 0000:00:17.0", BROKEN),
    "GPU hidden from CUDA": ("GPU 7: CUDA does not see it", BROKEN),
    "module of another version": ("driver's module 570.1.1 beside libraries 580.", ODD),
    "libraries do not fit the module": ("NVML: nvmlInit_v2 returned 18", ODD),
    "CUDA does not start": ("CUDA: cuInit returned 802", ODD),
    "page retirement pending": ("GPU 0: memory waits for repair", ODD),
    "no NVLink": ("GPU 2: 0 of 18 NVLinks", BROKEN),
    "some NVLinks": ("GPU 2: 12 of 18 NVLinks", BROKEN),
    "fabric manager of another version": ("fabric manager 570.1.1 beside driver", ODD),
}
OF_TOGETHER = {
    "GPU 0: is NVIDIA H200, not H100": ODD,
    "3 of 4 NVSwitches on the bus": BROKEN,
    "GPU 0: 3 uncorrected memory errors in its life": ODD,
    "GPU 3: 2 rows of memory remapped": ODD,
    "GPU 2: 40960 of 81920 MiB of memory": BROKEN,
    "GPU 1: ECC is off: `nvidia-smi -e 1`, then reboot": ODD,
    "GPU 4: 2 uncorrected memory errors since boot": BROKEN,
    "GPU 5: memory waits for repair: reboot": ODD,
    "GPU 5: memory is beyond repair: remapping a row failed": BROKEN,
    "GPU 6: 8 of 16 PCIe lanes": BROKEN,
    "GPU 6: PCIe generation 1 of 5": ODD,
    "GPU 1: copies are not whole": BROKEN,
    "GPU 3: software thermal slowdown": ODD,
    "GPU 4: hardware slowdown, hardware thermal slowdown": BROKEN,
    "GPU 5: power brake": BROKEN,
    "GPU 0, 1, 2, 3, 4, 5, 6, 7: persistence mode is off: "
    "`systemctl status nvidia-persistenced`": ODD,
    "GPU 3: Xid 79 (GPU has fallen off the bus)": BROKEN,
    "GPU 3: Xid 74 (NVLink error)": BROKEN,
    "GPU 3: Xid 48 (uncorrected memory error)": BROKEN,
    "GPU 3: Xid 140 (unrecovered memory error)": BROKEN,
    "NVSwitch PCI:0000:05:00.0: SXid 20034": ODD,
    "0000:00:13.0: RmInitAdapter failed! (0x24:0x65:1568)": BROKEN,
    "GPU 2: NVLinks down: 0": BROKEN,
    "GPU 6: its infoROM is corrupted": ODD,
    "GPU 7: power limit 200 W of 300 W": ODD,
    "GPU 1: does not reach the memory of GPU 0, 2, 3, 4, 5, 6, 7": ODD,
    "GPU 5: does not reach the memory of GPU 0, 1, 2, 3, 4, 6, 7": ODD,
    "nvidia-fabricmanager is inactive": ODD,
}
"""Of the faults that a GPU check finds, those that show without a load but a short copy; MIG is a
user's choice, and Xid 94 was contained."""
OF_HURRIED = {
    "lost": ("GPU 3: nvmlDeviceGetMemoryInfo returned 15 (GPU is lost)", BROKEN),
    "hangs at once": ("GPU 3: nvmlDeviceGetHandleByIndex_v2 did not return within 3 s", BROKEN),
    "lost meanwhile": ("GPU 3: nvmlDeviceGetCurrentClocksThrottleReasons returned 15", BROKEN),
    "hangs while it copies": ("GPU 3: cuCtxSynchronize did not return within 3 s", BROKEN),
    "hangs at work": (
        "GPU 3: nvmlDeviceGetCurrPcieLinkGeneration did not return within 3 s",
        BROKEN,
    ),
    "NVML hangs": ("NVML: nvmlInit_v2 did not return within 3 s", ODD),
    "CUDA hangs": ("CUDA: cuInit did not return within 3 s", ODD),
}


def works(machine: GpuMachine) -> None:
    """Begin a program that has CUDA open."""
    (machine.path / "proc/4242/fd").mkdir(parents=True)
    (machine.path / "proc/4242/fd/7").symlink_to("/dev/nvidia-uvm")
    (machine.path / "proc/4242/comm").write_text("train\n", encoding="utf-8")


def off(file: str, text: str | None) -> Callable[[GpuMachine], None]:
    """A fault that a file of the machine shows; None where it is gone."""

    def do(machine: GpuMachine) -> None:
        path = machine.path / file
        path.unlink()
        if text is not None:
            path.write_text(f"{text}\n", encoding="utf-8")

    return do


ROOT_DISK = "29 1 259:1 / / rw,noatime shared:1 - ext4 /dev/nvme0n1p1 {},errors=remount-ro\n"
AT_ROOT = {"proc/self/mountinfo": ROOT_DISK.format("ro"), "sys/dev/block/259:1/ro": "0\n"}
DOWN, UP = "1: DOWN\n", "4: ACTIVE\n"


def adapter(number: str, port: str | None = None) -> dict[str, str]:
    """The files of an Elastic Fabric Adapter; `port` is its state, if it has a driver."""
    folder = f"sys/bus/pci/devices/0000:00:{number}.0"
    files = {"vendor": "0x1d0f\n", "class": "0x020000\n", "device": "0xefa2\n"}
    if port:
        files["infiniband/rdmap0/ports/1/state"] = port
    return {f"{folder}/{name}": text for name, text in files.items()}


def processors(threads: str) -> dict[str, str]:
    files = {"online": "0-95\n", "present": "0-191\n", "smt/control": f"{threads}\n"}
    return {f"sys/devices/system/cpu/{name}": text for name, text in files.items()}


OF_FILES = {
    "a root that became read-only": (
        AT_ROOT,
        {"/ became read-only: see `dmesg` for its disk's errors": BROKEN},
    ),
    "a root that may be written": ({**AT_ROOT, "proc/self/mountinfo": ROOT_DISK.format("rw")}, {}),
    "a root that is read-only by design": ({**AT_ROOT, "sys/dev/block/259:1/ro": "1\n"}, {}),
    "a unit that may not write": (
        {**AT_ROOT, "proc/self/mountinfo": ROOT_DISK.replace(" rw", " ro").format("rw")},
        {},
    ),
    "a root whose file system gave up": (
        {**AT_ROOT, "proc/self/mountinfo": ROOT_DISK.format("rw,emergency_ro")},
        {"/ became read-only: see `dmesg` for its disk's errors": BROKEN},
    ),
    "disks that hold nothing, processors that are off": (
        {
            "sys/block/nvme3n1/size": "0\n",
            "sys/block/nvme4n1/ro": "1\n",
            **processors("on"),
        },
        {
            "6 of 8 local disks": BROKEN,
            "of the processors 0-191 only 0-95 are online": ODD,
        },
    ),
    "no hyper-threading, by choice": (processors("off"), {}),
    "an adapter without driver": (adapter("20"), {"EFA 0000:00:20.0: no driver has it": ODD}),
    "an adapter that is down": (
        adapter("20", DOWN),
        {"EFA 0000:00:20.0: its port is 1: DOWN": BROKEN},
    ),
    "the one adapter of a launch": (adapter("20", UP), {}),
    "two adapters of a launch with all": (
        adapter("20", UP) | adapter("21", UP),
        {"2 of 32 EFA adapters": ODD},
    ),
}
KEPT = ("spins-outside", "lab-container-forgotten")
"""Machines that golden_idle keeps, too."""
OF_DISKS = {
    "a disk missing": (off("sys/block/nvme3n1/device/model", None), "7 of 8 local disks"),
    "a dead controller": (
        off("sys/class/nvme/nvme5/state", "dead"),
        "disk nvme5: its controller is dead",
    ),
}


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_machine.compile_libraries(tmp_path_factory.mktemp("libraries"))


@pytest.fixture
def big(tmp_path: Path, libraries: Path) -> GpuMachine:
    return health_machine.whole(tmp_path / "machine", libraries, BIG)


@pytest.mark.parametrize(
    "name",
    [
        SMALL,
        "g4dn.12xlarge",
        "g5.xlarge",
        "g5.12xlarge",
        "g5g.16xlarge",
        "g6.xlarge",
        "g6e.12xlarge",
        "g6e.48xlarge",
        "p4d.24xlarge",
        "p4de.24xlarge",
        BIG,
        "p5en.48xlarge",
    ],
)
def test_nothing_is_found_on_a_healthy_machine(tmp_path: Path, libraries: Path, name: str) -> None:
    machine = health_machine.whole(tmp_path / "machine", libraries, name)
    assert health_machine.found(machine) == {}
    assert not (machine.path / "run/motd.d/40-golden-health").exists()
    told = health_machine.golden_health(machine, "status")
    assert (told.returncode, told.stdout.splitlines()[0]) == (0, "healthy")


def test_what_programs_bring_about_is_no_fault_of_the_machine(big: GpuMachine) -> None:
    """A crash of a user's kernel, MIG, GPUs at work, and a throttle by the power limit."""
    big.program(
        "dmesg",
        "\n".join(
            f"[8.1] NVRM: Xid (PCI:0000:00:13): {number}, pid=7, name=train"
            for number in findings.OF_PROGRAMS
        )
        + f"\n{HARMLESS}",
    )
    big.set(
        {"mig.7": 1, "cuda_count": 7, "throttled_by": 0x4, "utilization": 99, "used_mib": 70_000}
    )
    assert health_machine.found(big) == {}


@pytest.mark.parametrize("busy", [False, True])
def test_a_link_that_saves_power_is_no_fault(big: GpuMachine, busy: bool) -> None:
    """It is judged while the GPU copies, and not at all where somebody's program has CUDA open."""
    big.set({"pcie_width_at_rest": 4, "pcie_generation_at_rest": 1})
    if busy:
        big.set({"pcie_width.2": 8})
        works(big)
    for _ in ("at boot", "after it"):
        assert health_machine.found(big) == {}


@pytest.mark.parametrize("fault", OF_ALONE)
def test_a_fault_is_named(big: GpuMachine, fault: str) -> None:
    do, _, _ = ALONE[fault]
    do(big)
    ((text, broken),) = health_machine.found(big).items()
    assert (text.startswith(OF_ALONE[fault][0]), broken) == (True, OF_ALONE[fault][1]), text


def test_no_fault_hides_another(big: GpuMachine) -> None:
    for do, _, _ in TOGETHER:
        do(big)
    big.set({"inforom.6": 14, "power_limit.7": 200_000})
    assert health_machine.found(big) == OF_TOGETHER
    login = (big.path / "run/motd.d/40-golden-health").read_text(encoding="utf-8")
    assert login.splitlines()[1:] == list(health_machine.texts(big))
    told = health_machine.golden_health(big, "status")
    assert told.returncode == 1 and "GPU 5: power brake\n" in told.stdout


@pytest.mark.parametrize("fault", OF_HURRIED)
def test_what_does_not_answer_is_named_and_the_look_ends(big: GpuMachine, fault: str) -> None:
    big.set(HURRIED[fault][0])
    ((text, broken),) = health_machine.found(big).items()
    assert (text.startswith(OF_HURRIED[fault][0]), broken) == (True, OF_HURRIED[fault][1]), text


def test_a_driver_that_knows_no_gpu_is_named(big: GpuMachine) -> None:
    """NVML answers and counts none of eight; a new machine of the image may be so, too."""
    big.set({"count": 0})
    ((text, broken),) = health_machine.found(big).items()
    assert text.startswith("on the bus, unknown to the driver: 0000:00:10.0, ") and not broken
    assert text.count(":") == 1 + 8 * 2


def test_cuda_of_another_version_than_nvml_is_named(tmp_path: Path, libraries: Path) -> None:
    other = tmp_path / "libraries"
    shutil.copytree(libraries, other, symlinks=True)
    (other / f"libcuda.so.{gpu_machine.DRIVER}").rename(other / "libcuda.so.570.1.1")
    (other / "libcuda.so.1").unlink()
    (other / "libcuda.so.1").symlink_to("libcuda.so.570.1.1")
    machine = health_machine.whole(tmp_path / "machine", other, BIG)
    assert health_machine.found(machine) == {
        f"libcuda 570.1.1 beside NVML {gpu_machine.DRIVER}: install both of one version": ODD
    }


@pytest.mark.parametrize("program", ["dmesg", "journalctl"])
def test_what_the_kernel_s_log_said_once_holds_until_the_next_boot(
    big: GpuMachine, program: str
) -> None:
    """Also where the ring has lost it and the journal has it, and where both have lost it."""
    wanted = dict.fromkeys(LOG.values(), BROKEN)
    for text in TROUBLES.values():
        wanted[f"kernel's log: {text}"] = text == UNCORRECTED
    for text in ("\n".join([*LOG, *TROUBLES]), ""):
        big.program(program, text)
        assert health_machine.found(big) == wanted


def test_what_is_not_utf_8_in_the_log_hides_nothing(big: GpuMachine) -> None:
    log = b"#!/bin/sh\nprintf '\\377\\nNVRM: Xid (PCI:0000:00:13): 79, pid=7\\n'\n"
    (big.path / "bin/dmesg").write_bytes(log)
    assert health_machine.found(big) == {"GPU 3: Xid 79 (GPU has fallen off the bus)": BROKEN}


def test_what_was_on_the_bus_and_is_gone_is_named_without_a_number_to_expect(
    big: GpuMachine,
) -> None:
    write(big.path, {"sys/class/dmi/id/product_name": "p9.48xlarge\n", **adapter("21", UP)})
    assert health_machine.found(big) == {}
    for address in ("0000:00:17.0", "0000:00:21.0"):
        shutil.rmtree(big.path / "sys/bus/pci/devices" / address)
    big.set({"count": 7})
    assert health_machine.found(big) == {
        f"{address}: gone from the bus since the boot's first look": BROKEN
        for address in ("0000:00:17.0", "0000:00:21.0")
    }


def test_a_bad_link_stays_a_finding_while_a_program_has_cuda_open(big: GpuMachine) -> None:
    big.set({"pcie_width.2": 8})
    assert health_machine.found(big) == {"GPU 2: 8 of 16 PCIe lanes": BROKEN}
    works(big)
    assert health_machine.found(big) == {"GPU 2: 8 of 16 PCIe lanes": BROKEN}


def test_adapters_of_types_that_have_several_are_those_that_ec2_describes() -> None:
    several = {
        row["InstanceType"].partition(".")[0]: row["NetworkInfo"]["EfaInfo"]["MaximumEfaInterfaces"]
        for row in described()
        if row.get("GpuInfo", {}).get("Gpus", [{}])[0].get("Count") == 8
        and "EfaInfo" in row["NetworkInfo"]
    }
    families = hardware.load(health_machine.ROOT)
    assert {
        name: count
        for name, count in several.items()
        if count > 2 and not hardware.refusal(health_machine.ROOT, name) and name in families
    } == findings.EFAS


@pytest.mark.parametrize("case", OF_FILES)
def test_a_read_only_root_and_fabric_adapters_are_looked_at(big: GpuMachine, case: str) -> None:
    made, wanted = OF_FILES[case]
    write(big.path, made)
    assert health_machine.found(big) == wanted


def test_a_user_looks_and_tells_nobody_else(big: GpuMachine) -> None:
    """The kernel's log and links are those of the last look by root."""
    big.set({"pcie_width.2": 8})
    big.program("dmesg", "NVRM: Xid (PCI:0000:00:13): 79, pid=7")
    told = health_machine.found(big)
    big.program("dmesg", "dmesg: read kernel buffer failed: Operation not permitted")
    ALONE["GPU unknown to the driver"][0](big)
    state = (big.path / "run/golden-health/state.json").read_bytes()
    for folder in ("run", "run/golden-health", "run/motd.d"):
        (big.path / folder).chmod(0o555)
    process = health_machine.started(big, "look", by=("setpriv", "--bounding-set=-dac_override"))
    out, err = process.communicate()
    assert (process.returncode, err) == (1, "")
    for text in (*told, "on the bus, unknown to the driver: 0000:00:17.0"):
        assert f"{text}\n" in out
    assert "\n0 minutes ago, " in out and out.endswith(": as root last saw them\n")
    assert (big.path / "run/golden-health/state.json").read_bytes() == state


@pytest.mark.parametrize("fault", OF_DISKS)
def test_a_local_disk_that_is_gone_is_named(big: GpuMachine, fault: str) -> None:
    do, text = OF_DISKS[fault]
    do(big)
    assert health_machine.found(big) == {text: BROKEN}


def test_a_clock_is_asked_for_only_when_it_has_had_its_time() -> None:
    facts: dict[str, Any] = {"bus": [], "disks": 0, "controllers": [], "clock": False}
    assert findings.judge({**facts, "up_s": 60.0}, None) == []
    (found,) = findings.judge({**facts, "up_s": 3600.0}, None)
    assert found.text.startswith("the clock is not synchronized") and not found.broken


def test_what_needs_no_daemon_is_said_before_they_are_ready(big: GpuMachine) -> None:
    ALONE["GPU missing"][0](big)
    big.program("systemctl", "ActiveState=activating\nJob=")
    process, login = health_machine.started(big, "look"), big.path / "run/motd.d/40-golden-health"
    until("the first words", login.exists)
    assert "\n7 of 8 GPUs on the bus: " in login.read_text(encoding="utf-8")
    assert health_machine.golden_health(big, "status").returncode == 3 and process.poll() is None
    big.program("systemctl", "active")
    process.communicate()
    assert process.returncode == 0 and health_machine.texts(big)[0].startswith("7 of 8 GPUs")


def test_the_login_is_told_no_more_once_it_is_mended(big: GpuMachine) -> None:
    big.program("systemctl", "inactive")
    assert health_machine.found(big)
    big.program("systemctl", "active")
    assert health_machine.found(big) == {}
    assert not (big.path / "run/motd.d/40-golden-health").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"replace": "sometimes"}, "replace is 'sometimes': write never, idle or always"),
        ({"replace": None}, "replace is None, no str"),
        ({"publish_enabled": "yes"}, "publish_enabled is 'yes', no bool"),
        ({"types": []}, "types is [], no dict"),
    ],
)
def test_wrong_settings_are_one_line(big: GpuMachine, settings: dict[str, Any], said: str) -> None:
    path = big.path / "etc/golden-health.json"
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**known, **settings}), encoding="utf-8")
    for command in ("look", "check"):
        told = health_machine.golden_health(big, command)
        assert (told.returncode, told.stderr) == (2, f"golden-health: error: {path}: {said}\n")


def test_before_the_first_look_it_says_so(big: GpuMachine) -> None:
    told = health_machine.golden_health(big, "status")
    assert (told.returncode, told.stdout) == (3, "") and "has not looked yet" in told.stderr


def replaced_at(life: Life, hours: float) -> float | None:
    """Hours after which a broken machine of this life is replaced under `idle`; None: not within so
    many. A GPU that works has CUDA open."""
    known = traces.settings()
    quiet, cuda = jobs.Quiet(known, 30.0), list[str]()
    for sample, part in recording.samples(life, Sampler(0.0), [jobs.UNASKED]):
        if sample.at > hours * 3600:
            break
        if part.look:
            cuda = ["it has CUDA open"] if part.look.holders or any(life.gpus) else []
        if quiet.judge(sample, part.look, [], cuda):
            return sample.at / 3600
    return None


@pytest.mark.parametrize(
    "life", [life for life in LIVES if life.needed], ids=lambda life: life.name
)
def test_a_broken_machine_on_which_somebody_works_is_not_replaced(life: Life) -> None:
    assert replaced_at(life, hours=3) is None


@pytest.mark.parametrize(
    "life", [life for life in LIVES if not life.needed], ids=lambda life: life.name
)
def test_a_broken_machine_that_nobody_uses_is_replaced(life: Life) -> None:
    """CUDA that is open, by a program that hangs or sleeps, keeps it for a day."""
    found = replaced_at(life, hours=26)
    assert (found is None) == (life.name in KEPT), found
    assert found is None or (found > 24) == bool(life.gpus), found
