"""golden-idle's parts beside the decision: settings, holds, counters, GPUs, figures, words."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden_idle import decide, holds, machine, metrics, settings
from golden_idle.decide import Hold
from golden_idle.holds import WrongHold
from golden_idle.nvml import Gpu, Nvml, NvmlError
from golden_idle.settings import CPU, GPU, NETWORK, Action, WrongSettings
from goldenami.aws.services import metrics as names
from goldenami.core.errors import BadInput
from goldenami.model.definitions import definition_file
from support import files
from support.gpu import gpu_machine
from support.idle import traces

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/golden_idle"
TOPIC = "arn:aws:sns:us-east-1:123456789012:ops"
IMAGE = "debian-13-jupyterhub"


def defaults() -> dict[str, Any]:
    """The file of an image that sets nothing."""
    found = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    return {
        **{name.removeprefix("golden_idle_"): value for name, value in found.items()},
        "poweroff_command": ["systemctl", "poweroff"],
    }


# --- settings ---


def test_the_role_s_defaults_are_settings_and_those_of_the_traces() -> None:
    assert settings.check(defaults()) == traces.settings()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"window_minutes": 14}, "window_minutes is 14: it has to be a whole number from 15 on"),
    ({"grace_minutes": 4}, "grace_minutes is 4"),
    ({"longest_hold_hours": 0}, "hold_hours is 0"),
    ({"gpu_seconds": -1}, "gpu_seconds is -1"),
    ({"cpu_seconds": float("inf")}, "cpu_seconds is inf"),
    ({"network_mb": float("nan")}, "network_mb is nan"),
    ({"disks_mb": True}, "disks_mb is True"),
    ({"action": "notify"}, "action is notify, and target is empty: nobody would be told"),
    ({"action": "poweroff"}, "action is poweroff, and target is empty"),
    ({"keep": "s3://team-bucket"}, "keep is 's3://team-bucket': it has to be `s3://BUCKET/TEAM`"),
    ({"keep": "s3://team-bucket/.."}, "keep is 's3://team-bucket/..'"),
    ({"keep": "s3://team-bucket/a/b"}, "keep is 's3://team-bucket/a/b'"),
    ({"keep": None}, "keep is None"),
    ({"target": "http://hooks.example.org/x"}, "it has to be the ARN of an SNS topic"),
    ({"target": f"{TOPIC}.fifo"}, "it has to be the ARN of an SNS topic (no FIFO)"),
    ({"target": "https://hooks.slack.com/services/T/B/x"}, "a webhook's address is a secret"),
    ({"target": "ssm:name"}, "it has to be the ARN"),
]


@pytest.mark.parametrize(("changed", "complaint"), BAD, ids=[str(changed) for changed, _ in BAD])
def test_wrong_values_are_refused_by_the_agent(
    tmp_path: Path, changed: dict[str, Any], complaint: str
) -> None:
    refuse(tmp_path, json.dumps({**defaults(), **changed}), complaint)


def refuse(folder: Path, text: str | None, complaint: str) -> None:
    """The agent refuses a file with this text, or one that is not there."""
    if text is not None:
        (folder / "file").write_text(text, encoding="utf-8")
    with pytest.raises(WrongSettings) as caught:
        settings.read_image(folder / "file")
    assert complaint in str(caught.value)


def test_a_file_that_is_no_settings(tmp_path: Path) -> None:
    refuse(tmp_path, None, "No such file")
    for text, complaint in {
        "{": "no JSON",
        "[]": "has to be an object",
        '{"action": "none"}': "target is missing",
    }.items():
        refuse(tmp_path, text, complaint)
    misspelt = json.dumps({**defaults(), "gpu_secconds": 3})
    refuse(tmp_path, misspelt, "unknown key `gpu_secconds`; did you mean `gpu_seconds`")


def test_they_are_refused_before_a_bake_with_file_line_and_key(tmp_path: Path) -> None:
    """Each in a definition of its own would load a checkout for each: these say all at once."""
    wrong: list[dict[str, Any]] = [
        {
            "window_minutes": 14,
            "grace_minutes": 4,
            "longest_hold_hours": 0,
            "gpu_seconds": -1,
            "cpu_seconds": float("inf"),
            "network_mb": float("nan"),
            "disks_mb": -1,
            "action": "notify",
        },
        {"target": "https://hooks.slack.com/services/T/B/x"},
        {"target": f"{TOPIC}.fifo"},
    ]
    for number, changed in enumerate(wrong):
        with pytest.raises(BadInput) as refused:
            _definition(tmp_path / str(number), changed)
        said = refused.value.tail or refused.value.message
        for key in changed:
            place = rf"{IMAGE}\.yml:\d+: roles\.golden_idle\.golden_idle_{key}: "
            assert re.search(place, said), key


def _definition(tmp_path: Path, changed: dict[str, Any]) -> None:
    """Load the image's definition with these variables of the role."""
    root = tmp_path / "checkout"
    root.mkdir(parents=True)
    for name in ("ansible", "roles", "scripts"):
        (root / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "packer", root / "packer", ignore=shutil.ignore_patterns("locks"))
    path = definition_file.path_of(root, IMAGE)
    text = path.read_text(encoding="utf-8")
    lines = "".join(f"    golden_idle_{name}: {_yaml(value)}\n" for name, value in changed.items())
    path.write_text(text.replace("  golden_idle:\n", f"  golden_idle:\n{lines}"), encoding="utf-8")
    definition_file.load(root, path)


