"""Tests the candidate on GPUs: launches an instance for each declared architecture, runs the checks
there, makes the record, and leaves nothing behind."""

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
from goldenami.aws.instances.instances import (
    Launch,
    LaunchedInstance,
    NotLaunched,
    SpotInterrupted,
    Subnet,
)
from goldenami.aws.inventory import leftovers
from goldenami.aws.inventory.leftovers import LeftoverKind
from goldenami.aws.refusals import QUOTA, Instead
from goldenami.aws.session import Account
from goldenami.core import clock, records
from goldenami.core.errors import GoldenError, NotVerified, StageFailed
from goldenami.core.terminal.progress import Progress
from goldenami.image.builders import ec2 as ec2_builder
from goldenami.local.checks import image_tests
from goldenami.local.machine import ssh
from goldenami.model.builds.build_records import Check, Outcome
from goldenami.model.builds.gpu_proofs import (
    GPU_PROPERTY,
    GpuSession,
    GpuTestRecord,
    JunitFile,
    TestedGpu,
    nonce_of,
    required,
)
from goldenami.model.locked.lockfile import Lock
from goldenami.release.gpu_test.capacity import Offer

GRACE = timedelta(minutes=30)
"""How long after the limit of hours `golden sweep` may remove an instance, so that the instance's
own timer comes first."""
ROUND_S = 60.0
"""Seconds between two rounds of offers while EC2 has no capacity."""
_OURS = (
    LeftoverKind.INSTANCE,
    LeftoverKind.VOLUME,
    LeftoverKind.KEY_PAIR,
    LeftoverKind.SECURITY_GROUP,
)
Refused = dict[tuple[str, ...], NotLaunched]
"""Refusals, by the beginning of the paths of the offers to which each applies."""
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
        """The image's roles that have tests for a GPU."""
        return [
            role
            for role in image_tests.tested(self.root, self.lock.roles)
            if required(self.root, [role])
        ]

    def session(self, offer: Offer) -> GpuSession:
        return GpuSession(ami=self.candidates[offer.region].ami, nonce=self.nonce, kind=offer.kind)


def clear(test: GpuTest) -> list[str]:
    """Remove what killed tests of this image left: everything of a run on this machine that has
    ended, and whatever has expired. Expired instances of other images are removed, too.

    Return lines for the user: how much was removed, and each thing that a run may still use, which
    may also be of another checkout on this machine.
    """
    removed, kept = 0, list[str]()
    for region in test.candidates:
        ec2 = test.account.ec2(region)
        for leftover in leftovers.find(ec2):
            # It costs money, whatever image it is of.
            is_overdue = leftover.kind is LeftoverKind.INSTANCE and leftover.is_expired
            if leftover.kind not in _OURS or (leftover.image != test.lock.image and not is_overdue):
                continue
            if tags.has_ended(leftover.owner) or leftover.is_expired:
                leftovers.remove(ec2, leftover.kind, leftover.id)
                removed += 1
            else:
                until = (
                    f"until {leftover.expires:%Y-%m-%d %H:%M} UTC"
                    if leftover.expires
                    else "with an expiry that is no time"
                )
                kept.append(
                    f"{region}: {leftover.kind} {leftover.id} of "
                    f"{leftover.owner or 'an unknown owner'} stays: it is in "
                    f"use, or was left by a kill, {until}"
                )
    return [f"{removed} things removed that an earlier run left"] * bool(removed) + kept


def run(
    test: GpuTest, offers_by_sm: Mapping[str, Sequence[Offer]], progress: Progress
) -> GpuTestRecord:
    """Test the candidate on one instance of each architecture, and return the record. Raises
    NotVerified, with the check's output, if a check fails."""
    machines = []
    for sm, offers in offers_by_sm.items():
        with progress.step(f"architecture {sm}"):
            machines.append(_test_architecture(test, offers, progress))
    tested = next(iter(test.candidates.values())).tags
    return GpuTestRecord(
        image=test.lock.image,
        build_id=test.build_id,
        nonce=test.nonce,
        at=clock.stamp(),
        by=tags.owner(),
        lock_sha256=tested[tags.LOCK_SHA256],
        disk_sha256=tested.get(tags.DISK_SHA256),
        manifest_sha256=tested.get(tags.MANIFEST_SHA256),
        checks=tuple(required(test.root, test.roles)),
        machines=tuple(machines),
    )


