"""`golden retire` killed before and after each of its calls, then run again: it converges, and
nothing is orphaned."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from goldenami.aws.inventory import removal
from goldenami.core import clock
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy
from support.aws.seeded_account import IMAGE, PARTNER, REAL_NOW, Calendar, SeededAccount, iso
from support.builds.builds import Checkout

POLICY = (
    "--set",
    "keep_last=1",
    "--set",
    "max_age_days=30",
    "--set",
    "disable_after_days=7",
    "--set",
    "deregister_after_days=7",
    "--release-shared",
    "--region",
    "us-east-1",
)
LATER, WAIT = 100, 8
"""Days after which the scene is looked at, and between two runs."""
STRIDE = 9
"""In the fast tier every ninth place is tried, in the slow one all of them."""


@dataclass(frozen=True)
class Scene:
    """An account in which one run has every step to take, and the AMIs that must outlive it."""

    account: SeededAccount
    announced: str
    disabled: str
    fresh: str
    recalled: str
    newest: str
    template: str

    @classmethod
    def make(cls, aws: Emulator) -> Scene:
        aws.reset()
        aws.set(pending_s=0)
        account, now = SeededAccount(aws), REAL_NOW()
        announced, disabled, fresh, recalled, gone, newest = (
            account.ami(number) for number in range(1, 7)
        )
        account.share(announced, PARTNER)
        for ami in (announced, disabled, recalled):
            removal.deprecate(account.ec2, account.described(ami), now)
        removal.disable(account.ec2, account.described(disabled), now)
        account.point("/somebody/uses", recalled)
        account.point(f"/golden-ami/{IMAGE}/latest", newest)
        template = account.template(
            f"golden-{IMAGE}", [newest, disabled, gone, newest], tagged=True
        )
        account.ec2.deregister_image(ImageId=gone)
        account.snapshot(9, complete=False, expires=iso(-1))
        return cls(account, announced, disabled, fresh, recalled, newest, template)

    def check_whole(self) -> None:
        """At any moment: what is in use is untouched."""
        amis, account = self.account.amis(), self.account
        assert amis[self.newest].state == "available" and amis[self.newest].deprecated is None
        assert amis[self.recalled].state == "available"
        assert account.parameters()[f"/golden-ami/{IMAGE}/latest"] == self.newest

    def check_end(self) -> None:
        """What stays is all that stays: its AMIs, one snapshot each, its records, its template
        versions."""
        amis, account = self.account.amis(), self.account
        assert set(amis) == {self.newest, self.recalled}
        assert amis[self.recalled].announced is None and amis[self.recalled].deprecated is None
        assert account.snapshots() == {
            snapshot for ami in amis.values() for snapshot in ami.snapshots
        }, "an orphan"
        assert account.parameters() == {
            account.record(4): self.recalled,
            account.record(6): self.newest,
            "/somebody/uses": self.recalled,
            f"/golden-ami/{IMAGE}/latest": self.newest,
        }
        versions = account.ec2.describe_launch_template_versions(LaunchTemplateId=self.template)
        assert sorted(each["VersionNumber"] for each in versions["LaunchTemplateVersions"]) == [
            1,
            4,
        ]
        lease = account.session.dynamodb(account.region).get_item(
            TableName="golden-ami", Key={"image": {"S": IMAGE}}
        )
        assert "holder" not in lease["Item"]


def settle(checkout: Checkout, scene: Scene) -> None:
    calendar = clock.now
    assert isinstance(calendar, Calendar)
    for number in range(4):
        calendar.days = LATER + number * WAIT
        said = checkout.run("retire", IMAGE, *POLICY)
        scene.check_whole()
    assert "us-east-1: " not in said, f"it never settles: {said}"


def all_points(checkout: Checkout, kill_proxy: KillProxy, aws: Emulator) -> list[KillPoint]:
    scene = Scene.make(aws)
    code, text = kill_proxy.run(checkout.root, "retire", IMAGE, *POLICY, days=LATER)
    assert code == 0, text
    steps = (
        "recall",
        "deprecate",
        "disable",
        "delete template version",
        "deregister",
        "delete snapshot",
        "delete record",
    )
    assert all(f": {step} " in text for step in steps), text
    points = kill_proxy.points()
    settle(checkout, scene)
    scene.check_end()
    return points


def try_points(
    checkout: Checkout, kill_proxy: KillProxy, aws: Emulator, points: list[KillPoint]
) -> None:
    for point in points:
        scene = Scene.make(aws)
        code, text = kill_proxy.run(
            checkout.root, "retire", IMAGE, *POLICY, point=point, days=LATER
        )
        assert kill_proxy.struck and code == -9, f"{point}: {text}"
        scene.check_whole()
        settle(checkout, scene)
        scene.check_end()


def test_retire_killed_here_and_there(
    checkout: Checkout,
    kill_proxy: KillProxy,
    aws: Emulator,
    calendar: Calendar,
) -> None:
    changes = [
        point
        for point in all_points(checkout, kill_proxy, aws)
        if "Describe" not in point.action and "Get" not in point.action
    ]
    assert len(changes) >= 2 * 10
    try_points(checkout, kill_proxy, aws, changes[::STRIDE])


@pytest.mark.long
def test_retire_killed_everywhere(
    checkout: Checkout, kill_proxy: KillProxy, aws: Emulator, calendar: Calendar
) -> None:
    points = all_points(checkout, kill_proxy, aws)
    print(f"{len(points)} places")
    try_points(checkout, kill_proxy, aws, points)