def _yaml(value: Any) -> str:
    return {"inf": ".inf", "nan": ".nan"}.get(str(value), json.dumps(value))


@pytest.mark.parametrize("target", [TOPIC, "ssm:/team/slack"])
def test_right_values_are_taken(tmp_path: Path, target: str) -> None:
    _definition(tmp_path, {"action": "poweroff", "target": target})
    assert (
        settings.check({**defaults(), "action": "poweroff", "target": target}).action
        is Action.POWEROFF
    )


def test_a_launch_says_what_the_image_left_open(tmp_path: Path) -> None:
    """It alone may hold a webhook's address."""
    (tmp_path / "etc").mkdir()
    (tmp_path / settings.IMAGE).write_text(json.dumps(defaults()), encoding="utf-8")
    assert settings.load(tmp_path).action is Action.NONE
    mine = {"action": "notify", "target": "https://hooks.slack.com/services/T/B/x"}
    (tmp_path / settings.LAUNCH).write_text(json.dumps(mine), encoding="utf-8")
    assert settings.load(tmp_path).target == mine["target"]
    mine["target"] = "http://hooks.slack.com/services/T/B/x"
    (tmp_path / settings.LAUNCH).write_text(json.dumps(mine), encoding="utf-8")
    with pytest.raises(WrongSettings, match="target is 'http://"):
        settings.load(tmp_path)


# --- holds ---


def test_a_hold_is_for_a_time_that_ends() -> None:
    times = [holds.duration(text, 72) for text in ("30m", "4h", "3d")]
    assert times == [1800, 14400, 259200]
    for text in ("forever", "0h", "4", "-1h", "inf", "4h4m", "٣h", "", "100h", "9999999d"):
        with pytest.raises(WrongHold):
            holds.duration(text, 72)


def test_a_hold_has_its_writer_s_name_and_ends(tmp_path: Path) -> None:
    holds.write(tmp_path, 500.0, "a demo\nat noon")
    hold = Hold(500.0, holds.user_name(os.getuid()), "a demo at noon")
    assert holds.read(tmp_path, 100.0, 72) == [hold]
    assert holds.read(tmp_path, 500.0, 72) == []
    assert holds.release(tmp_path) == 1 and holds.read(tmp_path, 100.0, 72) == []
    for reason in ("", " \n", "x" * 201):
        with pytest.raises(WrongHold, match="give a reason"):
            holds.write(tmp_path, 500.0, reason)


def test_what_is_no_hold_is_passed_over(tmp_path: Path) -> None:
    """Everybody may write into the folder: links, pipes, huge and endless holds."""
    good = json.dumps({"until": 500.0, "reason": "x"})
    (tmp_path / "outside").write_text(good, encoding="utf-8")
    folder = tmp_path / "holds"
    folder.mkdir()
    (folder / "link.json").symlink_to(tmp_path / "outside")
    os.mkfifo(folder / "pipe.json")
    for name, text in {
        "text": "no",
        "list": "[1]",
        "endless": '{"until": Infinity, "reason": "x"}',
        "far": '{"until": 9e9, "reason": "x"}',
        "deep": "[" * 4000,
        "huge": '{"until": 1' + "0" * 400 + ', "reason": "x"}',
        "nan": '{"until": NaN, "reason": "x"}',
        "long": json.dumps({"until": 500.0, "reason": "x" * 5000}),
    }.items():
        (folder / f"{name}.json").write_text(text, encoding="utf-8")
    assert holds.read(folder, 100.0, 72) == []
    (folder / "good.json").write_text(good, encoding="utf-8")
    assert len(holds.read(folder, 100.0, 72)) == 1
    assert holds.read(tmp_path / "absent", 100.0, 72) == []


