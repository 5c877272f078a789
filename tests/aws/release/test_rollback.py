"""Back to the build before, in all regions: what moves, what refuses, what a region that is down
does not stop."""

from __future__ import annotations

import shutil

import pytest
from goldenami.core.errors import ExitCode
from support.aws.emulator import Emulator, Faults
from support.builds import builds
from support.builds.builds import IMAGE, REGIONS, Checkout, RegionState


@pytest.fixture
def published(checkout: Checkout) -> list[str]:
    """Ids of two builds, both published, one after the other."""
    return [checkout.publish(number) for number in (1, 2)]


def rollback(checkout: Checkout, *args: str, code: int = 0) -> str:
    return checkout.run("rollback", IMAGE, *args, code=code)


def latest(region: str) -> str:
    entry = RegionState(region).ledger().latest
    assert entry is not None
    return entry.build_id


def test_pointers_and_template_go_back_everywhere(checkout: Checkout, aws: Emulator) -> None:
    """What was withdrawn comes back when it is asked for; a build is named, forward or back."""
    published = [builds.build(checkout.root, 1).name]
    assert "no build before the present one" in rollback(checkout, code=2)
    checkout.run("publish", IMAGE)
    assert "us-east-1: none" in rollback(checkout, code=2)
    published.append(checkout.publish(2))
    before = len(aws.calls())
    assert f"roll back {IMAGE} to build {published[0]}" in rollback(checkout, "--dry-run")
    assert {call.partition(":")[2][:3] for call, _ in aws.calls()[before:]} == {"Get", "Des"}
    text = rollback(checkout)
    assert f"withdrawn, so that no publish brings it back unasked: {published[1]}" in text
    for region in REGIONS:
        state = RegionState(region)
        state.check(published, published[0])
        assert state.parameter("candidate") == state.parameter("latest")
        assert [version["DefaultVersion"] for version in state.versions()] == [True, False]
    refusal = f"build {published[1]} was rolled back in us-east-1"
    assert refusal in checkout.run("publish", IMAGE, code=2)
    for build in (published[1], *published):
        rollback(checkout, "--to", build)
        for region in REGIONS:
            state = RegionState(region)
            assert latest(region) == build
            assert state.parameter("candidate") == state.parameter("latest")
    assert [RegionState(region).ledger().withdrawn for region in REGIONS] == [(), ()]


def test_a_region_that_lost_the_build_keeps_no_other(
    checkout: Checkout, published: list[str]
) -> None:
    state = RegionState("us-west-2")
    ami = state.ami(published[0])
    lost = f"build {published[0]} of {IMAGE} cannot be launched in us-west-2: "
    state.ec2.disable_image(ImageId=ami)
    text = rollback(checkout, code=2)
    assert f"1 of 2 regions went back: {lost}{ami} is disabled" in text, text
    assert f"us-west-2       left as it is: {lost}" in text
    assert f"rollback {IMAGE} --to ID` takes another build" in text
    assert (latest("us-east-1"), latest("us-west-2")) == (published[0], published[1])
    state.ec2.deregister_image(ImageId=ami)
    assert f"nothing is changed: {lost}gone" in rollback(checkout, "--region", "us-west-2", code=2)
    assert "nothing is changed: 2 regions failed" in rollback(checkout, "--to", "0" * 12, code=2)
    assert (latest("us-east-1"), latest("us-west-2")) == (published[0], published[1])


def test_a_template_that_a_person_set_keeps_nothing_else_from_going_back(
    checkout: Checkout, published: list[str]
) -> None:
    """It stays, and is named with the command that takes it back, by an exit code that says so."""
    state, template = RegionState("us-west-2"), f"golden-{IMAGE}"
    state.ec2.create_launch_template_version(
        LaunchTemplateName=template,
        SourceVersion="2",
        LaunchTemplateData={"InstanceType": "m7i.xlarge"},
    )
    state.ec2.modify_launch_template(LaunchTemplateName=template, DefaultVersion="3")
    stays = f"default of {template}: version 3 -> it stays, since somebody set it"
    assert stays in rollback(checkout, "--dry-run")
    for _ in range(2):
        text = rollback(checkout, code=ExitCode.STAGE_FAILED)
        assert (
            f"1 of 2 regions went back: `latest` is back at {published[0]} in us-west-2, and "
            f"the default of {template} stays version 3, which somebody set" in text
        ), text
        assert {latest(region) for region in REGIONS} == {published[0]}
        assert state.parameter("latest") == state.ami(published[0])
        assert [version["DefaultVersion"] for version in state.versions()] == [False, False, True]
    RegionState("us-east-1").check(published, published[0])
    assert "--launch-template-name golden-debian-13-ml-cpu --default-version 1` takes it" in text
    state.ec2.modify_launch_template(LaunchTemplateName=template, DefaultVersion="1")
    rollback(checkout)
    checkout.run("status", IMAGE)


