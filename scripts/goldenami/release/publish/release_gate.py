"""The gate before a publish: only a build whose verify record passes, and is of this very build and
disk, may be published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from goldenami.aws.channels.channels import ImageInAccount
from goldenami.core import clock, records
from goldenami.core.errors import BadInput, NotVerified
from goldenami.image.builders import ec2
from goldenami.image.lock import lint
from goldenami.image.provenance import provenance
from goldenami.image.provenance.provenance import Attestor
from goldenami.model.builds.build_folder import BuildFolder, ImageFolder
from goldenami.model.builds.build_records import (
    BakeRecord,
    BuilderKind,
    Outcome,
    Verdict,
    VerifyRecord,
)
from goldenami.model.builds.gpu_proofs import Asked
from goldenami.model.builds.hardening_records import HARDENING_FILE, HardeningRecord, RuleOutcome
from goldenami.model.builds.security_records import CVE_FILE, CveRecord
from goldenami.model.definitions.definition import CveRule, Definition, HardeningGate
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Lock
from goldenami.model.supported import allowed_types, hardware
from goldenami.model.supported.allowed_types import AllowedTypes, TypeRule

IMDSV2 = {"boot/imdsv2": "that it boots where the metadata service takes session tokens only"}
EVIDENCE = {
    BuilderKind.LOCAL: {**IMDSV2, "boot/disk_untouched": "that the disk is the baked one"},
    BuilderKind.EC2: IMDSV2,
}
"""Checks without which nothing is published, with what they prove. The first is needed because
ImdsSupport v2.0 cannot be taken back from an AMI."""
FIRMWARES = {BuilderKind.LOCAL: {"bios", "uefi"}, BuilderKind.EC2: {"uefi"}}
"""Firmwares under which a build has to have booted. An AMI that prefers UEFI starts under BIOS on
instance types without UEFI. One that was baked on EC2 has the publisher's own loader for BIOS,
which the instance that `verify` launches does not use."""


@dataclass(frozen=True)
class VerifiedBuild:
    """A build with a passing verify record. `asked` are the requirements that a GPU test has to
    prove, `allowed` the types that EC2 launches its AMIs on. `signs` signs the build's provenance,
    or is None if it is published unsigned."""

    folder: BuildFolder
    bake: BakeRecord
    verify: VerifyRecord
    lock: Lock
    asked: Asked
    allowed: AllowedTypes
    signs: Attestor | None = None

    @property
    def disk(self) -> Path:
        assert self.bake.disk is not None
        return self.folder.path / self.bake.disk.path


def newest(root: Path, image: str) -> str:
    """The id of the build that was baked last. Raises BadInput if there is none."""
    builds = ImageFolder.of(root, image).builds
    if not builds:
        raise BadInput(f"{image} has no build here", hint=f"run `make bake IMAGE={image}`")
    return max(builds, key=lambda build: build.read_bake().started_at).build_id


def load(
    root: Path, image: str, build_id: str | None = None, rule: TypeRule = TypeRule.PROVED
) -> VerifiedBuild:
    """Load a build, by default the newest, with its verify record, and what `rule` says
    of instance types. Raises NotVerified if it has no passing record."""
    name = build_id or newest(root, image)
    folder = ImageFolder.of(root, image).build(name)
    if not folder.is_baked:
        raise BadInput(
            f"{image} has no build {name} here",
            hint=f"builds are the folders of {folder.image.path}",
        )
    bake = folder.read_bake()
    if not folder.verify.exists():
        raise NotVerified(f"{image} {name} has no verify record", hint=_again(image, name))
    verify = records.read(folder.verify, VerifyRecord)
    problem = _problem(bake, verify, name)
    if problem:
        raise NotVerified(
            f"{image} {name} is not proven: {problem}", log=folder.verify, hint=_again(image, name)
        )
    lock, digest = lockfile.read_copy(folder.lock)
    if digest != bake.lock_sha256:
        raise NotVerified(
            f"{folder.lock} is not the lock that was baked",
            hint=f"`make bake IMAGE={image} FORCE=1` makes the build again",
        )
    allowed = allowed_types.of_families(rule, hardware.load(root), lock.hardware.families)
    if bake.ami and allowed.supported:  # `verify` boots the AMI that a bake on EC2 made
        allowed = allowed.with_type(ec2.instance_type(lock))
    return VerifiedBuild(folder, bake, verify, lock, Asked.of(root, lock, rule), allowed)


def proven(root: Path, image: ImageInAccount, build_id: str | None) -> VerifiedBuild:
    """Load a build that the whole gate lets through, by default the newest, with the key that signs
    it, if any."""
    definition = image.definition
    build = load(root, image.name, build_id, image.section.instance_types)
    lint.demand(build.lock, root)
    check_security(definition, build.folder)
    key = provenance.demanded(root, definition, image.account)
    return replace(build, signs=Attestor(build.folder, key)) if key else build


def _again(image: str, name: str) -> str:
    return (
        f"`make verify IMAGE={image}` boots it and checks it; "
        f"`--build` names another build than {name}"
    )


def _problem(bake: BakeRecord, verify: VerifyRecord, name: str) -> str:
    """Why the verify record does not prove the build, or ""."""
    if (bake.build_id, verify.build_id, verify.image) != (name, name, bake.image):
        return f"its verify record is of {verify.image} {verify.build_id}"
    if verify.verdict is not Verdict.VERIFIED:
        wrong = [check.id for check in verify.checks if check.outcome is not Outcome.CORRECT]
        first = (wrong or ["none ran"])[0]
        return f"{len(wrong)} of {len(verify.checks)} checks failed, {first} first"
    if bake.ami:
        other = _other("AMI", bake.ami_id, verify.ami)
    else:
        other = _other("disk", bake.disk_sha256, verify.disk_sha256, digits=12)
    if other:
        return f"its verify record {other}"
    correct = {check.id for check in verify.checks if check.outcome is Outcome.CORRECT}
    for check_id, claim in EVIDENCE[bake.builder].items():
        if check_id not in correct:
            return f"its verify record does not prove {claim}"
    if missing := sorted(FIRMWARES[bake.builder] - {boot.firmware for boot in verify.boots}):
        return f"it was not booted under {missing[0]}"
    return ""


def _other(kind: str, baked: str | None, verified: str | None, digits: int | None = None) -> str:
    """Why the verify record is not of the AMI or disk that was baked, or ""."""
    if verified == baked:
        return ""
    if verified is None:
        return f"does not say that it is of this {kind}"
    return f"is of another {kind} ({verified[:digits]}, not {str(baked)[:digits]})"


def check_security(definition: Definition, build: BuildFolder) -> None:
    """Raise NotVerified if the build's records do not meet what the definition demands of
    security."""
    check_vulnerabilities(definition, build)
    check_hardening(definition, build)


def check_vulnerabilities(definition: Definition, build: BuildFolder) -> None:
    """Raise NotVerified if the definition demands a recent, passing record of `cve` and the build
    has none."""
    rule, path = definition.security.cve, build.path / CVE_FILE
    if rule is None:
        return
    problem = "it has no record of its vulnerabilities"
    if path.exists():
        problem = _unsafe(records.read(path, CveRecord), build.build_id, rule)
    if problem:
        raise NotVerified(
            f"{definition.image} {build.build_id} must not be published: {problem}",
            log=path,
            hint=f"`golden cve {definition.image} --build {build.build_id}` asks the lists again",
        )


def _unsafe(record: CveRecord, build_id: str, rule: CveRule) -> str:
    """Why the record does not satisfy the rule, or ""."""
    # The record has to be of this build before it says anything.
    if record.build_id != build_id:
        return f"its record of vulnerabilities is of build {record.build_id}"
    if record.outcome is Outcome.INCORRECT:
        return f"{sum(row.stops for row in record.findings)} vulnerabilities stop it"
    if record.outcome is not Outcome.CORRECT:
        return "not all lists of vulnerabilities could be used"
    if record.fail_on is not rule.fail_on:
        return (
            f"what nothing mends was asked for {record.fail_on.value}, not for {rule.fail_on.value}"
        )
    return _out_of_date(record.checked_at, rule.max_age_hours)


def _out_of_date(checked_at: str, max_age_hours: int) -> str:
    """Why vulnerabilities that were looked up at that time do not count any more, or ""."""
    age = clock.now() - datetime.fromisoformat(checked_at)
    looked_up = f"its vulnerabilities were looked up at {checked_at}"
    if age < timedelta(0):
        return f"{looked_up}, which is not of the past"
    if age > timedelta(hours=max_age_hours):
        return f"{looked_up}, more than {max_age_hours} hours ago"
    return ""


def check_hardening(definition: Definition, build: BuildFolder) -> None:
    """Raise NotVerified if the definition demands more of the hardening guide's rules than the
    build keeps."""
    gate, path = definition.security.hardening, build.path / HARDENING_FILE
    if gate is None:
        return
    problem = "it has no record of its hardening"
    if path.exists():
        problem = _not_hardened(records.read(path, HardeningRecord), build.build_id, gate)
    if problem:
        raise NotVerified(
            f"{definition.image} {build.build_id} must not be published: {problem}",
            log=path,
            hint=f"`golden verify {definition.image}` asks the rules again",
        )


def _not_hardened(record: HardeningRecord, build_id: str, gate: HardeningGate) -> str:
    """Why the record does not pass the gate, or ""."""
    if record.build_id != build_id:
        return f"its record of hardening is of build {record.build_id}"
    if record.problem:
        return record.problem
    kept = record.count(gate.level, RuleOutcome.PASS)
    if kept >= gate.minimum:
        return ""
    return f"it keeps {kept} {gate.level.value} rules of the guide to hardening, not {gate.minimum}"
