"""The emulator that also notes what each call asks of IAM: action, resource, tags, as a policy's
conditions see it.

`python -m support.aws.asked` runs it; `GET /_emulator/asked` answers with the notes. What a call
may name is looked up before it is answered, so that the tags are those from before.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs, unquote

from ec2_emulator import __main__ as program
from ec2_emulator import authorization, server
from ec2_emulator.state import MY_ACCOUNT, ApiCall
from moto.autoscaling.models import autoscaling_backends
from moto.ec2.models import ec2_backends
from moto.kms.models import kms_backends

from support.aws.iam_policies import Asked, kinds_of

KINDS = {
    "ami": "image",
    "snap": "snapshot",
    "vol": "volume",
    "i": "instance",
    "lt": "launch-template",
    "sg": "security-group",
    "key": "key-pair",
}
NEW: Mapping[str, tuple[str, ...]] = {
    "RegisterImage": ("image",),
    "CopyImage": ("image", "snapshot"),
    "CreateLaunchTemplate": ("launch-template",),
    "RunInstances": ("instance", "volume"),
    "CreateSnapshot": ("snapshot",),
    "ImportKeyPair": ("key-pair",),
    "CreateSecurityGroup": ("security-group",),
    "StartSnapshot": ("snapshot",),
    "CreateImage": ("image", "snapshot"),
    "CreateVolume": ("volume",),
}
"""What a call makes: AWS asks IAM for it as `instance/*` and the like, with the tags of the
request."""
NAMES_NOTHING = re.compile(
    r"Describe(?!ImageAttribute|InstanceAttribute|SnapshotAttribute)|"
    r"Get(?!Parameter|Object|SnapshotBlock)|List(?!Snapshot|Bucket|Changed)"
)
_IDS = re.compile(r"\b(ami|snap|vol|i|lt|sg|key)-[0-9a-f]{8,17}\b")
NOTES: list[Asked] = []


def _tags(found: Mapping[str, str]) -> dict[str, Any]:
    return {f"aws:ResourceTag/{key}": value for key, value in found.items()}


def _requested(found: Mapping[str, str]) -> dict[str, Any]:
    tags = {f"aws:RequestTag/{key}": value for key, value in found.items()}
    return {**tags, "aws:TagKeys": list(found)} if found else {}


def _ec2_arn(region: str, kind: str, name: str) -> str:
    return (
        f"arn:aws:ec2:{region}:{'' if kind in ('image', 'snapshot') else MY_ACCOUNT}:{kind}/{name}"
    )


def _form(body: bytes) -> dict[str, str]:
    return {key: values[-1] for key, values in parse_qs(body.decode(errors="replace")).items()}


def _specified(form: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags that a call of EC2 asks for, by kind of resource."""
    found: dict[str, dict[str, str]] = {}
    for key, kind in form.items():
        if match := re.fullmatch(r"TagSpecification\.(\d+)\.ResourceType", key):
            pairs = re.compile(rf"TagSpecification\.{match[1]}\.Tag\.(\d+)\.Key")
            found[kind] = {
                name: form[each.replace(".Key", ".Value")]
                for each, name in form.items()
                if pairs.fullmatch(each)
            }
    return found


