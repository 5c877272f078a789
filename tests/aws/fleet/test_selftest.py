"""`golden selftest` in the emulated account: the whole life, obstacles, the limit of dollars,
deviations and their replay."""

from __future__ import annotations

import re
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from goldenami.aws import tags
from goldenami.core import clock
from goldenami_fleet.commands import selftest as command
from goldenami_fleet.selftest import plan, probing
from goldenami_fleet.selftest.life import LIFE
from goldenami_fleet.selftest.run import SelftestRun
from goldenami_fleet.selftest.selftest_records import StepState
from support.aws import selftest
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.builds import builds
from support.builds.builds import Ran

DIFFERS, BUSY, KILLED, INTERRUPTED = 6, 7, -9, 130
HOME, AWAY = selftest.REGIONS
MINE, SECRET_KEY = "210987654321", "AKIASELFTEST00000000"


@pytest.fixture
def root(aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "cache"))
    aws.set(refresh_s=0.02)
    selftest.prepare(tmp_path)
    return tmp_path


def run(root: Path, *words: str) -> Ran:
    return builds.golden(root, "selftest", "--emulated", *words)


def only(monkeypatch: pytest.MonkeyPatch, *names: str, **changes: Any) -> None:
    """Leave the run these steps."""
    steps = {name: replace(plan.STEPS[name], **changes) for name in names}
    monkeypatch.setattr(plan, "STEPS", steps)


def test_each_step_is_shown_and_nothing_is_left(
    root: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET_KEY)
    aws.set(accounts={SECRET_KEY: MINE})
    ran = run(root)
    assert ran.code == 0, ran.text
    found = selftest.record(root)
    states = selftest.states(found)
    assert {states.pop(name) for name in ("boot", "local-disk")} == {"unreachable"}
    assert set(states.values()) == {"shown"} and len(states) == 11
    assert (found.deviations, found.left) == ((), ())
    assert 0 < found.usd < found.most_usd
    page = (root / command.FOLDER / "selftest.html").read_text(encoding="utf-8")
    assert "0 deviations" in page and "An emulator says nothing of AWS" in page
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET_KEY)
    assert selftest.left() == []


def test_a_machine_that_never_answers_is_named_and_terminated(
    root: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "publish", "boot")
    aws.set(instance_address="127.0.0.9")  # where nobody listens
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "1")
    ran = builds.golden(root, "selftest", "--region", HOME)
    assert ran.code == DIFFERS, ran.text
    found = {row.rule: row.actual for row in selftest.record(root).deviations}
    assert found.keys() == {"boots_under_uefi", "boots_under_bios"}
    assert all("SSH did not answer within 1 s" in actual for actual in found.values())
    assert selftest.left() == []


def test_a_deviation_has_its_request_and_answer_and_is_there_again_when_replayed(
    root: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "publish", "launch")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", SECRET_KEY)
    aws.set(accounts={SECRET_KEY: MINE})
    aws.late({"mode": "refused", "calls": ["ec2:RunInstances"], "code": "GoldenNonsense"})
    ran = run(root)
    assert ran.code == DIFFERS, ran.text
    deviations = selftest.record(root).deviations
    deviation, probes = deviations[0], [found.name for found in deviations[1:]]
    assert (deviation.name, deviation.expected) == ("launch/command", "success")
    assert set(probes) >= {"launch/launchable", "launch/allowed_type"}
    assert deviation.call and deviation.call.error == "GoldenNonsense"
    assert deviation.call.request["InstanceType"] == plan.SMALL
    text = (root / command.FOLDER / "selftest.json").read_text(encoding="utf-8")
    assert MINE not in text and not re.search(r"\d+\.\d+\.\d+\.\d+(?<!192\.0\.2\.1)\"", text)
    assert "launch/command: expected success" in ran.text
    aws.late()
    assert run(root).code == 0
    kept = root / "aws.json"
    kept.write_text(text, encoding="utf-8")
    again = run(root, "--replay", str(kept))
    said = f"{len(deviations)} of {len(deviations)} deviations are there again"
    assert (again.code, said in again.text) == (0, True), again.text
    assert selftest.left() == []


