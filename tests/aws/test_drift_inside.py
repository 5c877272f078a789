"""`golden drift IMAGE --instance ID --inside ssm`: an instance is asked by Run Command, without an
open port."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from goldenami.aws.instances import run_command
from goldenami.fleet.drift.inside import instance_program
from support.aws.emulator import Emulator
from support.builds.builds import IMAGE, Checkout, Ran
from support.builds.tools import granted
from support.drift import cloud_disk
from support.drift.cloud_disk import CloudDisk

HERE = ["sh", "-c"]
"""This machine answers as if it were the instance: the program runs, and says what it finds."""


def ask(checkout: Checkout, instance: str, *args: str) -> Ran:
    return checkout.golden("drift", IMAGE, "--instance", instance, "--inside", "ssm", *args)


def test_what_an_instance_runs_is_asked_by_its_agent(
    cloud: CloudDisk, checkout: Checkout, aws: Emulator
) -> None:
    instance = cloud.launch()
    inside = granted("drift-inside")
    aws.set(agents={instance: HERE}, allowed={"*": [*granted("drift"), *inside]})
    before = len(aws.asked())
    ran = ask(checkout, instance, "--json")
    assert ran.code == 6, ran.text
    assert {action for actions in aws.asked()[before:] for action in actions} >= set(inside), (
        "each right is used"
    )
    record = cloud_disk.record(ran.text)
    kernel = Path("/proc/sys/kernel/osrelease").read_text(encoding="utf-8").strip()
    assert record.drift == [], "its disk is as baked"
    assert kernel in [row.name for row in record.running
                      or []], "the small image has no such kernel"


NO_ANSWERS: list[tuple[list[str] | None, str]] = [
    (None, "Systems Manager knows no agent on i-"),
    (["false"], "ended as Failed"),
    (["true"], "the instance gave no answer"),
    ([sys.executable, "-c", "print('x' * 30_000)"], "Run Command keeps 24,000 characters"),
    (["echo", instance_program.MARK], "the instance's answer is broken")]


def test_who_gives_no_answer_could_not_be_looked_at(
    cloud: CloudDisk, checkout: Checkout, aws: Emulator, monkeypatch: pytest.MonkeyPatch,
) -> None:
    instance = cloud.launch()
    for agent, said in NO_ANSWERS:
        aws.set(agents={instance: agent} if agent else {})
        ran = ask(checkout, instance)
        assert (ran.code, said in ran.text) == (4, True), ran.text
    aws.set(agents={instance: ["sh", "-c", "sleep 60", "sh"]})
    monkeypatch.setattr(run_command, "RUN_S", 1)
    ran = ask(checkout, instance)
    assert (ran.code, "ended as Execution Timed Out" in ran.text) == (4, True), ran.text
    monkeypatch.setattr(run_command, "LIMIT_S", 1)
    aws.set(pending_s=3600)
    ran = ask(checkout, instance)
    assert (ran.code, "in 1 s" in ran.text) == (4, True), ran.text
    aws.set(denied={"*": ["ssm:SendCommand"]})
    ran = ask(checkout, instance)
    assert (ran.code, "ssm:SendCommand" in ran.text) == (8, True), ran.text
    file = ("--disk", str(cloud.build.disk), "--build", cloud.build.path.name)
    said = checkout.run("drift", IMAGE, "--inside", "ssm", *file, code=2)
    assert "no machine of a file" in said
