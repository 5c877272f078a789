"""The caller's rights against the policies of the commands, by EC2's DryRun and IAM's simulator.

DryRun decides on what a call makes. Whether a caller may change what is there depends on its tags,
and a first evening has nothing yet: IAM is asked about that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache, partial
from importlib.resources import files
from typing import Any

from goldenami.aws import tags
from goldenami.aws.calls import pages, refused
from goldenami.aws.session import Account, Client, asked_once

from goldenami_fleet.selftest.preflight_findings import AccountFact, Subject

POLICIES = ("publish", "promote", "gpu-test", "retire")
FOLDER = "scripts/goldenami/aws/policies"
_ONLY = {
    "autoscaling": "with a refresh",
    "ecr": "of a container",
    "iam": "as the first on Spot",
    "kms": "with a KMS key of yours",
}
"""Services of which a command needs rights for some images only."""
DEBIAN = "136693071363", "debian-13-amd64-*"
"""Debian's account and the names of its AMIs, as in packer/base_images.json."""
NAME, NO_ID = "goldenami-preflight", "0" * 17
_SSH_KEY = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + b"A" * 43
_REFUSED = re.compile(r"perform: (\S+)(?: on resource: (\S+))?(?: (?:because|with) ([^.]+))?")
_ALSO_REFUSED = ("Blocked", "PendingVerification", "TagPolicyViolation")
"""Error codes of a DryRun that say what is wrong with the account."""


@dataclass(frozen=True)
class Right:
    """A statement of a command's policy."""

    policy: str
    name: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    condition: Mapping[str, Mapping[str, Any]]

    def needed_by(self, action: str) -> str:
        service = "autoscaling" if "Refresh" in self.name else action.partition(":")[0]
        return f"{self.policy} {_ONLY.get(service, '')}".rstrip()

    def context(self, region: str, caller: str) -> list[dict[str, Any]]:
        """The facts of a request that the condition lets pass, as IAM's simulator takes them."""
        facts = list[dict[str, Any]]()
        for operator, keys in self.condition.items():
            for key, wanted in keys.items():
                value = wanted if isinstance(wanted, str) else wanted[0]
                # Null wants the key to be there ("false"), or not.
                if (operator, value) != ("Null", "true"):
                    kind = {"Bool": "boolean"}.get(operator, "string")
                    fact = {"ContextKeyType": "stringList" if ":" in operator else kind}
                    value = NAME if operator == "Null" else _example(value, region, caller)
                    facts.append({"ContextKeyName": key, "ContextKeyValues": [value], **fact})
        return facts


def _example(pattern: str, region: str, caller: str) -> str:
    """A name in the caller's account that a policy's pattern matches."""
    parts = pattern.replace("ec2.*", f"ec2.{region}.amazonaws.com").split(":", 5)
    _, partition, _, _, number, _ = caller.split(":", 5)
    if parts[0] == "arn":
        place = parts[3].replace("*", region), parts[4].replace("*", number)
        parts[1], parts[3:5] = partition, place
    return pattern if pattern == "*" else ":".join(parts).replace("*", NAME)


@cache
def rights() -> tuple[Right, ...]:
    """Return what the policies of the commands allow."""
    found = list[Right]()
    for policy in POLICIES:
        text = files("goldenami.aws").joinpath(f"policies/{policy}.json").read_text("utf-8")
        for each in json.loads(text)["Statement"]:
            resources = each["Resource"]
            if isinstance(resources, str):
                resources = [resources]
            what = tuple(each["Action"]), tuple(resources), each.get("Condition", {})
            if each["Effect"] == "Allow":
                found.append(Right(policy, each["Sid"], *what))
    return tuple(found)


def by_iam(account: Account, subject: Subject, caller: str) -> Iterator[AccountFact]:
    """Ask IAM's simulator for every action of the policies."""
    if caller.endswith(":root"):
        yield subject.says("fits", "the account's root user may do all")
        return
    lacks = dict[str, list[Right]]()
    if refused(lambda: lacks.update(_refused_by_iam(account, caller)), "AccessDenied")[0]:
        yield subject.says(
            "unknown",
            "IAM does not tell these credentials their rights",
            f"allow iam:SimulatePrincipalPolicy, or compare them with {', '.join(POLICIES)} of "
            f"{FOLDER}; `golden account apply` makes roles that have them",
        )
        return
    for action, needs in sorted(lacks.items()):
        yield _missing("", action, needs)
    if not lacks:
        yield subject.says("fits", f"IAM allows all of {', '.join(POLICIES)}")