@pytest.mark.parametrize(
    ("step", "call", "code", "name"),
    [
        ("publish", "", "", "publish/copy_image"),
        ("publish", "ebs:CompleteSnapshot", "ValidationException", "publish/command"),
        ("refresh", "autoscaling:StartInstanceRefresh", "ValidationError", "refresh/command"),
        ("drift", "ec2:ReplaceImageInstanceTypeSpecification", "Nonsense", "drift/command"),
        ("cluster", "cloudformation:ExecuteChangeSet", "ValidationError", "cluster/command"),
    ],
)
def test_a_command_that_aws_stops_is_named_with_the_call(
    root: Path,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    call: str,
    code: str,
    name: str,
) -> None:
    only(monkeypatch, *dict.fromkeys(("publish", step)))
    monkeypatch.setattr(probing, "PROBES", ())
    aws.set(broken=[] if call else ["copy_image"])

    def begun(run: SelftestRun) -> None:
        if call:
            aws.late({"mode": "refused", "code": code, "calls": [call]})
        LIFE[step](run)
        aws.late()

    monkeypatch.setattr(command, "LIFE", {**LIFE, step: begun})
    ran = run(root)
    [deviation] = selftest.record(root).deviations
    assert (deviation.name, ran.code) == (name, DIFFERS), ran.text
    if call:
        assert deviation.call and f"{deviation.call.service}:{deviation.call.operation}" == call
    aws.late()


def test_a_step_that_the_account_forbids_is_unreachable_and_the_others_go_on(
    root: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "publish", "account", "cluster", "retire")
    aws.set(denied={"*": ["cloudformation:*"]})
    ran = run(root)
    found = selftest.record(root)
    assert selftest.states(found) == {
        "publish": "shown",
        "account": "unreachable",
        "cluster": "unreachable",
        "retire": "shown",
    }, ran.text
    reasons = {step.step: step.why for step in found.steps}
    assert "may not call cloudformation:" in reasons["account"]
    assert found.deviations == ()


def test_without_its_first_step_the_others_are_not_begun(
    root: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "publish", "launch", "retire")
    aws.set(denied={"*": ["ebs:StartSnapshot"]})
    run(root)
    found = selftest.record(root)
    assert set(selftest.states(found).values()) == {"unreachable"}
    assert [step.why for step in found.steps[1:]] == ["publish was not shown"] * 2
    assert selftest.left() == []


@pytest.mark.parametrize(
    ("usd_hour", "why"),
    [
        ({"t3.micro": 10.4}, "it may cost $10.40"),
        ({}, "no limit could be kept without prices"),
    ],
)
def test_the_limit_of_dollars_holds(
    root: Path,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
    usd_hour: dict[str, float],
    why: str,
) -> None:
    only(monkeypatch, "publish", "launch", most_minutes=20)
    aws.set(usd_hour={"*": usd_hour})
    run(root)
    found = selftest.record(root)
    assert selftest.states(found) == {"publish": "shown", "launch": "unreachable"}
    assert why in found.steps[1].why
    assert found.usd < found.most_usd
    assert "ec2:RunInstances" not in dict(aws.calls())


def test_a_step_that_hangs_ends_and_its_machines_with_it(
    root: Path, aws: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "publish", "launch")
    launch = replace(plan.STEPS["launch"], most_minutes=0.05)
    monkeypatch.setitem(plan.STEPS, "launch", launch)
    aws.late({"mode": "hanging", "calls": ["ec2:TerminateInstances"], "times": 1})
    ran = run(root)
    found = selftest.record(root)
    [deviation] = found.deviations
    assert "launch takes longer than" in deviation.actual, ran.text
    assert selftest.left() == []