def _existing(
    call: ApiCall, text: str, form: Mapping[str, str]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Kind, ARN and tags of each resource of EC2 that the call names."""
    backend = ec2_backends[MY_ACCOUNT][call.region]
    names = {match[0] for match in _IDS.finditer(text)}
    given = next((form[key] for key in form if key.endswith("LaunchTemplateName")), "")
    if known := backend.launch_template_name_to_ids.get(given):
        names.add(known)
    if "CopyImage" in call.name:
        backend = ec2_backends[MY_ACCOUNT][form["SourceRegion"]]
    if pair := backend.key_pairs.get(form.get("KeyName", "")):
        names.add(pair.id)
    for name in sorted(names):
        kind = KINDS[name.partition("-")[0]]
        yield kind, _ec2_arn(call.region, kind, name), _tags(backend.tags.get(name, {}))


def _ec2(call: ApiCall, action: str, text: str, body: bytes) -> Iterator[Asked]:
    """What EC2 and the EBS direct APIs ask for an action."""
    form = _form(body) if call.service == "ec2" else {}
    specified, made = _specified(form), NEW.get(call.action, ())
    if call.action == "StartSnapshot":
        specified = {
            "snapshot": {tag["Key"]: tag["Value"] for tag in json.loads(body).get("Tags", [])}
        }
    if action == "ec2:CreateTags" and call.action != "CreateTags":
        for kind, given in specified.items():
            said = {"ec2:CreateAction": call.action, **_requested(given)}
            yield Asked(action, _ec2_arn(call.region, kind, "*"), said)
        return
    keys = [form[key] for key in form if re.fullmatch(r"Tag\.\d+\.Key", key)]
    found = [each for each in _existing(call, text, form) if each[0] in kinds_of(action)]
    template = next((arn for kind, arn, _ in found if kind == "launch-template"), None)
    beside = {"ec2:LaunchTemplate": template} if template and action == "ec2:RunInstances" else {}
    for kind in made:
        yield Asked(
            action,
            _ec2_arn(call.region, kind, "*"),
            {**_requested(specified.get(kind, {})), **beside},
        )
    for _, arn, tags in found:
        yield Asked(action, arn, {**tags, **beside, **({"aws:TagKeys": keys} if keys else {})})
    if not made and not found:
        yield Asked(action)


def _keys(call: ApiCall, action: str, body: bytes, *, through: bool) -> Iterator[Asked]:
    """A key that a call names, by its alias; `through`: another service asks KMS for the caller.

    The policies of AWS's own keys let everybody in the account through that service. Whoever asks
    KMS itself has to be allowed to (KMS developer guide, "AWS managed keys").
    """
    backend, text = kms_backends[MY_ACCOUNT][call.region], unquote(body.decode(errors="replace"))
    for key in list(backend.keys.values()):
        aliases = sorted(key.aliases)
        is_aws = any(alias.startswith("alias/aws/") for alias in aliases)
        is_asked = not (is_aws and through)
        if is_asked and (key.id in text or any(alias in text for alias in aliases)):
            beside = {
                "kms:ViaService": f"ec2.{call.region}.amazonaws.com",
                "kms:GrantIsForAWSResource": "true",
            }
            yield Asked(
                action, key.arn, {"kms:ResourceAliases": aliases, **(beside if through else {})}
            )


def _group(call: ApiCall, action: str, text: str, form: Mapping[str, str]) -> Iterator[Asked]:
    """The Auto Scaling group that a call names, or whose instance it names."""
    for group in autoscaling_backends[MY_ACCOUNT][call.region].autoscaling_groups.values():
        if form.get("AutoScalingGroupName") == group.name or any(
            state.instance.id in text for state in group.instance_states
        ):
            arn = (
                f"arn:aws:autoscaling:{call.region}:{MY_ACCOUNT}:autoScalingGroup:1:"
                f"autoScalingGroupName/{group.name}"
            )
            yield Asked(action, arn, _tags({tag["Key"]: tag["Value"] for tag in group.tags}))


def _of_s3(call: ApiCall, action: str, path: str, query: str) -> Iterator[Asked]:
    """A bucket or an object. Who may not list is refused no object: a missing one is then
    forbidden, not missing (API_HeadObject.html)."""
    bucket, _, key = path.strip("/").partition("/")
    if action != "s3:ListBucket":
        yield Asked(action, f"arn:aws:s3:::{bucket}/{key}")
    elif not key:
        prefixes = parse_qs(query).get("prefix", [])
        yield Asked(action, f"arn:aws:s3:::{bucket}", {"s3:prefix": prefixes} if prefixes else {})


def _by_name(call: ApiCall, action: str, body: bytes) -> Iterable[Asked]:
    """A resource whose name is in the request."""
    place = f"{call.region}:{MY_ACCOUNT}"
    if call.service == "sns":
        return [Asked(action, _form(body).get("TopicArn", "*"))]
    if call.service == "dynamodb":
        return [Asked(action, f"arn:aws:dynamodb:{place}:table/{json.loads(body)['TableName']}")]
    given = json.loads(body)
    names = [
        str(each).partition(":")[0].lstrip("/")
        for each in given.get("Names", [given.get("Name")])
        if each
    ]
    return [Asked(action, f"arn:aws:ssm:{place}:parameter/{name}") for name in names] or [
        Asked(action)
    ]


def of_call(call: ApiCall, environ: authorization.Environ, body: bytes) -> Iterator[Asked]:
    """All that IAM is asked for a call."""
    path, text = (
        unquote(environ["PATH_INFO"]),
        unquote(environ["PATH_INFO"]) + unquote(body.decode(errors="replace")),
    )
    for action in call.actions:
        bare = NAMES_NOTHING.match(action.partition(":")[2]) and not action.startswith(
            ("kms:", "dynamodb:")
        )
        if bare or call.service in ("cloudformation", "cloudwatch", "budgets", "ce", "pricing"):
            yield Asked(action)
        elif action.startswith("kms:"):
            yield from _keys(call, action, body, through=call.service != "kms")
        elif action == "ec2:RunInstances" and call.service == "autoscaling":
            yield from _ec2(call, action, text, body)
        elif call.service == "autoscaling":
            yield from _group(call, action, text, _form(body))
        elif call.service in ("ec2", "ebs"):
            yield from _ec2(call, action, text, body)
        elif call.service == "s3":
            yield from _of_s3(call, action, path, environ["QUERY_STRING"])
        else:
            yield from _by_name(call, action, body)


class NotingApplication(server.EmulatorApplication):
    """The emulator with notes."""

    def __call__(self, environ: authorization.Environ, start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == f"{server.CONTROL}asked":
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps([asdict(each) for each in NOTES]).encode()]
        if environ["PATH_INFO"] == f"{server.CONTROL}reset":
            NOTES.clear()
        return super().__call__(environ, start)

    def _answer(self, call: ApiCall, environ: authorization.Environ) -> Any:
        body = environ["wsgi.input"].read()
        environ["wsgi.input"].seek(0)
        NOTES.extend(of_call(call, environ, body))
        return super()._answer(call, environ)


if __name__ == "__main__":
    server.EmulatorApplication = NotingApplication  # type: ignore[misc]
    sys.exit(program.main())
