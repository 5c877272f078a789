"""`golden sweep` after a life like that of `golden selftest`: all of it goes, wherever it was
killed, and nothing else."""

from __future__ import annotations

import re
import subprocess
from datetime import timedelta

import pytest
from goldenami.aws import tags
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.core.errors import ExitCode, GoldenError
from goldenami.core.process import ProcessId
from goldenami.model.operation.publish_section import SELFTEST_IMAGE
from goldenami.release.retire import sweep
from support.aws import quick, selftest_life
from support.aws.emulator import Emulator
from support.aws.kill_proxy import KillPoint, KillProxy
from support.aws.seeded_account import SeededAccount, iso
from support.aws.selftest_life import HOME, STACK, everything
from support.builds import builds
from support.builds.builds import REGIONS, Checkout

SWEEP = ("sweep", "--region", REGIONS[0], "--region", REGIONS[1])
STRIDE = 9
"""In the fast tier every ninth place is tried, in the slow one all of them."""


@pytest.fixture(scope="module")
def killed() -> str:
    """The owner of a run that was killed."""
    with subprocess.Popen(["sleep", "infinity"]) as process:
        of_it = ProcessId.of(process.pid)
        process.kill()
    return selftest_life.owner_of(of_it)


def until(days: float, owner: str) -> dict[str, str]:
    return {tags.SELFTEST: f"{iso(days)} {owner}"}


def test_a_whole_life_goes_and_nothing_else(aws: Emulator, checkout: Checkout, killed: str) -> None:
    aws.set(pending_s=0)
    selftest_life.neighbours(aws, killed)
    before = everything()
    selftest_life.whole(checkout, aws, until(1, killed))
    made = everything() - before
    assert {(region, kind) for region, kind, _ in made} == {
        (region, kind.value) for region in REGIONS for kind in LeftoverKind
    }
    dry = checkout.run(*SWEEP, "--dry-run")
    assert everything() - before == made
    assert f"remove stack {STACK} of {killed}: its run has ended" in dry
    said = checkout.run(*SWEEP)
    assert everything() == before, said
    assert "0 things removed" in checkout.run(*SWEEP)


def test_what_another_run_is_at_work_with_stays_until_it_expires(
    aws: Emulator, account: SeededAccount, killed: str
) -> None:
    """The owner is on another machine; what carries no tag stays with what does."""
    selftest_life.short(aws, until(1, "me@elsewhere:1-1-0123456789ab"))
    before = everything(HOME)
    prepared = sweep.of_selftest(account.session, [HOME])
    items = prepared.plan.regions[HOME]
    assert {item.kind for item in items} == {kind.value for kind in LeftoverKind}
    assert all("me@elsewhere:1" in item.kept + item.owner for item in items if item.kept)
    assert all(item.kept for item in items)
    sweep.execute(account.session, prepared)
    assert everything(HOME) == before


def test_a_run_removes_its_own_and_proves_it(account: SeededAccount, aws: Emulator) -> None:
    regions = [HOME, "eu-west-1"]
    aws.set(disabled_regions=regions[1:])
    before = everything(HOME)
    selftest_life.short(aws, tags.of_selftest(timedelta(hours=2)))
    with pytest.raises(GoldenError, match=r"not everything was swept: .* eu-west-1"):
        sweep.execute(account.session, sweep.of_selftest(account.session, regions))
    assert everything(HOME) == before
    left = sweep.left_of_selftest(account.session, regions)
    proof = list(sweep.proof_lines(left.plan))
    assert len(proof) == len(regions) and "eu-west-1       unreachable: " in proof[1]
    assert all(kind in proof[0] for kind in LeftoverKind)
    assert proof[0].endswith("): nothing is left, and 0 things stay that other runs use")
    # What others are at work with is none of this run's.
    selftest_life.short(aws, until(1, "me@elsewhere:1-1-0123456789ab"))
    account.ec2.create_volume(
        Size=1,
        AvailabilityZone=f"{HOME}a",
        TagSpecifications=tags.specifications(tags.of_selftest(timedelta(hours=2)), "volume"),
    )
    left = sweep.of_selftest(account.session, [HOME])
    [proof[0]] = sweep.proof_lines(left.plan)
    assert re.search(
        r"\): volume vol-\w+ is left, and \d\d things stay that other runs use$", proof[0]
    )