def test_with_a_gpu_the_other_steps_do_not_wait_for_its_test(
    aws: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only(monkeypatch, "publish", "gpu-test", "launch")
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "cache"))
    selftest.prepare(tmp_path, sm=("75",))
    ran = run(tmp_path, "--gpu")
    states = selftest.states(selftest.record(tmp_path))
    assert states == {"publish": "shown", "gpu-test": "unreachable", "launch": "shown"}, ran.text
    assert selftest.left() == []


def test_another_run_in_the_account_is_left_alone(root: Path, aws: Emulator) -> None:
    until = clock.stamp(clock.now() + timedelta(hours=1))
    theirs = {"Key": tags.SELFTEST, "Value": f"{until} ann@elsewhere:1-2-0123456789ab"}
    ec2 = boto3.client("ec2", region_name=AWAY, endpoint_url=aws.url)
    made = ec2.create_volume(
        AvailabilityZone=f"{AWAY}a",
        Size=1,
        TagSpecifications=[{"ResourceType": "volume", "Tags": [theirs]}],
    )
    ran = run(root)
    assert (ran.code, "another self-test is at work" in ran.text) == (BUSY, True), ran.text
    [volume] = ec2.describe_volumes()["Volumes"]
    assert volume["VolumeId"] == made["VolumeId"]


def test_two_regions_are_asked_for(root: Path, aws: Emulator) -> None:
    ran = run(root, "--region", "us-east-1", "--region", "us-east-1")
    assert (ran.code, "in two regions" in ran.text) == (2, True)


KILLS = (
    KillPoint("ebs:StartSnapshot", HOME, 1, When.AFTER),
    KillPoint("ec2:CopyImage", AWAY, 1, When.AFTER),
    KillPoint("ec2:CreateLaunchTemplate", AWAY, 1, When.AFTER),
    KillPoint("ec2:RunInstances", HOME, 2, When.AFTER),
    KillPoint("autoscaling:StartInstanceRefresh", HOME, 1, When.AFTER),
    KillPoint("cloudformation:ExecuteChangeSet", HOME, 1, When.AFTER),
    KillPoint("ec2:DeregisterImage", AWAY, 1, When.BEFORE),
)


def killed(root: Path, kill_proxy: KillProxy, point: KillPoint) -> int:
    """Kill a run, then sweep at once. Returns how many things that removed."""
    code, text = kill_proxy.run(root, "selftest", "--emulated", point=point)
    assert (code, kill_proxy.struck) == (KILLED, True), f"{point}: {text}"
    before = len(selftest.left())
    code, text = kill_proxy.run(root, "sweep")
    assert (code, selftest.left()) == (0, []), f"{point}: {text}"
    return before


@pytest.mark.slow
@pytest.mark.parametrize("point", KILLS, ids=str)
def test_a_sweep_removes_at_once_what_a_killed_run_left(
    root: Path, kill_proxy: KillProxy, point: KillPoint
) -> None:
    assert killed(root, kill_proxy, point) > 0


@pytest.mark.slow
def test_an_interrupted_run_removes_all_itself(root: Path, kill_proxy: KillProxy) -> None:
    point = KillPoint("ec2:RunInstances", HOME, 2, When.AFTER)
    code, text = kill_proxy.run(root, "selftest", "--emulated", point=point, by=signal.SIGINT)
    assert (code, kill_proxy.struck, selftest.left()) == (INTERRUPTED, True, []), text
    found = selftest.record(root)
    states = {step.step: (step.state, step.why) for step in found.steps}
    assert states["publish"] == (StepState.SHOWN, ""), states
    assert states["retire"] == (StepState.UNREACHABLE, "the run was interrupted"), states
    assert (len(states), found.left) == (len(plan.STEPS) - 1, ()), "all but that with a GPU"


@pytest.mark.long
def test_a_run_may_be_killed_at_any_call(root: Path, kill_proxy: KillProxy) -> None:
    code, text = kill_proxy.run(root, "selftest", "--emulated")
    assert code == 0, text
    points = [point for point in kill_proxy.points() if point.when is When.AFTER]
    removed = [killed(root, kill_proxy, point) for point in points]
    print(f"{len(points)} kills, {sum(map(bool, removed))} of them left something; nothing is left")
