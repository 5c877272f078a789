"""The preflight of a first evening: what would stop the first publish, test and launch, by calls
that change nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from goldenami.aws.calls import refused
from goldenami.aws.instances import instance_types
from goldenami.aws.regions import for_each_region
from goldenami.aws.session import Account, check_regions
from goldenami.aws.snapshots import encryption
from goldenami.core.errors import Unreachable

from goldenami_fleet.selftest import preflight_rights
from goldenami_fleet.selftest.preflight_findings import (
    AccountFact,
    Question,
    State,
    Subject,
    ask,
)
from goldenami_fleet.selftest.preflight_network import default_network

ALL = ("publish", "gpu-test", "launch")
_QUOTAS = (
    (r"(g|gr|vt)\d", "G and VT", "L-DB2E81BA", "L-3819A6DF"),
    (r"p[2-4]", "P", "L-417A185B", "L-7212CCBC"),
    (r"p5", "P", "L-417A185B", "L-C4BD4855"),
    (r"p\d", "P", "L-417A185B", ""),
    (r"(im|is|[acdhimrtz])\d", "standard", "L-1216C47A", "L-34B43A08"),
)
"""Patterns of instance types, the name of their quotas, and the codes of these: on demand, on
Spot."""
_MARKETS = {"on demand": ("gpu-test", "launch"), "on Spot": ("gpu-test on Spot",)}
_MAKES_ROLE = "right to iam:CreateServiceLinkedRole"
_NO_POLICY = ("AWSOrganizationsNotInUseException", "EffectivePolicyNotFoundException")


def look(account: Account, regions: Sequence[str], types: Sequence[str]) -> list[AccountFact]:
    """Look at the account and, in parallel, at its regions, for machines of the instance types.

    Raises BadInput for a region that does not exist or is not allowed, and for nothing else.
    """
    check_regions(regions)
    for region in regions:
        account.allowed.require(region)
    account = account.with_short_timeouts()
    callers = for_each_region(
        dict.fromkeys([account.home, *regions]),
        lambda region: str(account.sts(region).get_caller_identity()["Arn"]),
    )
    findings = list[AccountFact]()
    for region, error in callers.failed.items():
        state: State = "unknown" if isinstance(error, Unreachable) else "stops"
        mend = error.hint
        if callers.done and state == "stops":
            mend = f"`aws account enable-region --region-name {region}`, or activate STS in it"
        # The environment's own region matters only if no other one takes the credentials.
        if region in regions or not callers.done:
            findings.append(Subject(region, "credentials", ALL).says(state, error.message, mend))

    if not callers.done:
        return findings
    caller = next(iter(callers.done.values()))
    looks = for_each_region(
        ["", *(region for region in regions if region in callers.done)],
        lambda region: _region(account, region, types) if region else _whole(account, caller),
    ).require_all()
    # What IAM refuses in the whole account, EC2 need not say again in each region.
    said = {each.subject for each in looks[""] if each.state == "stops"}
    findings += looks.pop("")
    findings += [each for found in looks.values() for each in found if each.subject not in said]
    return findings


def _whole(account: Account, caller: str) -> list[AccountFact]:
    by_iam = partial(preflight_rights.by_iam, caller=caller)
    found = list(ask(account, {Subject("", "rights"): by_iam}))
    makes_role: bool | None = None
    if found[0].state != "unknown":
        makes_role = _MAKES_ROLE not in {each.subject for each in found}
    questions: dict[Subject, Question] = {
        Subject("", "AWSServiceRoleForEC2Spot", ("gpu-test on Spot",)): partial(
            _role, makes_it=makes_role
        ),
        # Whoever makes the first group needs no policy of the commands.
        Subject("", "AWSServiceRoleForAutoScaling", ("groups",)): partial(_role, makes_it=None),
        Subject("", "tag policy", ALL): _tag_policy,
    }
    # A role that is there needs no right to make it.
    rest = [each for each in found if each.subject != _MAKES_ROLE]
    return [*rest, *ask(account, questions)]


def _region(account: Account, region: str, types: Sequence[str]) -> list[AccountFact]:
    questions: dict[Subject, Question] = {
        Subject(region, "encryption", ("publish", "launch")): _encryption,
        Subject(region, "default network", ("gpu-test", "launch")): default_network,
        Subject(region, "public sharing"): _sharing,
        Subject(region, "allowed AMIs", ("selftest", "bake on EC2")): _allowed_images,
        Subject(region, "metadata service", ("launch",)): _metadata,
        Subject(region, "types and quotas", ("gpu-test", "launch")): partial(_types, types=types),
        Subject(region, "what EC2 grants", ALL): partial(
            preflight_rights.by_ec2, instance_type=types[0]
        ),
    }
    return list(ask(account, questions))


def _role(account: Account, subject: Subject, makes_it: bool | None) -> Iterator[AccountFact]:
    """Whether a service's role is there, or else the caller's first request makes it."""
    service = {"AWSServiceRoleForEC2Spot": "spot"}.get(subject.name, "autoscaling")
    mend = f"`aws iam create-service-linked-role --aws-service-name {service}.amazonaws.com`"
    get_role = partial(account.client("iam", account.home).get_role, RoleName=subject.name)
    if not refused(get_role, "NoSuchEntity")[0]:
        yield subject.says("fits", "it is there")
    elif makes_it is None:
        text = "it is missing; the first request makes it if the caller may"
        yield subject.says("unknown", text, mend)
    elif makes_it:
        yield subject.says("fits", "the first request makes it")
    else:
        yield subject.says("stops", "it is missing, and these credentials may not make it", mend)


def _tag_policy(account: Account, subject: Subject) -> Iterator[AccountFact]:
    """Whether the organization refuses a tag that the company has on everything in EC2."""
    organizations, answer = account.client("organizations", account.home), dict[str, Any]()
    describe = partial(organizations.describe_effective_policy, PolicyType="TAG_POLICY")
    refused(lambda: answer.update(describe()), *_NO_POLICY)
    policy = json.loads(answer.get("EffectivePolicy", {}).get("PolicyContent", "{}"))
    wrong = [
        f"{key}={'|'.join(values)}, not {name}={value}"
        for key, values in _enforced(policy)
        for name, value in account.tags.items()
        if name.lower() == key.lower()
        if name != key or not any(fnmatchcase(value, pattern) for pattern in values)
    ]
    for text in wrong:
        yield subject.says("stops", f"the organization wants {text}", "correct `publish: tags:`")
    if not wrong:
        yield subject.says("fits", "it refuses no tag of ours")


def _enforced(policy: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """Yield the keys for which a tag policy refuses values in EC2, and those that it takes."""
    for rule in policy.get("tags", {}).values():
        if any(kind.startswith("ec2:") for kind in rule.get("enforced_for", [])):
            yield rule["tag_key"], rule.get("tag_value", ["*"])


def _encryption(account: Account, subject: Subject) -> Iterator[AccountFact]:
    ec2 = account.ec2(subject.region)
    if not ec2.get_ebs_encryption_by_default()["EbsEncryptionByDefault"]:
        yield subject.says("fits", "off by default")
        return
    name = ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
    key = encryption.Key(name, by_aws=True)
    # By AWS's alias KMS is not asked: it would make the key.
    if name != encryption.AWS_ALIAS:
        key = encryption.find_key(account.kms(subject.region), name)
    if key.problem:
        yield subject.says("stops", f"{key.problem}, by which EBS encrypts", key.remedy)
    else:
        who = "no other account can use it" if key.by_aws else "its policy says who can use it"
        yield subject.says("fits", f"by {key.arn}: {who}")


def _sharing(account: Account, subject: Subject) -> Iterator[AccountFact]:
    ec2 = account.ec2(subject.region)
    images = ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"]
    snapshots = ec2.get_snapshot_block_public_access_state()["State"]
    yield subject.says(
        "fits",
        f"AMIs {images}, snapshots {snapshots}: that is about sharing with everybody alone",
    )


def _allowed_images(account: Account, subject: Subject) -> Iterator[AccountFact]:
    """Whether Debian's AMIs are seen. An account always sees its own."""
    ec2 = account.ec2(subject.region)
    state = ec2.get_allowed_images_settings()["State"]
    if preflight_rights.newest_debian(ec2):
        yield subject.says("fits", f"{state}, and Debian's are seen")
        return
    yield subject.says(
        "stops" if state == "enabled" else "unknown",
        f"{state}, and no AMI of Debian's is seen",
        "`aws ec2 replace-image-criteria-in-allowed-images-settings "
        f"--region {subject.region} --image-criteria ImageProviders={preflight_rights.DEBIAN[0]}`",
    )


