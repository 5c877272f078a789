"""CloudFormation's rules that moto lacks: conditions, rights of the caller, imports, failures and
retained resources.

Pages are of https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from types import SimpleNamespace
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
"""The right that creating a resource of a type needs: CloudFormation acts with its caller's
rights."""
_LEAVES_NOTHING: set[str] = set()
"""Ids of change sets that were made with OnStackFailure=DELETE."""
_moto_create = CloudFormationBackend.create_change_set
_moto_delete = CloudFormationBackend.delete_stack


def active_template(template: str, parameters: dict[str, str], account: str, region: str) -> str:
    """Return a template without the resources and outputs whose condition does not hold, with its
    SSM references resolved.

    conditions-section-structure.html
    """
    document = Stack.parse_template(template)
    resource_map = ResourceMap(
        "", "", parameters, {}, region, account, {**document, "Outputs": {}}, None
    )
    resource_map.load()
    for section in ("Resources", "Outputs"):
        document[section] = {
            name: body
            for name, body in document.get(section, {}).items()
            if "Condition" not in body or resource_map.lazy_condition_map[body["Condition"]]
        }
    for body in document["Resources"].values():
        properties = body.get("Properties", {})
        # AWS::NoValue, with which CloudFormation chooses the name: the property has to go.
        if name := clean_json(properties.pop("BucketName", None), resource_map):
            properties["BucketName"] = name
    return re.sub(
        r"\{\{resolve:ssm:([^}]+)\}\}",
        lambda match: dynamic_reference(account, region, match[1]),
        json.dumps(document),
    )


@rule
def dynamic_reference(account: str, region: str, name: str) -> str:
    """`{{resolve:ssm:NAME}}` in a template, with or without a version, is the parameter's value at
    the time of deployment."""
    settle()
    parameter = ssm_backends[account][region].get_parameter(name)
    if parameter is None or parameter.parameter_type == "SecureString":
        raise ApiError("ValidationError", f"Parameters: [ssm:{name}] cannot be found.")
    # The value goes into a JSON string, so it is escaped and its quotes are cut off.
    return json.dumps(parameter.value)[1:-1]


@rule
def create_change_set(
    backend: CloudFormationBackend,
    stack_name: str,
    template: str,
    parameters: dict[str, str],
    **others: Any,
) -> tuple[str, str]:
    """Replaces CreateChangeSet: the template loses the resources whose condition does not hold."""
    same_name = [stack for stack in backend.stacks.values() if stack.name == stack_name]
    if others["change_set_type"] == "CREATE" and same_name:
        if same_name[0].status != "REVIEW_IN_PROGRESS":
            raise ApiError("AlreadyExistsException", f"Stack [{stack_name}] already exists")
        del backend.stacks[same_name[0].stack_id]
    active = active_template(template, parameters, backend.account_id, backend.region_name)
    change_set_id, stack_id = _moto_create(
        backend, stack_name, template=active, parameters=parameters, **others
    )
    # Change sets for a stack that was not executed yet share one stack; moto makes one for each.
    if others["change_set_type"] == "CREATE" and same_name:
        stack = backend.stacks.pop(stack_id)
        stack_id = same_name[0].stack_id
        stack.stack_id = backend.change_sets[change_set_id].stack_id = stack_id
        backend.stacks[stack_id] = stack
    return change_set_id, stack_id


def differences(change_set: ChangeSet) -> list[Change]:
    """Return the changes of a change set (DescribeChangeSet). A resource also changes if only a
    parameter that it refers to does."""
    resource_map = change_set.stack.resource_map
    present = {
        row["ParameterKey"]: row["ParameterValue"] for row in parameter_list(change_set.stack)
    }
    changed_parameters = {
        name: value for name, value in change_set.parameters.items() if present.get(name) != value
    }
    diff = resource_map.build_resource_diff(change_set.template_dict, changed_parameters)
    bodies = {**resource_map._resource_json_map, **change_set.template_dict["Resources"]}
    return [
        Change(action=action, logical_resource_id=name, resource_type=bodies[name]["Type"])
        for action, names in diff.items()
        for name in names
    ]


def parameter_list(stack: Stack) -> list[dict[str, str]]:
    """Return a stack's parameters as text; a list has commas (DescribeStacks)."""
    return [
        {
            "ParameterKey": name,
            "ParameterValue": ",".join(value) if isinstance(value, list) else str(value),
        }
        for name, value in stack.resource_map.resolved_parameters.items()
    ]


def importable(stack: Stack, template: dict[str, Any]) -> dict[str, Any]:
    """Return existing resources that a template can import: it names them by a fixed name and
    retains them, and the stack does not have them yet.

    import-resources-automatically.html
    """
    partition = get_partition(stack.region_name)
    by_type: dict[str, tuple[str, Any]] = {
        "AWS::DynamoDB::Table": (
            "TableName",
            dynamodb_backends[stack.account_id][stack.region_name].tables,
        ),
        "AWS::S3::Bucket": ("BucketName", s3_backends[stack.account_id][partition].buckets),
    }
    imports = {}
    for name, body in template["Resources"].items():
        key, existing = by_type.get(body["Type"], ("", {}))
        resource = existing.get(body.get("Properties", {}).get(key, ""))
        if (
            resource
            and "DeletionPolicy" in body
            and name not in stack.resource_map._resource_json_map
        ):
            imports[name] = resource
    return imports


