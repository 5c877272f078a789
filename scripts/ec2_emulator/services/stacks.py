"""CloudFormation where moto's is too kind: conditions, rights of the caller, imports, failures and
what is retained.

Pages are of https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from moto.cloudformation.models import Change, ChangeSet, CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap, clean_json
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult
from moto.dynamodb.models import dynamodb_backends
from moto.iam.models import IAMBackend, ManagedPolicy, iam_backends
from moto.s3.models import s3_backends
from moto.ssm.models import ssm_backends
from moto.utilities.utils import get_partition

from ec2_emulator import authorization
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.services import stack_resources
from ec2_emulator.services.ssm_parameters import settle
from ec2_emulator.state import STATE

_CREATES = {"AWS::S3::Bucket": "s3:CreateBucket", "AWS::IAM::Role": "iam:CreateRole"}
"""The right that making a thing needs, by its type: CloudFormation acts as its caller."""
_LEAVES_NOTHING: set[str] = set()
"""Ids of change sets that were made with OnStackFailure=DELETE."""
_moto_create = CloudFormationBackend.create_change_set
_moto_delete = CloudFormationBackend.delete_stack


def holding(template: str, parameters: dict[str, str], account: str, region: str) -> str:
    """Resources and outputs whose condition does not hold are not part of a stack.

    conditions-section-structure.html
    """
    whole = Stack.parse_template(template)
    known = ResourceMap("", "", parameters, {}, region, account, {**whole, "Outputs": {}}, None)
    known.load()
    for section in ("Resources", "Outputs"):
        whole[section] = {
            name: body
            for name, body in whole.get(section, {}).items()
            if "Condition" not in body or known.lazy_condition_map[body["Condition"]]
        }
    for body in whole["Resources"].values():
        properties = body.get("Properties", {})
        if name := clean_json(properties.pop("BucketName", None), known):
            properties["BucketName"] = name
    return re.sub(
        r"\{\{resolve:ssm:([^}]+)\}\}",
        lambda match: dynamic_reference(account, region, match[1]),
        json.dumps(whole),
    )


@rule("https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references-ssm.html")
def dynamic_reference(account: str, region: str, name: str) -> str:
    """`{{resolve:ssm:NAME}}` in a template, with a version or without, is the parameter's value
    when it is deployed."""
    settle()
    found = ssm_backends[account][region].get_parameter(name)
    if found is None or found.parameter_type == "SecureString":
        raise ApiError("ValidationError", f"Parameters: [ssm:{name}] cannot be found.")
    return json.dumps(found.value)[1:-1]


@rule("https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html")
def create_change_set(
    backend: CloudFormationBackend,
    stack_name: str,
    change_set_name: str,
    template: str,
    parameters: dict[str, str],
    **others: Any,
) -> tuple[str, str]:
    """CreateChangeSet, into which goes what the conditions let in."""
    same = [stack for stack in backend.stacks.values() if stack.name == stack_name]
    if others["change_set_type"] == "CREATE" and same:
        if same[0].status != "REVIEW_IN_PROGRESS":
            raise ApiError("AlreadyExistsException", f"Stack [{stack_name}] already exists")
        del backend.stacks[same[0].stack_id]
    held = holding(template, parameters, backend.account_id, backend.region_name)
    made, stack_id = _moto_create(backend, stack_name, change_set_name, held, parameters, **others)
    if others["change_set_type"] == "CREATE" and same:  # first change sets share their stack
        stack = backend.stacks.pop(stack_id)
        stack.stack_id = backend.change_sets[made].stack_id = stack_id = same[0].stack_id
        backend.stacks[stack_id] = stack
    return made, stack_id


def differences(change_set: ChangeSet) -> list[Change]:
    """What changes, also where that is only a parameter that a resource refers to
    (DescribeChangeSet)."""
    known = change_set.stack.resource_map
    now = {row["ParameterKey"]: row["ParameterValue"] for row in parameter_list(change_set.stack)}
    others = {
        name: value for name, value in change_set.parameters.items() if now.get(name) != value
    }
    found = known.build_resource_diff(change_set.template_dict, others)
    bodies = {**known._resource_json_map, **change_set.template_dict["Resources"]}
    return [
        Change(action=action, logical_resource_id=name, resource_type=bodies[name]["Type"])
        for action, names in found.items()
        for name in names
    ]


def parameter_list(stack: Stack) -> list[dict[str, str]]:
    """Parameters of a stack as text, a list with commas (DescribeStacks)."""
    return [
        {
            "ParameterKey": name,
            "ParameterValue": ",".join(value) if isinstance(value, list) else str(value),
        }
        for name, value in stack.resource_map.resolved_parameters.items()
    ]


def importable(stack: Stack, template: dict[str, Any]) -> dict[str, Any]:
    """What a template names by a fixed name and retains, and is there without being the stack's,
    can be imported.

    import-resources-automatically.html
    """
    partition = get_partition(stack.region_name)
    named: dict[str, tuple[str, Any]] = {
        "AWS::DynamoDB::Table": (
            "TableName",
            dynamodb_backends[stack.account_id][stack.region_name].tables,
        ),
        "AWS::S3::Bucket": ("BucketName", s3_backends[stack.account_id][partition].buckets),
    }
    found = {}
    for name, body in template["Resources"].items():
        key, there = named.get(body["Type"], ("", {}))
        thing = there.get(body.get("Properties", {}).get(key, ""))
        if thing and "DeletionPolicy" in body and name not in stack.resource_map._resource_json_map:
            found[name] = thing
    return found


def _refused(changes: list[Change]) -> Iterator[str]:
    """Why the caller may not make what the changes add."""
    denied = STATE.settings.denied.get("*", ())
    for change in changes:
        action = _CREATES.get(change.resource_type, "")
        if change.action == "Add" and authorization.matches(action, denied):
            yield (
                f"{change.logical_resource_id}: User is not authorized to perform: {action} "
                "(AccessDenied)"
            )


@rule("https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/stack-failure-options.html")
def execute_change_set(
    backend: CloudFormationBackend, change_set_name: str, stack_name: str | None = None
) -> None:
    """Roll back a change that fails; a first one under OnStackFailure=DELETE leaves no stack."""
    change_set = backend.describe_change_set(change_set_name)
    assert change_set is not None
    change_set.execution_status = "EXECUTE_COMPLETE"
    stack, kind = backend.stacks[change_set.stack_id], change_set.change_set_type
    stack._add_stack_event(f"{kind}_IN_PROGRESS", resource_status_reason="User Initiated")
    before = set(stack.resource_map._parsed_resources)
    stack.description = change_set.template_dict.get("Description")
    try:
        for refusal in _refused(change_set.changes):
            raise ApiError("AccessDenied", refusal)
        _import(stack, change_set)
        change_set.apply()
        stack.template_dict, stack.template = change_set.template_dict, change_set.template
        stack.parameters = change_set.parameters
        stack.output_map = stack._create_output_map()
        stack.status = f"{kind}_COMPLETE"
    except (ServiceException, ValueError) as error:
        stack._add_stack_event(
            f"{kind}_FAILED", resource_status_reason=str(getattr(error, "message", error))
        )
        _roll_back(stack, before)
        stack.status = "ROLLBACK_COMPLETE" if kind == "CREATE" else "UPDATE_ROLLBACK_COMPLETE"
        if change_set.change_set_id in _LEAVES_NOTHING:
            stack.status = "DELETE_COMPLETE"
            backend.deleted_stacks[stack.stack_id] = backend.stacks.pop(stack.stack_id)
    stack._add_stack_event(stack.status)


def _import(stack: Stack, change_set: ChangeSet) -> None:
    there = importable(stack, change_set.template_dict)
    for change in change_set.changes:
        name = change.logical_resource_id
        if change.action == "Import":
            there[name].cf_resource_type = change.resource_type
            there[name].logical_resource_id = name
            stack.resource_map._parsed_resources[name] = there[name]


def _roll_back(stack: Stack, before: set[str]) -> None:
    """Delete what the change made, but not what it imported."""
    made = stack.resource_map
    for name, policy in _policies(stack).items():
        if name not in before:
            _iam(stack).delete_policy(policy.arn)
    for name in sorted((made._parsed_resources.keys() - before) & made._resource_json_map.keys()):
        body = made._resource_json_map[name]
        if body.get("DeletionPolicy") != "Retain":
            made._delete_resource(made._parsed_resources.pop(name), body)


def _iam(stack: Stack) -> IAMBackend:
    return iam_backends[stack.account_id][get_partition(stack.region_name)]


def _policies(stack: Stack) -> dict[str, Any]:
    """The stack's managed policies by logical name; moto deletes none of them."""
    return {
        name: each
        for name, each in stack.resource_map._parsed_resources.items()
        if isinstance(each, ManagedPolicy) and each.arn in _iam(stack).managed_policies
    }