def _metadata(account: Account, subject: Subject) -> Iterator[AccountFact]:
    defaults = account.ec2(subject.region).get_instance_metadata_defaults().get("AccountLevel", {})
    if defaults.get("HttpEndpoint") != "disabled":
        yield subject.says("fits", "it is on")
        return
    yield subject.says(
        "stops",
        "the account's default is off, and machines have their SSH keys from it",
        f"`aws ec2 modify-instance-metadata-defaults --region {subject.region} "
        "--http-endpoint enabled`",
    )


def _types(account: Account, subject: Subject, types: Sequence[str]) -> Iterator[AccountFact]:
    """Whether the region offers the types, and quotas have room for a machine of each."""
    families = sorted({name.partition(".")[0] for name in types})
    described = instance_types.describe(account.ec2(subject.region), families)
    cpus = {row["InstanceType"]: int(row["VCpuInfo"]["DefaultVCpus"]) for row in described}
    largest = dict[tuple[str, ...], str]()
    for name in sorted(types, key=lambda name: cpus.get(name, 0)):
        if name in cpus:
            yield subject.says("fits", name)
            largest[next((row[1:] for row in _QUOTAS if re.match(row[0], name)), ())] = name
        else:
            yield subject.says("stops", f"there is no {name}", "name another type or region")
    quotas = account.client("service-quotas", subject.region)
    for row, name in largest.items():
        if not row:
            yield subject.says("unknown", f"which quota {name} has", "look into Service Quotas")
        for quota, (market, needed_by) in zip(row[1:], _MARKETS.items(), strict=False):
            if quota:
                place = replace(subject, name=f"vCPUs of {row[0]} {market}", needed_by=needed_by)
                answer = quotas.get_service_quota(ServiceCode="ec2", QuotaCode=quota)
                have = int(answer["Quota"]["Value"])
                yield place.says(
                    "stops" if have < cpus[name] else "fits",
                    f"the quota is {have}, and {name} has {cpus[name]}",
                    f"`aws service-quotas request-service-quota-increase --region {subject.region} "
                    f"--service-code ec2 --quota-code {quota} --desired-value {cpus[name]}`",
                )


def lines(findings: Iterable[AccountFact]) -> Iterator[str]:
    """Yield what a person reads: in full what stops or is unknown, a line a region for the rest."""
    by_region = dict[str, list[AccountFact]]()
    for finding in findings:
        by_region.setdefault(finding.region or "the account", []).append(finding)
    for place, found in by_region.items():
        for each in found:
            if each.state == "stops":
                yield f"{place}: {each.subject} stops {', '.join(each.stops)}: {each.text}"
            elif each.state == "unknown":
                yield f"{place}: {each.subject} is unknown: {each.text}"
            if each.state != "fits" and each.mend:
                yield f"    {each.mend}"
        if fits := dict.fromkeys(each.subject for each in found if each.state == "fits"):
            yield f"{place}: what fits: {', '.join(fits)}"
