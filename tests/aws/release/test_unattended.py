"""`golden release`: a lock's build goes all the way to `latest` by itself, each step only where it
is due."""

from __future__ import annotations

from datetime import timedelta

import boto3
import pytest
from goldenami.aws.channels.ledger import GpuProof, Ledger, LedgerEntry
from goldenami.core import clock, records
from goldenami.core.errors import ExitCode
from goldenami.model.builds.build_records import LOCK_FILE
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.release.publish.release_steps import Release, ReleaseStep
from support.aws.emulator import Emulator
from support.builds import builds
from support.builds.builds import GPU_IMAGE, IMAGE, REGIONS, Checkout, RegionState
from support.gpu import candidates, gpu_records

NEW, OLD = "a" * 12, "b" * 12
NOW = clock.now()


@pytest.fixture(autouse=True)
def _prompt(aws: Emulator) -> None:
    aws.set(pending_s=0)


def entry(build_id: str, hours_ago: float = 0) -> LedgerEntry:
    since = clock.stamp(NOW - timedelta(hours=hours_ago))
    return LedgerEntry(
        build_id=build_id,
        ami="ami-1",
        baked_at=since,
        since=since,
        by="me",
        fence=1,
        gpu=GpuProof.UNTESTED,
    )


def ledger(
    candidate: str | None = None, latest: str | None = None, hours_ago: float = 0, **more: object
) -> Ledger:
    return Ledger(
        candidate=entry(candidate, hours_ago) if candidate else None,
        latest=entry(latest) if latest else None,
    ).model_copy(update=more)


@pytest.mark.parametrize(
    ("ledgers", "facts", "step", "why"),
    [
        (
            [ledger(), ledger()],
            {"is_baked": False},
            ReleaseStep.BAKE,
            "not the candidate in every region",
        ),
        ([ledger(), ledger()], {}, ReleaseStep.PUBLISH, "not the candidate in every region"),
        (
            [ledger(OLD, OLD), ledger(OLD, OLD)],
            {"is_baked": False},
            ReleaseStep.BAKE,
            "not the candidate",
        ),
        (
            [ledger(NEW, OLD), ledger(OLD, OLD)],
            {},
            ReleaseStep.PUBLISH,
            "not the candidate",
        ),  # one region refused
        ([ledger(NEW, OLD)], {"is_tested": False}, ReleaseStep.GPU_TEST, "is not tested on a GPU"),
        ([ledger(NEW, OLD)], {}, ReleaseStep.PROMOTE, "may become `latest`"),
        (
            [ledger(NEW, OLD)],
            {"is_judged": True, "is_baked": False},
            ReleaseStep.BAKE,
            "may become `latest`",
        ),
        ([ledger(NEW, OLD)], {"is_judged": True}, ReleaseStep.PROMOTE, "may become `latest`"),
        (
            [ledger(NEW, OLD, 3), ledger(NEW, OLD, 1)],
            {"soak_hours": 2},
            ReleaseStep.WAIT,
            "has to stand until",
        ),
        (
            [ledger(NEW, OLD, 3), ledger(NEW, OLD, 3)],
            {"soak_hours": 2},
            ReleaseStep.PROMOTE,
            "may become",
        ),
        ([ledger(NEW, NEW), ledger(NEW, OLD)], {}, ReleaseStep.PROMOTE, "may become"),
        (
            [ledger(NEW, NEW), ledger(OLD, NEW)],
            {"is_baked": False, "is_tested": False},
            ReleaseStep.DONE,
            "is `latest` in",
        ),
        (
            [ledger(NEW, OLD), ledger(NEW, OLD, withdrawn=(NEW,))],
            {},
            ReleaseStep.WAIT,
            "was rolled back in r1",
        ),
    ],
)
def test_what_is_due(
    ledgers: list[Ledger],
    facts: dict[str, bool],
    step: ReleaseStep,
    why: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clock, "now", lambda: NOW)
    known = {"is_baked": True, "is_tested": True, "soak_hours": 0, **facts}
    by_region = {f"r{index}": each for index, each in enumerate(ledgers)}
    due = Release(build_id=NEW, ledgers=by_region, **known).next_step()  # type: ignore[arg-type]
    assert due.step is step and why in due.why


def build(checkout: Checkout, number: int, **publish: int) -> str:
    """A verified build whose lock is the committed one; returns its id."""
    keys = "".join(f", {name}: {value}" for name, value in publish.items())
    checkout.define(f"publish: {{regions: [{', '.join(REGIONS)}]{keys}}}\n")
    folder = builds.build(checkout.root, number)
    lockfile.write(lockfile.path_of(checkout.root, IMAGE), records.read(folder / LOCK_FILE, Lock))
    return folder.name


def release(checkout: Checkout, image: str = IMAGE, *args: str, code: int = 0) -> str:
    return checkout.run("release", image, *args, code=code)


def latest(image: str = IMAGE) -> set[str | None]:
    return {RegionState(region, image).parameter("latest") for region in REGIONS}


def test_a_gpu_image_stops_where_no_gpu_is_to_be_had_and_goes_on_later(
    checkout: Checkout,
    aws: Emulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GOLDEN_BOOT_LIMIT_S", "1")
    aws.set(pending_s=0, instance_address="127.0.0.9")
    build_id = candidates.build(checkout, 1)
    said = release(checkout, GPU_IMAGE, code=ExitCode.STAGE_FAILED)  # its instance does not answer
    assert f"the candidate {build_id} is not tested on a GPU: gpu-test" in said
    assert latest(GPU_IMAGE) == {None} and candidates.left() == []
    gpu_records.keep(gpu_records.facts(build_id))
    said = release(checkout, GPU_IMAGE)
    assert "may become `latest`: promote" in said and ": publish" not in said
    assert None not in latest(GPU_IMAGE)


def test_a_group_that_another_refresh_kept_from_a_build_gets_it_by_a_later_run(
    checkout: Checkout, aws: Emulator
) -> None:
    groups = boto3.client("autoscaling", REGIONS[0])
    build(checkout, 1)
    aws.set(refresh_s=3600)
    checkout.define(
        f"publish: {{regions: [{REGIONS[0]}], launch_template: {{instance_type: c7i.large}}}}\n"
    )
    release(checkout)
    template = {"LaunchTemplateName": f"golden-{IMAGE}", "Version": "1"}
    groups.create_auto_scaling_group(
        AutoScalingGroupName="web",
        MinSize=1,
        MaxSize=2,
        LaunchTemplate=template,
        AvailabilityZones=[f"{REGIONS[0]}a"],
    )
    groups.start_instance_refresh(AutoScalingGroupName="web")
    checkout.define(
        f"publish: {{regions: [{REGIONS[0]}], launch_template: "
        "{instance_type: c7i.large}, instance_refresh: {groups: [web]}}\n"
    )
    said = release(checkout, code=ExitCode.BUSY)
    assert "and web not asked to take it: publish" in said, said
    assert "another refresh of web is in progress" in said
    aws.set(refresh_s=0)
    assert "refresh of web: started" in release(checkout)
    assert "publish" not in release(checkout)