def test_nobody_hides_the_holds_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one user those count that last longest; what has ended or is no hold goes with time."""

    def put(number: int, until: float, owner: int) -> None:
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps({"until": until, "reason": str(number)}), encoding="utf-8")
        os.chown(path, owner, owner)

    for number in range(300):
        put(number, 500.0 + number, 65534)
        put(1000 + number, 50.0, 65534)
    put(9999, 400.0, 0)
    (tmp_path / "nothing").touch()
    users = Counter(hold.user for hold in holds.read(tmp_path, 100.0, 72, tidy=True))
    assert users == {holds.user_name(65534): holds.MOST_OF_ONE, holds.user_name(0): 1}
    assert len([*tmp_path.iterdir()]) == 602, "somebody may be writing them"
    monkeypatch.setattr(holds, "WRITING_S", -1)
    assert len(holds.read(tmp_path, 100.0, 72, tidy=True)) == holds.MOST_OF_ONE + 1
    assert len([*tmp_path.iterdir()]) == holds.MOST_OF_ONE + 1
    assert max(hold.until for hold in holds.read(tmp_path, 100.0, 72)) == 799.0


# --- counters ---


def write(path: Path, text: str = "") -> None:
    files.write(path.parent, {path.name: text})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with two cores, a network card, a bridge, a terminal."""
    counters(tmp_path)
    for name in ("sys/class/net/ens5/device", "sys/class/net/docker0"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "dev/pts/0")
    write(tmp_path / "dev/pts/ptmx")
    write(
        tmp_path / "proc/meminfo",
        "MemTotal: 1000 kB\nMemFree: 300 kB\nBuffers: 100 kB\nCached: 90 kB\nSReclaimable: 10 kB\n",
    )
    write(
        tmp_path / "proc/1/mounts",
        f"/dev/nvme0n1p1 {tmp_path} ext4 rw 0 0\n/dev/nvme0n1p1 /b ext4 rw 0 0\n"
        "tmpfs /run tmpfs rw 0 0\n/dev/gone /no/such ext4 rw 0 0\n",
    )
    return tmp_path


def counters(root: Path, *, ticks: int = 1000, octets: int = 0) -> None:
    write(root / "proc/stat", f"cpu  {ticks} 0 0 5000 100 0 0 7 0 0\ncpu0 1 2\n")
    write(
        root / "proc/net/dev",
        "head\nhead\n"
        + "".join(
            f"  {name}: {octets} 1 0 0 0 0 0 0 {octets} 1 0 0 0 0 0 0\n"
            for name in ("ens5", "lo", "docker0")
        ),
    )


def moved(root: Path, gpus: list[Gpu] | None = None, **changed: int) -> Any:
    """The sample of ten seconds in which the counters became so."""
    earlier = machine.read(root)
    counters(root, **changed)
    later = machine.read(root)
    object.__setattr__(later, "at", earlier.at + 10)
    return machine.sample(earlier, later, gpus or [], "", later.at)


def test_sums_count_each_real_device_once(root: Path) -> None:
    tick = os.sysconf("SC_CLK_TCK")
    found = moved(root, [Gpu(0, "", "", 9, 40, 0, 0)] * 2, ticks=1000 + 5 * tick, octets=3_000_000)
    assert found.amounts[CPU] == pytest.approx(5)
    assert found.amounts[GPU] == pytest.approx(8), "of both"
    assert found.amounts[NETWORK] == pytest.approx(6 / 12), "none is known to be a job's"
    assert not found.used