def _refused_by_iam(account: Account, caller: str) -> dict[str, list[Right]]:
    iam, region = account.client("iam", account.home), account.home
    principal, groups = _principal(iam, caller), dict[str, list[Right]]()
    for right in rights():
        groups.setdefault(json.dumps(right.context(region, caller)), []).append(right)
    lacks = dict[str, list[Right]]()
    for context, group in groups.items():
        resources = {_example(each, region, caller) for right in group for each in right.resources}
        decided = dict[str, set[str]]()
        for row in pages(
            iam,
            "simulate_principal_policy",
            "EvaluationResults",
            PolicySourceArn=principal,
            ActionNames=sorted({action for right in group for action in right.actions}),
            ResourceArns=sorted(resources),
            ContextEntries=json.loads(context),
        ):
            parts = row.get("ResourceSpecificResults", [])
            found = {each["EvalResourceDecision"] for each in parts} or {row["EvalDecision"]}
            # A policy that asks for more facts than ours decides nothing.
            found |= set(row.get("MissingContextValues", []))
            decided.setdefault(row["EvalActionName"], set()).update(found)
        for action, found in decided.items():
            if found <= {"implicitDeny", "explicitDeny"}:
                needs = [right for right in group if action in right.actions]
                lacks.setdefault(action, []).extend(needs)
    return lacks


def _principal(iam: Client, caller: str) -> str:
    """The ARN of the caller's user or role. A session's ARN lacks the role's path."""
    _, _, session = caller.partition(":assumed-role/")
    if not session:
        return caller
    return str(iam.get_role(RoleName=session.partition("/")[0])["Role"]["Arn"])


def _missing(region: str, action: str, needs: Sequence[Right], reason: str = "") -> AccountFact:
    needed_by = tuple(dict.fromkeys(right.needed_by(action) for right in needs))
    mend = (
        f"allow it as {needs[0].name} of {FOLDER}/{needs[0].policy}.json does, or use a role of "
        "`golden account apply`"
    )
    if "explicit deny" in reason:
        mend = "ask for an exception from that policy"
    text = f"these credentials may not call it{reason and ': '}{reason}"
    return Subject(region, f"right to {action}", needed_by).says("stops", text, mend)


def by_ec2(account: Account, subject: Subject, instance_type: str) -> Iterator[AccountFact]:
    """Ask EC2 by DryRun whether the caller may make what the commands make."""
    ec2, granted, lacks = account.ec2(subject.region), list[str](), dict[str, AccountFact]()
    image = newest_debian(ec2) or f"ami-{NO_ID}"
    for method, arguments in _calls(image, subject.region, instance_type).items():
        call = ec2.meta.method_to_api_mapping[method]
        with asked_once():
            told, text = refused(partial(getattr(ec2, method), DryRun=True, **arguments))
        match = _REFUSED.search(text)
        if told == "DryRunOperation":
            granted.append(call)
        elif told in _ALSO_REFUSED:
            yield subject.says("stops", f"EC2 refuses {call}: {text}", "do what it names")
        elif told == "UnauthorizedOperation" and match:
            action, resource, reason = match.groups("")
            if needs := _shown_missing(action, resource, reason):
                lacks[action] = _missing(subject.region, action, needs, reason)
    yield from lacks.values()
    yield subject.says("fits", f"EC2 grants {', '.join(granted) or 'nothing'}")


def _shown_missing(action: str, resource: str, reason: str) -> list[Right]:
    """The statements that a refusal shows to be missing. There are none if one of them is for
    things with our tags, which the DryRun's have not."""
    # All kinds, if the refusal names no resource.
    kind = resource and f":{resource.rpartition(':')[2].partition('/')[0]}/"
    needs = [
        right
        for right in rights()
        if action in right.actions and any(kind in each for each in right.resources)
    ]
    asks_for_tags = any("ResourceTag" in json.dumps(right.condition) for right in needs)
    return needs if "explicit deny" in reason or not asks_for_tags else []


def newest_debian(ec2: Client) -> str:
    """The id of Debian's newest AMI that the account sees, or ""."""
    owner, name = DEBIAN
    by_name = [{"Name": "name", "Values": [name]}]
    rows = pages(ec2, "describe_images", "Images", Owners=[owner], Filters=by_name)
    newest = max(rows, key=lambda row: str(row["CreationDate"]), default=None)
    return str(newest["ImageId"]) if newest else ""


def _calls(image: str, region: str, instance_type: str) -> dict[str, dict[str, Any]]:
    """What the commands make in EC2, with the tags that their policies want."""
    own = {tags.IMAGE: NAME, **tags.temporary(timedelta(minutes=1))}
    root = {"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": f"snap-{NO_ID}"}}
    launch = {"ImageId": image, "InstanceType": instance_type, "MinCount": 1, "MaxCount": 1}
    template = {"InstanceType": instance_type}
    made: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
        "create_security_group": (("security-group",), {"GroupName": NAME, "Description": NAME}),
        "import_key_pair": (("key-pair",), {"KeyName": NAME, "PublicKeyMaterial": _SSH_KEY}),
        "create_launch_template": (
            ("launch-template",),
            {"LaunchTemplateName": NAME, "LaunchTemplateData": template},
        ),
        "register_image": (
            ("image",),
            {"Name": NAME, "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": [root]},
        ),
        "copy_image": (
            ("image", "snapshot"),
            {"Name": NAME, "SourceImageId": image, "SourceRegion": region},
        ),
        "run_instances": (
            ("instance", "volume"),
            {**launch, "MetadataOptions": {"HttpTokens": "required"}},
        ),
    }
    return {
        call: {**arguments, "TagSpecifications": tags.specifications(own, *kinds)}
        for call, (kinds, arguments) in made.items()
    }