def test_a_region_that_does_not_answer_does_not_stop_another(
    aws: Emulator, checkout: Checkout, killed: str
) -> None:
    aws.set(pending_s=0)
    before = everything(HOME)
    selftest_life.short(aws, until(1, killed))
    aws.set(disabled_regions=[REGIONS[1]])
    said = checkout.run(*SWEEP, code=ExitCode.HOST)
    assert f"the account has not enabled {REGIONS[1]}" in said
    assert everything(HOME) == before


# --- killed ---


def test_what_a_publish_leaves_goes_wherever_it_was_killed(
    aws: Emulator, checkout: Checkout, kill_proxy: KillProxy, killed: str
) -> None:
    selftest_life.define(checkout, until(1, killed), HOME)
    builds.build(checkout.root, 1, image=SELFTEST_IMAGE)

    def publish(point: KillPoint | None) -> int:
        aws.reset()
        aws.set(pending_s=quick.PENDING_S)
        return kill_proxy.run(checkout.root, "publish", SELFTEST_IMAGE, point=point)[0]

    assert publish(None) == 0
    changes = [point for point in kill_proxy.points() if is_change(point)]
    assert len(changes) >= 2 * 10
    tried = changes[:: STRIDE // 2]
    for point in tried:
        assert publish(point) == -9, point
        said = checkout.run(*SWEEP[:3])
        assert {kind for _, kind, _ in everything(HOME)} == {LeftoverKind.SECURITY_GROUP}, (
            f"{point}: {said}"
        )
    assert checkout.golden("publish", SELFTEST_IMAGE).is_done, "after what it left was removed"


def is_change(point: KillPoint) -> bool:
    return re.match("(?!Describe|Get|List|Scan)", point.action.partition(":")[2]) is not None


def scene(aws: Emulator, killed: str) -> set[tuple[str, str, str]]:
    """An account with such a life; returns what was there before."""
    aws.reset()
    aws.set(pending_s=0)
    selftest_life.neighbours(aws, killed, HOME)
    before = everything(HOME)
    selftest_life.short(aws, until(1, killed))
    return before


def all_points(
    checkout: Checkout, kill_proxy: KillProxy, aws: Emulator, killed: str
) -> list[KillPoint]:
    before = scene(aws, killed)
    code, text = kill_proxy.run(checkout.root, *SWEEP[:3])
    assert (code, everything(HOME)) == (0, before), text
    return kill_proxy.points()


def try_points(
    checkout: Checkout, kill_proxy: KillProxy, aws: Emulator, killed: str, points: list[KillPoint]
) -> None:
    for point in points:
        before = scene(aws, killed)
        code, text = kill_proxy.run(checkout.root, *SWEEP[:3], point=point)
        assert kill_proxy.struck and code == -9, f"{point}: {text}"
        assert before <= everything(HOME), point
        said = checkout.run(*SWEEP[:3])
        assert everything(HOME) == before, f"{point}: {said}"


def test_a_sweep_killed_here_and_there(
    aws: Emulator, checkout: Checkout, kill_proxy: KillProxy, killed: str
) -> None:
    points = all_points(checkout, kill_proxy, aws, killed)
    changes = [point for point in points if is_change(point)]
    assert len(changes) >= 2 * 10
    try_points(checkout, kill_proxy, aws, killed, changes[::STRIDE])


@pytest.mark.long
def test_a_sweep_killed_everywhere(
    aws: Emulator, checkout: Checkout, kill_proxy: KillProxy, killed: str
) -> None:
    points = all_points(checkout, kill_proxy, aws, killed)
    print(f"{len(points)} places")
    try_points(checkout, kill_proxy, aws, killed, points)