def test_typing_is_a_terminal_that_was_read_or_a_new_one_at_any_time_of_day(root: Path) -> None:
    assert not moved(root).used
    for at in (1_000_000_000, 4_000_000_000):  # clocks that were set back and ahead
        earlier = machine.read(root)
        os.utime(root / "dev/pts/0", (at, 0))
        assert machine.sample(earlier, machine.read(root), [], "", 0).used
    earlier = machine.read(root)
    os.utime(root / "dev/pts/0", (4_000_000_000, 77))  # written to, as by a program that prints
    assert not machine.sample(earlier, machine.read(root), [], "", 0).used
    write(root / "dev/ttyS0")
    assert machine.sample(earlier, machine.read(root), [], "", 0).used


def test_two_readings_at_one_time_are_busy(root: Path) -> None:
    reading = machine.read(root)
    found = machine.sample(reading, reading, [], "", 0)
    assert {str(amount) for amount in found.amounts.values()} == {"nan"}


def test_figures_have_the_names_and_dimensions_of_cloudwatch_s_agent(root: Path) -> None:
    earlier = machine.read(root)
    counters(root, ticks=1100)
    gpu = Gpu(1, "Tesla T4", "Turing", 40, 97, 300, 15360)
    minute: metrics.Minute = {}
    metrics.add(minute, metrics.figures(root, earlier, machine.read(root), [gpu]))
    metrics.add(minute, iter([metrics.Figure("mem_used_percent", 70.0, "Percent")]))
    data = {each["MetricName"]: each for each in metrics.data(minute, 5.0, {"InstanceId": "i-1"})}
    own = [
        {"Name": "index", "Value": "1"},
        {"Name": "name", "Value": "Tesla T4"},
        {"Name": "arch", "Value": "Turing"},
        {"Name": "InstanceId", "Value": "i-1"},
    ]
    assert data["nvidia_smi_utilization_gpu"]["Dimensions"] == own
    assert data["nvidia_smi_memory_used"]["StatisticValues"]["Sum"] == 300
    assert data["nvidia_smi_memory_total"]["Unit"] == "None"
    assert data["cpu_usage_active"]["StatisticValues"]["Maximum"] == pytest.approx(100)
    assert data["mem_used_percent"]["StatisticValues"] == {
        "SampleCount": 2,
        "Sum": 120,
        "Minimum": 50,
        "Maximum": 70,
    }
    disk = data["disk_used_percent"]
    named = [(one["Name"], one["Value"]) for one in disk["Dimensions"][:3]]
    assert named == [("path", str(root)), ("device", "nvme0n1p1"), ("fstype", "ext4")]
    assert 0 < disk["StatisticValues"]["Sum"] < 100 and disk["StatisticValues"]["SampleCount"] == 1


def test_costs_take_a_sample_for_as_long_as_the_agent_does() -> None:
    assert names.SAMPLE_S == decide.PERIOD_S


def test_a_group_is_scaled_by_the_use_of_all_of_its_gpus() -> None:
    minute: metrics.Minute = {}
    for index, used in ((0, 10.0), (1, 90.0), (0, 30.0)):
        figure = metrics.Figure(metrics.GPU_USE, used, dimensions=(("index", str(index)),))
        metrics.add(minute, iter([figure]))
    assert len(metrics.data(minute, 5.0, {"InstanceId": "i-1"})) == 2
    *_, whole = metrics.data(minute, 5.0, {"InstanceId": "i-1", "AutoScalingGroupName": "web"})
    assert whole["Dimensions"] == [{"Name": "AutoScalingGroupName", "Value": "web"}]
    assert whole["StatisticValues"] == {
        "SampleCount": 3,
        "Sum": 130.0,
        "Minimum": 10.0,
        "Maximum": 90.0,
    }


def test_a_group_is_told_apart_how_many_are_free_and_unused() -> None:
    """By the group alone, and of `golden_idle` by another name: costs add up all that has its
    own."""
    minute: metrics.Minute = {}
    metrics.add(
        minute, iter([metrics.Figure("golden_idle", 0.0), metrics.Figure("golden_free", 1.0)])
    )
    alone = metrics.data(minute, 5.0, {"InstanceId": "i-1"})
    assert [each["MetricName"] for each in alone] == ["golden_idle"]
    _, *group = metrics.data(minute, 5.0, {"InstanceId": "i-1", "AutoScalingGroupName": "web"})
    assert {each["MetricName"]: each["StatisticValues"]["Sum"] for each in group} == {
        names.UNUSED: 0.0,
        names.FREE: 1.0,
    }
    assert {str(each["Dimensions"]) for each in group} == {
        str([{"Name": "AutoScalingGroupName", "Value": "web"}])
    }


