"""Tests a candidate on one instance: launches it, runs the checks there, powers it off, and leaves
nothing behind."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from goldenami.aws import tags
from goldenami.aws.calls import wait_for
from goldenami.aws.images import Image
from goldenami.aws.instances import instances
from goldenami.aws.instances.instances import Launch, LaunchedInstance, SpotInterrupted, Subnet
from goldenami.aws.session import Account
from goldenami.core import records
from goldenami.core.errors import GoldenError, NotVerified
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders import ec2 as ec2_builder
from goldenami.local.checks import image_tests
from goldenami.local.machine import ssh
from goldenami.model.builds.build_records import Check, Outcome
from goldenami.model.builds.gpu_proofs import (
    GPU_PROPERTY,
    GpuSession,
    JunitFile,
    TestedGpu,
    counted,
    nonce_of,
    required,
)
from goldenami.model.locked.lockfile import Lock
from goldenami.release.gpu_test.capacity import Offer

GRACE = timedelta(minutes=30)
"""How long after the limit of hours `golden sweep` may remove an instance, so that the instance's
own timer comes first."""
POWER_OFF_S = 180.0
"""Seconds within which EC2 has to show that an instance is powering off, after it was told to.
Usually it takes a few."""


@dataclass(frozen=True)
class GpuTest:
    """One test of a candidate: its AMIs by region, the hours that one instance may run at most, and
    the seconds to wait for capacity."""

    root: Path
    account: Account
    lock: Lock
    build_id: str
    candidates: Mapping[str, Image]
    variables: Path
    work: Path
    log: Path
    hours: float
    wait_s: float
    subnets: Mapping[str, Mapping[str, Subnet]] = field(default_factory=dict)
    """The subnets that the definition names, by region and zone."""

    @cached_property
    def nonce(self) -> str:
        """The test's nonce, which no earlier JUnit file can contain."""
        return nonce_of(self.build_id)

    @property
    def roles(self) -> list[str]:
        """The folders of checks, of a role or the image, that have tests for a GPU."""
        tested = image_tests.tested(self.root, self.lock.checked)
        return [role for role in tested if required(self.root, [role])]

    @property
    def user(self) -> str:
        """The default user of the candidate's machines: the publisher's if it was baked on EC2 from
        his AMI, else the one that a bake here makes."""
        if any(tags.BASE_AMI in image.tags for image in self.candidates.values()):
            return ec2_builder.user(self.root, self.lock.base.release)
        return self.lock.base.distribution

    def session(self, offer: Offer) -> GpuSession:
        return GpuSession(ami=self.candidates[offer.region].ami, nonce=self.nonce, kind=offer.kind)


def test_offer(test: GpuTest, offer: Offer, progress: Progress) -> TestedGpu:
    """Launch an offer, run the checks on it and power it off. It is removed, whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=f"{offer.gpu_class}-", dir=test.work))
    key, ec2 = ssh.new_key(work / "launch_key", "golden"), test.account.ec2(offer.region)
    image = test.candidates[offer.region]
    progress.say(f"launch {offer}")
    with contextlib.ExitStack() as stack:
        instance = stack.enter_context(
            instances.running(ec2, _launch(test, offer, image, key.with_suffix(".pub")))
        )
        progress.say(f"instance {instance.id} ({offer.kind.type}) at {instance.address}")
        config = ssh.write_config(
            work,
            host=instance.address,
            port=instances.SSH,
            user=test.user,
            key=key,
        )
        stack.callback(ssh.hang_up, config)
        with _interruptions(ec2, instance):
            ec2_builder.wait_for_ssh(config, instance, ssh.boot_limit_s())
            checks = _checks(test, offer, work, config)
        machine = _judge(test, offer, work / "junit.xml", checks)
        _power_off(ec2, instance, config)
    return machine


def _launch(test: GpuTest, offer: Offer, image: Image, public_key: Path) -> Launch:
    own_tags = {key: value for key, value in image.tags.items() if key.startswith("goldenami:")}
    return Launch(
        name=f"golden-gpu-test-{test.build_id}-{secrets.token_hex(4)}",
        image=image,
        instance_type=offer.kind.type,
        public_key=public_key,
        volume_gib=int(image.root["VolumeSize"]),
        spot=offer.spot,
        zone=offer.zone,
        subnet=test.subnets.get(offer.region, {}).get(offer.zone),
        told=str(offer),
        user_data=instances.ends_after(int(test.hours * 60)),
        tags={**own_tags, **tags.temporary(timedelta(hours=test.hours) + GRACE)},
    )


@contextlib.contextmanager
def _interruptions(ec2: Any, instance: LaunchedInstance) -> Iterator[None]:
    """Raise SpotInterrupted for an error in the block if EC2 has taken the instance back."""
    try:
        yield
    except GoldenError:
        if instances.ended_by(ec2, instance.id) == instances.INTERRUPTED:
            raise SpotInterrupted(f"EC2 took {instance.id} back") from None
        raise


def _checks(test: GpuTest, offer: Offer, work: Path, config: Path) -> list[Check]:
    session = work / "session.json"
    records.write(session, test.session(offer))
    argv = [*image_tests.over_ssh(config), "-m", "gpu", "-vv"]  # the log names the test that runs
    tests = image_tests.ImageTests(test.root, test.roles, test.variables, work, test.log)
    with tests.running(argv, gpu_session=session) as run:
        return run.checks(3600 * test.hours)


def _judge(test: GpuTest, offer: Offer, path: Path, checks: Sequence[Check]) -> TestedGpu:
    """The record of a tested machine, from the JUnit file at `path`. Raises NotVerified if it is no
    proof."""
    junit, needed = JunitFile(path), required(test.root, test.roles)
    if problem := next(junit.problems(test.build_id, needed, test.session(offer)), ""):
        raise NotVerified(
            f"{test.lock.image} {test.build_id} on {offer.kind.type}: {problem}",
            tail="\n".join(_failures(checks)),
            log=test.log,
            hint="`latest` stays where it is; mend the image, or try another instance: run again",
        )
    return TestedGpu(
        sm=offer.gpu_class.partition("-")[0],
        gpu=counted(junit.properties[GPU_PROPERTY]),
        instance_type=offer.kind.type,
        region=offer.region,
        ami=test.candidates[offer.region].ami,
        checks=len({*needed} & {*junit.passed}),
        junit_sha256=records.sha256_file(path),
        not_asked=tuple(name for name in needed if name not in junit.passed),
    )


def _failures(checks: Sequence[Check]) -> Iterator[str]:
    for check in checks:
        if check.outcome is not Outcome.CORRECT:
            first_line = str(check.outcome)
            if check.detail:
                first_line = check.detail.splitlines()[0]
            yield f"{check.id}: {first_line}"


def _power_off(ec2: Any, instance: LaunchedInstance, config: Path) -> None:
    """Power the machine off. Raises NotVerified if it does not end."""
    # It is a test, too: an Auto Scaling group could not replace a machine that does not end.
    with contextlib.suppress(GoldenError):  # the connection may end before the answer
        ssh.run(config, "sudo", "systemctl", "poweroff", timeout_s=30)

    def has_ended() -> bool | None:
        state = instances.describe(ec2, instance.id)["State"]["Name"]
        return state in ("shutting-down", "terminated") or None

    if not wait_for(has_ended, limit_s=POWER_OFF_S, pauses=2.0, what=f"{instance.id} powers off"):
        raise NotVerified(
            f"{instance.id} runs {POWER_OFF_S:.0f} s after it was told to power off",
            hint="look at its console: which unit does not stop?",
        )
