"""What another run does between a plan and its lease: the plan is not carried out over it."""

from __future__ import annotations

import pytest
from goldenami.aws.channels.channels import ImageInAccount
from goldenami.aws.regions import Prepared
from goldenami.core.errors import Busy
from goldenami.core.terminal.progress import Progress
from goldenami.model.definitions import definition_file
from goldenami.release.gpu_test.gpu_evidence import GpuJudge
from goldenami.release.publish import (
    promote,
    publish,
    publish_plan,
    release_gate,
    rollback,
)
from goldenami.release.publish.channel_moves import Criteria
from goldenami.release.publish.publish_records import MovePlan, PublishPlan
from goldenami.release.retire import retire
from goldenami.release.retire.retention import RetentionPolicy, RetirePlan, RetireStep
from support.aws import unbound
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import IMAGE, Checkout, RegionState

ONE = "publish: {regions: [us-east-1], keep_last: 1"
GRACELESS = RetentionPolicy(
    keep_last=1, max_age_days=1, disable_after_days=0, deregister_after_days=0
)


class InterruptedRuns:
    """A checkout whose runs are interrupted by others, in one region."""

    def __init__(self, checkout: Checkout, *, soak: int = 0) -> None:
        self.checkout, self.account = checkout, unbound.account()
        self.checkout.define(f"{ONE}, soak_hours: {soak}}}\n")
        self.progress = Progress("publish", IMAGE, checkout.root / "timings")
        self.state = RegionState("us-east-1")

    @property
    def judge(self) -> GpuJudge:
        return GpuJudge(self.checkout.root, self.account, self.image.definition)

    @property
    def image(self) -> ImageInAccount:
        root = self.checkout.root
        definition = definition_file.load(root, definition_file.path_of(root, IMAGE))
        return ImageInAccount(self.account, definition)

    def golden(self, *args: str) -> None:
        ran = self.checkout.golden(*args)
        assert ran.is_done, ran.text

    def published(self, number: int) -> str:
        build = builds.build(self.checkout.root, number).name
        self.golden("publish", IMAGE)
        return build

    def latest(self) -> str:
        entry = self.state.ledger().latest
        assert entry is not None
        assert self.state.parameter("latest") == entry.ami
        return entry.build_id

    def to_publish(self, number: int) -> tuple[release_gate.VerifiedBuild, PublishPlan]:
        builds.build(self.checkout.root, number)
        return self.planned()

    def planned(self) -> tuple[release_gate.VerifiedBuild, PublishPlan]:
        build = release_gate.load(self.checkout.root, IMAGE)
        criteria = Criteria(self.judge)
        return build, publish_plan.prepare(self.image, build, criteria, self.progress)

    def back_to(self, build: str) -> Prepared[MovePlan]:
        criteria = Criteria(self.judge, now=True)
        return rollback.prepare(self.image, criteria, to=build, regions=[])


def test_a_candidate_that_was_replaced_is_not_promoted(checkout: Checkout) -> None:
    runs = InterruptedRuns(checkout, soak=1)
    first = runs.published(1)
    runs.golden("promote", IMAGE, "--now")
    second = runs.published(2)
    plan = promote.prepare(runs.image, Criteria(runs.judge, now=True))
    assert plan.build_id == second
    runs.published(3)
    with pytest.raises(Busy, match=f"another run changed the ledger of {IMAGE} in us-east-1"):
        promote.execute(runs.image, plan, runs.progress)
    assert runs.latest() == first


def test_a_candidate_older_than_latest_is_not_promoted(checkout: Checkout) -> None:
    runs = InterruptedRuns(checkout, soak=1)
    first = runs.published(1)
    second = runs.published(2)
    runs.golden("promote", IMAGE, "--now")
    item = runs.state.ledger()
    assert item.latest is not None
    older = item.latest.model_copy(
        update={"build_id": first, "ami": runs.state.ami(first), "baked_at": "2026-01-01T01:00:00Z"}
    )
    runs.state.write_ledger(item.model_copy(update={"candidate": older}))
    said = checkout.run("promote", IMAGE, "--now", code=2)
    assert f"names build {second}, which is newer than the candidate {first}" in said, said
    assert runs.latest() == second


def test_a_rollback_stops_where_something_changed_meanwhile(checkout: Checkout) -> None:
    runs = InterruptedRuns(checkout)
    first, second = runs.published(1), runs.published(2)
    disabled, published = runs.back_to(first), runs.back_to(first)
    runs.state.ec2.disable_image(ImageId=runs.state.ami(first))
    with pytest.raises(Busy, match=r"another run changed ami-\w+ \(now disabled\) in us-east-1"):
        rollback.execute(runs.image, disabled, runs.progress)
    assert runs.latest() == second
    runs.state.ec2.enable_image(ImageId=runs.state.ami(first))
    third = runs.published(3)
    with pytest.raises(Busy, match=f"another run changed the ledger of {IMAGE}"):
        rollback.execute(runs.image, published, runs.progress)
    assert runs.latest() == third


def test_a_publish_does_not_go_over_a_rollback(checkout: Checkout) -> None:
    runs = InterruptedRuns(checkout)
    first, _ = runs.published(1), runs.published(2)
    build, plan = runs.to_publish(3)
    runs.golden("rollback", IMAGE)
    with pytest.raises(Busy, match=f"another run changed the ledger of {IMAGE} in us-east-1"):
        publish.execute(runs.image, build, plan, runs.progress)
    assert runs.latest() == first
    assert len(runs.state.amis()) == 2


def test_what_latest_names_by_now_is_not_retired(
    checkout: Checkout,
    aws: Emulator,
    capsys: pytest.CaptureFixture[str],
) -> None:
    aws.set(backdate_days=400)
    runs = InterruptedRuns(checkout)
    first, _ = runs.published(1), runs.published(2)

    def plan() -> Prepared[RetirePlan]:
        return retire.prepare(runs.account, IMAGE, ["us-east-1"], GRACELESS, runs.progress)

    retire.execute(runs.account, plan(), runs.progress)
    prepared = plan()
    assert [action.step for action in prepared.plan.regions[0].actions] == [RetireStep.DISABLE]
    runs.golden("rollback", IMAGE, "--to", first)
    retire.execute(runs.account, prepared, runs.progress)
    assert runs.state.amis()[f"{IMAGE}-{first}"]["State"] == "available"
    assert runs.latest() == first
    kept = (
        f"us-east-1: keep {runs.state.ami(first)} ({first}): it is latest since the plan was made"
    )
    assert kept in capsys.readouterr().err