def test_a_region_that_is_down_is_taken_back_later(
    checkout: Checkout,
    published: list[str],
    aws: Emulator,
) -> None:
    """A plan names it, it keeps no other, and the same command again goes back by no build more."""
    aws.set(disabled_regions=["us-west-2"])
    text = rollback(checkout, "--dry-run", code=8)
    assert f"to build {published[0]}" in text and "us-west-2       left as it is: " in text, text
    assert "us-west-2       left as it is: " in rollback(checkout, "--region", "us-east-1")
    text = rollback(checkout, code=8)
    assert "1 of 2 regions went back" in text
    rest = f"`scripts/golden rollback {IMAGE} --to {published[0]} --region us-west-2` does the rest"
    assert rest in text
    RegionState("us-east-1").check(published, published[0])
    aws.set(disabled_regions=[], denied={"*": ["ec2:ModifyLaunchTemplate"]})
    assert latest("us-west-2") == published[1]
    assert "may not call ec2:ModifyLaunchTemplate" in rollback(checkout, code=8)
    aws.set(denied={})
    rollback(checkout)
    for region in REGIONS:
        RegionState(region).check(published, published[0])
        assert RegionState(region).ledger().withdrawn == (published[1],)


# --- what one region withdrew while another was out ---


@pytest.fixture
def half_back(checkout: Checkout, published: list[str], faults: Faults) -> list[str]:
    """Ids of the two builds: the second was rolled back in us-east-1 while us-west-2 was out, which
    is back now."""
    faults.add("*", "cut", regions=["us-west-2"])
    rollback(checkout, code=4)
    faults.clear()
    assert RegionState("us-west-2").ledger().withdrawn == ()
    return published


def check(checkout: Checkout, code: int) -> str:
    return checkout.run("status", IMAGE, code=code)


def test_what_a_region_did_not_hear_of_is_told_and_written_by_the_next_publish(
    checkout: Checkout,
    half_back: list[str],
) -> None:
    lacks = (
        f"us-west-2: the ledger does not say that {half_back[1]} was withdrawn, "
        "as it was in us-east-1"
    )
    assert lacks in check(checkout, 6)
    builds.build(checkout.root, 3)
    said = checkout.run("publish", IMAGE, "--dry-run")
    assert f"in which it is missing that {half_back[1]} was withdrawn elsewhere" in said
    checkout.run("publish", IMAGE)
    check(checkout, 0)
    for region in REGIONS:
        assert RegionState(region).ledger().withdrawn == (half_back[1],)


def test_a_rollback_of_one_region_asks_the_others_what_they_withdrew(
    checkout: Checkout,
    half_back: list[str],
    aws: Emulator,
) -> None:
    """The ledger of us-west-2 as an older version left it: a newer build, and nothing of what was
    withdrawn."""
    checkout.publish(3)
    state = RegionState("us-west-2")
    state.write_ledger(state.ledger().readmit(half_back[1]))
    text = rollback(checkout, "--region", "us-west-2")
    assert f"to build {half_back[0]}" in text, text
    assert half_back[1] in RegionState("us-west-2").ledger().withdrawn
    rollback(checkout, "--region", "us-west-2", "--to", half_back[1])
    assert latest("us-west-2") == half_back[1], "by its name it comes back"
    assert f"`latest` names {half_back[1]}, which was withdrawn in us-east-1" in check(checkout, 6)


# --- builds that `latest` never named ---


def gpu_candidate(checkout: Checkout) -> str:
    """A GPU image whose second build is a candidate that no GPU has seen; returns its id."""
    for number, allowed in ((1, ["--accept-untested-gpu"]), (2, [])):
        build_id = builds.build(checkout.root, number, image=builds.GPU_IMAGE, sm=("86",)).name
        code = 0 if allowed else ExitCode.HELD_BACK
        checkout.run("publish", builds.GPU_IMAGE, *allowed, code=code)
    return build_id


def test_the_gate_for_gpus_has_no_way_round(checkout: Checkout) -> None:
    candidate = gpu_candidate(checkout)
    to = ("rollback", builds.GPU_IMAGE, "--to", candidate)
    assert f"build {candidate} is not tested on a GPU" in checkout.run(*to, code=6)
    shutil.rmtree(checkout.root / "build" / builds.GPU_IMAGE / candidate)
    assert checkout.golden(*to).code == 6, "also where this machine knows nothing of the build"
    assert RegionState("us-west-2", builds.GPU_IMAGE).parameter("latest") != RegionState(
        "us-west-2", builds.GPU_IMAGE
    ).parameter("candidate")
    checkout.run(*to, "--accept-untested-gpu")
    for region in REGIONS:
        entry = RegionState(region, builds.GPU_IMAGE).ledger().latest
        assert entry is not None
        assert (entry.build_id, entry.gpu) == (candidate, "not tested on a GPU, accepted")
    checkout.run("rollback", builds.GPU_IMAGE)
    assert checkout.golden(*to).code == 0, "it was `latest` already"


def test_a_soak_has_no_way_round(checkout: Checkout, published: list[str]) -> None:
    checkout.define("publish: {regions: [us-east-1, us-west-2], soak_hours: 24}\n")
    build_ids = [builds.build(checkout.root, number).name for number in (3, 4)]
    for build in build_ids:
        checkout.run("publish", IMAGE, "--build", build, code=ExitCode.HELD_BACK)
    assert f"the candidate {build_ids[1]} has to stand until" in rollback(
        checkout, "--to", build_ids[1], code=6
    )
    assert f"build {build_ids[0]} was neither `latest` nor is it the candidate" in rollback(
        checkout, "--to", build_ids[0], code=6
    )
    assert {latest(region) for region in REGIONS} == {published[1]}
    rollback(checkout, "--to", published[0])
    rollback(checkout, "--to", build_ids[0], "--now")
    assert {latest(region) for region in REGIONS} == {build_ids[0]}
