"""kill -9 before and after every call to AWS of publish, promote and rollback; then the same
command again."""

from __future__ import annotations

import random
import re
import signal
from pathlib import Path

import pytest
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy, When
from support.builds import builds
from support.builds.builds import GPU_IMAGE, IMAGE, REGIONS, Checkout, RegionState
from support.gpu import gpu_records

SOAK_DAYS = 2
"""For how long a candidate stands before it is promoted."""
SAMPLE = 1
"""Points that the fast tests try of each list, each time others; the long ones try all."""


class Life:
    """Builds of one image that are published one after the other, each time through a kill."""

    image = IMAGE

    def __init__(self, emulator: Emulator, checkout: Checkout, kill_proxy: KillProxy) -> None:
        self.emulator, self.root, self.kill_proxy = emulator, checkout.root, kill_proxy
        self.builds: list[str] = []
        self.anew()

    def anew(self) -> None:
        """An empty account and no build: what every step looks at grows with each publish."""
        self.emulator.reset()
        self.emulator.set(pending_s=0.01)
        self.builds.clear()
        self.latest = ""
        for folder in (self.root / "build" / self.image).glob("[0-9a-f]*"):
            folder.rename(self.root / f"old-{random.getrandbits(64):x}")

    def golden(self, *args: str, point: KillPoint | None = None, days: float = 0) -> None:
        """Run it, killed at `point`, then again until it says that all is well; its clock is `days`
        ahead."""
        if point is not None:
            code, text = self.kill_proxy.run(self.root, *args, point=point, days=days)
            # how often a state is asked for depends on the time, so that the last look may not come
            assert code in ([-9] if self.kill_proxy.struck else builds.DONE), (
                f"{point}: {code}\n{text}"
            )
            for region in REGIONS:
                self.check_launchable(RegionState(region, self.image))
        code, text = self.kill_proxy.run(self.root, *args, days=days)
        assert code in builds.DONE, f"{point}:\n{text}"

    @staticmethod
    def check_launchable(state: RegionState) -> None:
        """Whatever happened."""
        states = {raw["ImageId"]: raw["State"] for raw in state.amis().values()}
        template = state.template()
        for ami in (
            state.parameter("latest"),
            template and template["LaunchTemplateData"]["ImageId"],
        ):
            assert ami is None or states.get(ami) == "available", (
                f"{state.region}: {ami} of {states}"
            )

    def publish(self, point: KillPoint | None = None) -> None:
        self.builds.append(builds.build(self.root, len(self.builds) + 1).name)
        self.latest = self.builds[-1]
        self.golden("publish", IMAGE, point=point)
        self.check(point)

    def check(self, point: KillPoint | None) -> None:
        """One AMI a region and build, no orphan of any kind, `latest` where it should be."""
        for region in REGIONS:
            try:
                RegionState(region, self.image).check(self.builds, self.latest)
            except AssertionError as error:
                raise AssertionError(f"{point}: {region}: {error}") from error


class Candidates(Life):
    """Builds that are promoted one after the other, after their soak and a test on a GPU, each time
    through a kill."""

    image = GPU_IMAGE

    def stand(self) -> None:
        self.builds.append(
            builds.build(self.root, len(self.builds) + 1, image=self.image, sm=("86",)).name
        )
        self.golden("publish", self.image)
        gpu_records.keep(gpu_records.facts(self.builds[-1]))

    def promote(self, point: KillPoint | None = None) -> None:
        """What `latest` was is what a rollback would take it back to; the candidate stays what it
        is."""
        self.golden("promote", self.image, point=point, days=SOAK_DAYS)
        before, self.latest = self.latest, self.builds[-1]
        self.check(point)
        for region in REGIONS:
            state = RegionState(region, self.image)
            previous = state.ledger().previous()
            assert (previous.build_id if previous else "") == before, f"{point}: {region}"
            assert state.parameter("candidate") == state.parameter("latest"), f"{point}: {region}"


