"""What a plan leads to is the same command without the plan: with all its options, and it works."""

from __future__ import annotations

import re
import shlex

import boto3
import pytest
from goldenami import cli
from goldenami.core import records
from goldenami.model.builds.build_records import LOCK_FILE
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState

PLANNING = [
    "account",
    "cluster",
    "digest",
    "gpu-test",
    "promote",
    "publish",
    "release",
    "retire",
    "rollback",
    "selftest",
    "sweep",
]
"""Commands that print a plan and stop."""


def planned(checkout: Checkout, *words: str) -> str:
    """The words of the command that the plan made by `words` leads to: its last line, which names
    the program."""
    said = checkout.run(*words)
    found = re.search(r"^next: scripts/golden (.+)\n\Z", said, re.MULTILINE)
    assert found is not None and said.count("next: ") == 1, said
    return found[1]


def done(checkout: Checkout, *words: str) -> str:
    """Run the command that a plan leads to; returns its words."""
    text = planned(checkout, *words)
    ran = checkout.golden(*shlex.split(text))
    assert ran.is_done, ran.text
    return text


def release(checkout: Checkout, number: int) -> str:
    """A verified build whose lock is the committed one; returns its id."""
    folder = builds.build(checkout.root, number)
    lockfile.write(lockfile.path_of(checkout.root, IMAGE), records.read(folder / LOCK_FILE, Lock))
    return folder.name


def latest(build_id: str) -> bool:
    """Whether it is what others launch, in every region."""
    entries = [RegionState(region).ledger().latest for region in REGIONS]
    return all(entry is not None and entry.build_id == build_id for entry in entries)


def test_these_are_the_commands_that_plan() -> None:
    found = [
        name
        for name in cli.MODULES
        if any(parameter.name == "dry_run" for parameter in cli.command(name).params)
    ]
    assert sorted(found) == PLANNING


def test_an_image_goes_all_its_way_by_what_its_plans_lead_to(
    checkout: Checkout, aws: Emulator
) -> None:
    aws.set(pending_s=0)
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}], soak_hours: 1}}\n")
    first = release(checkout, 1)
    assert (
        done(checkout, "publish", IMAGE, "--dry-run", "--build", first)
        == f"publish {IMAGE} --build {first}"
    )
    assert done(checkout, "gpu-test", "--dry-run", IMAGE) == f"gpu-test {IMAGE}"
    assert done(checkout, "promote", IMAGE, "--now", "--dry-run") == f"promote {IMAGE} --now"
    assert latest(first)
    second = release(checkout, 2)
    assert done(checkout, "release", IMAGE, "--wait", "--dry-run") == f"release {IMAGE} --wait"
    assert done(checkout, "promote", IMAGE, "--dry-run", "--now") == f"promote {IMAGE} --now"
    assert latest(second)
    assert (
        done(checkout, "rollback", IMAGE, "--dry-run", "--to", first)
        == f"rollback {IMAGE} --to {first}"
    )
    assert latest(first)
    assert done(checkout, "retire", IMAGE, "--set", "keep_last=1", "--dry-run") == (
        f"retire {IMAGE} --set keep_last=1"
    )
    assert (
        done(checkout, "sweep", "--dry-run", "--region", REGIONS[0])
        == f"sweep --region {REGIONS[0]}"
    )


@pytest.mark.parametrize("plan", [["plan"], ["apply", "--dry-run"]])
def test_a_planned_stack_is_made_of_what_was_planned(checkout: Checkout, plan: list[str]) -> None:
    options = ["--set", "GitHubRepository=me/my-images", "--region", REGIONS[0]]
    assert done(checkout, "account", *plan, *options) == shlex.join(["account", "apply", *options])
    checkout.define(f"publish: {{regions: [{REGIONS[0]}]}}\n")
    builds.build(checkout.root, 1)
    checkout.run("publish", IMAGE)
    subnets = boto3.client("ec2", REGIONS[0]).describe_subnets()["Subnets"]
    options = [IMAGE, "--set", f"Subnets={subnets[0]['SubnetId']}", "--set", "MaxInstances=3"]
    assert done(checkout, "cluster", *plan, *options) == shlex.join(["cluster", "apply", *options])
    assert done(checkout, "cluster", "remove", IMAGE, "--dry-run", "--with-machines") == (
        f"cluster remove {IMAGE} --with-machines"
    )
    assert done(checkout, "account", "remove", "--dry-run") == "account remove"