def _test_architecture(test: GpuTest, offers: Sequence[Offer], progress: Progress) -> TestedGpu:
    """Test the candidate on the first of the offers that EC2 grants, in rounds for `wait_s`."""
    refused: Refused = {}

    def one_round() -> TestedGpu | None:
        # Refusals that may pass are tried again in each round.
        for path in [path for path, error in refused.items() if error.refusal.may_pass]:
            del refused[path]
        for offer in offers:
            if _refusing(offer, refused):
                continue
            try:
                return _test_offer(test, offer, progress)
            except NotLaunched as error:
                progress.say(f"{error.message} ({offer.market})")
                # A refusal of a whole region or market, say, spares us its other offers.
                refused[offer.path[: error.refusal.instead]] = error
            except SpotInterrupted:
                progress.say(
                    f"EC2 took the Spot instance {offer.kind.type} in {offer.zone} back: "
                    "trying another"
                )
        if _are_final(offers, refused):
            raise _not_granted(offers, refused)
        progress.say("no capacity in this round")
        return None

    tested = wait_for(one_round, limit_s=test.wait_s, pauses=ROUND_S)
    if tested is None:
        raise _not_granted(offers, refused)
    return tested


def _refusing(offer: Offer, refused: Refused) -> NotLaunched | None:
    """The refusal that applies to an offer, or None."""
    paths = (offer.path[:depth] for depth in range(1, len(offer.path) + 1))
    return next((refused[path] for path in paths if path in refused), None)


def _are_final(offers: Sequence[Offer], refused: Refused) -> bool:
    errors = [_refusing(offer, refused) for offer in offers]
    return all(error and not error.refusal.may_pass for error in errors)


def _not_granted(offers: Sequence[Offer], refused: Refused) -> GoldenError:
    """The error if no offer was granted: the refusals, except those of single zones, and what to
    do."""
    sm = offers[0].sm
    wide = {
        path: error for path, error in refused.items() if error.refusal.instead is not Instead.ZONE
    }
    causes = sorted(
        {
            f"{error.message} ({path[1]})" if path[1:] else error.message
            for path, error in wide.items()
        }
    )
    hints = dict.fromkeys(error.refusal.hint for error in wide.values())
    message = f"EC2 has no GPU of architecture {sm} for us: {len(offers)} offers tried"
    if _are_final(offers, refused):
        message = f"the account allows no GPU of architecture {sm}"
    else:
        hints["wait longer by --wait-minutes, or publish to a region with capacity"] = None
    if QUOTA in hints:
        quotas = sorted({_quota(offer) for offer in offers if _refusing(offer, wide)})
        hints = {f"raise {' and '.join(quotas)} (Service Quotas)": None, **hints}
        del hints[QUOTA]
    return StageFailed("; ".join([message, *causes]), hint=f"{'; '.join(hints)}; then run again")


def _quota(offer: Offer) -> str:
    """Service Quotas' name for the limit of an offer. Spot requests for P instances have
    several."""
    if offer.kind.type.startswith("p"):
        return (
            "the quota of Spot requests for P instances"
            if offer.spot
            else "`Running On-Demand P instances`"
        )
    return (
        "`All G and VT Spot Instance Requests`"
        if offer.spot
        else "`Running On-Demand G and VT instances`"
    )


def _test_offer(test: GpuTest, offer: Offer, progress: Progress) -> TestedGpu:
    """Launch an offer, run the checks on it and power it off. It is removed, whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=f"{offer.sm}-", dir=test.work))
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
            user=ec2_builder.user(test.root, test.lock.base.release),
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
    minutes = int(test.hours * 60)
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
        # The instance ends itself, in case nobody is left who does.
        user_data=f"#cloud-config\nbootcmd: [[shutdown, -P, '+{minutes}']]\n",
        tags={
            **{key: value for key, value in image.tags.items() if key.startswith("goldenami:")},
            **tags.temporary(timedelta(hours=test.hours) + GRACE),
        },
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
        sm=offer.sm,
        gpu=junit.properties[GPU_PROPERTY],
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
            yield f"{check.id}: {check.detail.splitlines()[0] if check.detail else check.outcome}"


def _power_off(ec2: Any, instance: LaunchedInstance, config: Path) -> None:
    """Power the machine off. Raises NotVerified if it does not end."""
    # It is a test, too: an Auto Scaling group could not replace a machine that does not end.
    with contextlib.suppress(GoldenError):  # the connection may end before the answer
        ssh.run(config, "sudo", "systemctl", "poweroff", timeout_s=30)

    def has_ended() -> bool | None:
        return (
            instances.describe(ec2, instance.id)["State"]["Name"] in ("shutting-down", "terminated")
            or None
        )

    if not wait_for(has_ended, limit_s=POWER_OFF_S, pauses=2.0, what=f"{instance.id} powers off"):
        raise NotVerified(
            f"{instance.id} runs {POWER_OFF_S:.0f} s after it was told to power off",
            hint="look at its console: which unit does not stop?",
        )