# --- GPUs ---


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gpu_machine.compile_libraries(tmp_path_factory.mktemp("nvidia"))


@pytest.fixture
def gpus(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[gpu_machine.GpuMachine]:
    """Two T4s; NVIDIA's library is the made-up one."""
    made = gpu_machine.GpuMachine(tmp_path, libraries)
    made.set({"count": 2, "name": "Tesla T4", "memory_mib": 15360})
    monkeypatch.setenv("FAKE_GPU", str(tmp_path / "settings"))
    monkeypatch.setattr("golden_idle.nvml.LIBRARY", str(libraries / "libnvidia-ml.so.1"))
    yield made


def test_gpus_are_asked(gpus: gpu_machine.GpuMachine) -> None:
    gpus.set({"utilization.1": 40, "used_mib.1": 300, "pid.1": 4242})
    nvml = Nvml()
    assert nvml.gpus(2) == [
        Gpu(0, "Tesla T4", "Turing", 0, 0, 0, 15360),
        Gpu(1, "Tesla T4", "Turing", 40, 40, 300, 15360),
    ]
    assert nvml.processes() == [4242]
    nvml.close()


@pytest.mark.parametrize(
    ("answers", "spins"),
    [
        ({}, True),
        ({"utilization.0": 98}, False),
        ({"memory_utilization.0": 1}, False),
        ({"power.0": 200_001}, False),
        ({"power.0": "unsupported"}, False),
    ],
)
def test_a_gpu_spins_that_moves_no_memory_and_draws_little(
    gpus: gpu_machine.GpuMachine, answers: dict[str, Any], spins: bool
) -> None:
    gpus.set({"utilization.0": 100, "power.0": 120_000, "power_limit.0": 400_000, **answers})
    nvml = Nvml()
    assert [gpu.spins for gpu in nvml.gpus(2)] == [spins, False]
    nvml.close()


def test_a_burst_between_two_samples_is_seen_once(gpus: gpu_machine.GpuMachine) -> None:
    nvml = Nvml()
    gpus.set({"burst_at.0": 1000, "burst.0": 97})
    assert [[gpu.mean for gpu in nvml.gpus(2)] for _ in range(2)] == [[97, 0], [0, 0]]
    nvml.close()


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ({"lost.1": 15}, "it fell off the bus"),
        ({"handle.1": 15}, "it fell off the bus"),
        ({"count.-1": 1}, "1 of 2 GPUs"),
        ({"init.-1": 18}, "different versions: reboot"),
        ({"init.-1": 9}, "the driver is not loaded"),
        ({"init.-1": 999}, r"nvmlInit_v2 returned 999 \(Unknown Error\)"),
    ],
)
def test_a_gpu_that_cannot_be_asked_says_why(
    gpus: gpu_machine.GpuMachine,
    answers: dict[str, int],
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpus.set(answers)
    with pytest.raises(NvmlError, match=complaint):
        Nvml().gpus(2)
    monkeypatch.setattr("golden_idle.nvml.LIBRARY", "libno-such-thing.so.1")
    with pytest.raises(NvmlError, match="cannot be loaded: is the driver installed"):
        Nvml().gpus(0)


def test_a_library_that_lacks_a_call_says_so(
    gpus: gpu_machine.GpuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older driver's."""
    monkeypatch.setattr("golden_idle.nvml.gpu_memory", lambda nvml, _: nvml("nvmlNoSuchCall"))
    with pytest.raises(NvmlError, match="the driver's library lacks a function"):
        Nvml().gpus(2)


def test_gpus_on_the_bus_count_with_and_without_a_display(tmp_path: Path) -> None:
    assert machine.gpus_on_bus(tmp_path) == 0
    for slot, vendor, kind in (
        ("a", "0x10de", "0x030200"),
        ("b", "0x10de", "0x030000"),
        ("c", "0x10de", "0x068000"),
        ("d", "0x1d0f", "0x030000"),
    ):
        device = tmp_path / "sys/bus/pci/devices" / slot
        files.write(device, {"vendor": f"{vendor}\n", "class": f"{kind}\n"})
    assert machine.gpus_on_bus(tmp_path) == 2