def _in_the_way(stack: Stack) -> Iterator[str]:
    """Why a resource cannot go."""
    yield from (
        f"{name}: Cannot delete a policy attached to entities."
        for name, policy in _policies(stack).items()
        if policy.attachment_count
    )
    yield from (
        f"{name}: You cannot delete an AutoScalingGroup while there are instances"
        for name, each in stack.resource_map._parsed_resources.items()
        if stack_resources.protects(each)
    )


def delete_stack(backend: CloudFormationBackend, name_or_stack_id: str) -> None:
    """What is to be retained stays, whether it may go with a failed creation or not; what cannot go
    fails the stack.

    TemplateReference/aws-attribute-deletionpolicy.html
    """
    for stack in list(backend.stacks.values()):
        if name_or_stack_id in (stack.name, stack.stack_id):
            for body in stack.resource_map._resource_json_map.values():
                if body.get("DeletionPolicy") == "RetainExceptOnCreate":
                    body["DeletionPolicy"] = "Retain"
            for reason in _in_the_way(stack):
                stack.status = "DELETE_FAILED"
                stack._add_stack_event("DELETE_FAILED", resource_status_reason=reason)
                return
            for policy in _policies(stack).values():
                _iam(stack).delete_policy(policy.arn)
            _moto_delete(backend, stack.stack_id)


class StackApi(CloudFormationResponse):
    """The handlers."""

    def create_change_set(self) -> ActionResult:
        answer = super().create_change_set()
        assert isinstance(answer.result, dict)
        change_set = self.cloudformation_backend.change_sets[answer.result["Id"]]
        if self._get_param("OnStackFailure") == "DELETE":
            _LEAVES_NOTHING.add(change_set.change_set_id)
        imports = self._get_bool_param("ImportExistingResources", False)
        found = importable(change_set.stack, change_set.template_dict) if imports else {}
        for change in change_set.changes:
            change.action = "Import" if change.logical_resource_id in found else change.action
        return answer

    def _validate_different_update(self, *_: Any) -> None:
        """A change set without changes is made, and has failed."""