@pytest.fixture
def life(
    aws: Emulator, kill_proxy: KillProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Life:
    return Life(aws, Checkout(tmp_path / "checkout", monkeypatch), kill_proxy)


@pytest.fixture
def candidates(
    aws: Emulator, kill_proxy: KillProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Candidates:
    checkout = Checkout(tmp_path / "checkout", monkeypatch)
    checkout.define(
        f"publish: {{regions: [{', '.join(REGIONS)}], soak_hours: {SOAK_DAYS * 24 - 1}}}\n",
        GPU_IMAGE,
    )
    return Candidates(aws, checkout, kill_proxy)


def chosen(points: list[KillPoint], request: pytest.FixtureRequest) -> list[KillPoint]:
    assert {point.when for point in points} == set(When) and {
        point.region for point in points
    } >= set(REGIONS)
    return points if request.node.get_closest_marker("long") else random.sample(points, SAMPLE)


EXTENT = [pytest.param(False, id="some"), pytest.param(True, id="every", marks=pytest.mark.long)]


@pytest.mark.parametrize("_every", EXTENT)
def test_a_publish_that_was_killed_is_continued(
    life: Life, _every: bool, request: pytest.FixtureRequest
) -> None:
    life.publish()
    life.publish()
    for number, point in enumerate(chosen(life.kill_proxy.points(), request)):
        if number % 6 == 5:
            life.anew()
            life.publish()
        life.publish(point)


@pytest.mark.long
def test_a_first_publish_that_was_killed_is_continued(
    life: Life,
    request: pytest.FixtureRequest,
) -> None:
    life.publish()
    first = {
        "dynamodb:CreateTable",
        "dynamodb:DescribeTable",
        "ec2:CreateLaunchTemplate",
        "ssm:GetParameters",
    }
    for point in chosen(
        [point for point in life.kill_proxy.points() if point.action in first], request
    ):
        life.anew()
        life.publish(point)


@pytest.mark.parametrize("_every", EXTENT)
def test_a_rollback_that_was_killed_is_continued(
    life: Life, _every: bool, request: pytest.FixtureRequest
) -> None:
    life.publish()
    life.publish()
    first, second = life.builds
    life.golden("rollback", IMAGE)
    for point in chosen(life.kill_proxy.points(), request):
        life.golden("rollback", IMAGE, "--to", second)
        life.latest = second
        life.check(None)
        life.latest = first
        life.golden("rollback", IMAGE, point=point)
        life.check(point)


@pytest.mark.parametrize("_every", EXTENT)
def test_a_promotion_that_was_killed_is_continued(
    candidates: Candidates,
    _every: bool,
    request: pytest.FixtureRequest,
) -> None:
    for _ in range(2):
        candidates.stand()
        candidates.promote()
    for number, point in enumerate(chosen(candidates.kill_proxy.points(), request)):
        if number % 6 == 5:
            candidates.anew()
            candidates.stand()
            candidates.promote()
        candidates.stand()
        candidates.promote(point)


def test_an_interrupt_does_not_wait_for_the_regions(life: Life) -> None:
    """A block that EBS never confirms: its region's upload could not end before the interrupted
    process."""
    builds.define(life.root, f"publish: {{regions: [{', '.join(REGIONS)}], transfer: upload}}\n")
    build = builds.build(life.root, 1)
    life.builds.append(build.name)
    life.latest = build.name
    point = KillPoint("ebs:PutSnapshotBlock", REGIONS[1], 2, When.BEFORE)
    code, text = life.kill_proxy.run(life.root, "publish", IMAGE, point=point, by=signal.SIGINT)
    assert (code, life.kill_proxy.struck) == (130, True), text
    assert re.search(r"interrupted after \d+ s; the same command continues", text), text
    assert RegionState(REGIONS[1]).amis() == {}, "it waited for the upload"
    life.golden("publish", IMAGE)
    life.check(None)