def _refusals(changes: list[Change]) -> Iterator[str]:
    """Yield why the caller may not create resources that the changes add."""
    denied = STATE.settings.denied.get("*", ())
    for change in changes:
        action = _CREATES.get(change.resource_type, "")
        if change.action == "Add" and authorization.matches(action, denied):
            yield (
                f"{change.logical_resource_id}: User is not authorized to perform: {action} "
                "(AccessDenied)"
            )


@rule
def execute_change_set(
    backend: CloudFormationBackend, change_set_name: str, stack_name: str | None = None
) -> None:
    """A change that fails is rolled back. A stack's first change leaves no stack with
    OnStackFailure=DELETE."""
    change_set = backend.describe_change_set(change_set_name)
    assert change_set is not None
    change_set.execution_status = "EXECUTE_COMPLETE"
    stack, kind = backend.stacks[change_set.stack_id], change_set.change_set_type
    stack._add_stack_event(f"{kind}_IN_PROGRESS", resource_status_reason="User Initiated")
    # A rollback deletes only resources that were not there before.
    before = set(stack.resource_map._parsed_resources)
    stack.description = change_set.template_dict.get("Description")
    try:
        for refusal in _refusals(change_set.changes):
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
    resources = importable(stack, change_set.template_dict)
    for change in change_set.changes:
        name = change.logical_resource_id
        if change.action == "Import":
            resources[name].cf_resource_type = change.resource_type
            resources[name].logical_resource_id = name
            stack.resource_map._parsed_resources[name] = resources[name]


def _roll_back(stack: Stack, before: set[str]) -> None:
    """Delete the resources that the change created, but not those that it imported."""
    resource_map = stack.resource_map
    for name, policy in _policies(stack).items():
        if name not in before:
            _iam(stack).delete_policy(policy.arn)
    for name in sorted(
        (resource_map._parsed_resources.keys() - before) & resource_map._resource_json_map.keys()
    ):
        body = resource_map._resource_json_map[name]
        if body.get("DeletionPolicy") != "Retain":
            resource_map._delete_resource(resource_map._parsed_resources.pop(name), body)


def _iam(stack: Stack) -> IAMBackend:
    return iam_backends[stack.account_id][get_partition(stack.region_name)]


def _policies(stack: Stack) -> dict[str, Any]:
    """Return the stack's managed policies by logical name. moto never deletes them, so the callers
    do."""
    return {
        name: resource
        for name, resource in stack.resource_map._parsed_resources.items()
        if isinstance(resource, ManagedPolicy) and resource.arn in _iam(stack).managed_policies
    }


def _obstacles(stack: Stack) -> Iterator[str]:
    """Yield why a resource of the stack cannot be deleted."""
    yield from (
        f"{name}: Cannot delete a policy attached to entities."
        for name, policy in _policies(stack).items()
        if policy.attachment_count
    )
    yield from (
        f"{name}: You cannot delete an AutoScalingGroup while there are instances"
        for name, resource in stack.resource_map._parsed_resources.items()
        if stack_resources.protects(resource)
    )


def delete_stack(backend: CloudFormationBackend, name_or_stack_id: str) -> None:
    """Delete a stack. Resources to retain stay, also those that may go with a failed creation; a
    resource that cannot be deleted fails the deletion.

    TemplateReference/aws-attribute-deletionpolicy.html
    """
    for stack in list(backend.stacks.values()):
        if name_or_stack_id in (stack.name, stack.stack_id):
            for body in stack.resource_map._resource_json_map.values():
                # moto knows only Retain.
                if body.get("DeletionPolicy") == "RetainExceptOnCreate":
                    body["DeletionPolicy"] = "Retain"
            for reason in _obstacles(stack):
                stack.status = "DELETE_FAILED"
                stack._add_stack_event("DELETE_FAILED", resource_status_reason=reason)
                return
            # moto deletes no managed policy with its stack.
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
        importable_resources = (
            importable(change_set.stack, change_set.template_dict) if imports else {}
        )
        for change in change_set.changes:
            change.action = (
                "Import" if change.logical_resource_id in importable_resources else change.action
            )
        return answer

    def describe_change_set(self) -> ActionResult:
        """moto keeps the tags as a mapping, and its answer has none."""
        change_set = super().describe_change_set().result
        assert isinstance(change_set, ChangeSet)
        listed = [{"Key": key, "Value": value} for key, value in (change_set.tags or {}).items()]
        return ActionResult(SimpleNamespace(**{**vars(change_set), "tags": listed}))

    def list_change_sets(self) -> ActionResult:
        """moto lists those of all stacks."""
        name = self._get_param("StackName")
        change_sets = self.cloudformation_backend.change_sets.values()
        of_it = [each for each in change_sets if name in (each.stack_name, each.stack_id)]
        return ActionResult({"Summaries": of_it})

    def _validate_different_update(self, *_: Any) -> None:
        """Accept a change set without changes, which moto refuses: AWS makes it, with the status
        FAILED."""
