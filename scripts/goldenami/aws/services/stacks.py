"""One CloudFormation stack in one region, made from a template of ours: finding it, changing it by
a change set, deleting it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import yaml
from botocore import exceptions as aws

from goldenami.aws import error_kinds, tags
from goldenami.aws.calls import pages, wait_for
from goldenami.aws.session import Client
from goldenami.core import clock
from goldenami.core.errors import BadInput, Busy, GoldenError, HostNotReady, StageFailed
from goldenami.core.wait import growing
from goldenami.core.yaml_lines import nearest

LIMIT_S = 3600.0
"""Seconds to wait for a change. A role takes about 15, an instance profile 120; CloudFormation
itself gives up a resource earlier."""
FIRST_POLL_S, MOST_POLL_S, SILENCE_S = 0.2, 5.0, 30.0
"""Seconds between the first polls, at most between later ones, and without an event after which the
user is told that the change goes on."""

Say = Callable[[str], None]

_DONE = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
_GOES_AWAY = frozenset({"CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"})
ACCOUNT = "golden-ami"
"""The name of the account's stack."""
_EMPTY, _HALF_BACK = "REVIEW_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"
"""A stack with change sets that were never executed; and with _GOES_AWAY, the states in which no
change set can be created (CloudFormation user guide,
"Stack status codes")."""
_NOTHING = ("didn't contain changes", "No updates are to be performed")
_RIGHTS = ("AccessDenied", "not authorized", "UnauthorizedOperation")
_NAMES = ("already exists", "AlreadyExists", "already in use")
_CANCELLED = "cancelled"
_GROUP = "AWS::AutoScaling::AutoScalingGroup"


class _Loader(yaml.SafeLoader):
    """A YAML loader for templates that reads CloudFormation's functions (`!Ref`) as None."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


@dataclass(frozen=True)
class StackIdentity:
    """A stack's name, its template's `file` as messages call it, and the `description` by which an
    existing stack of this name is recognised as ours."""

    name: str
    file: str
    description: str


@dataclass(frozen=True)
class StackTemplate(StackIdentity):
    """A template for the stack of that name. `removed_by` is the command that deletes the stack, in
    backticks."""

    body: str
    removed_by: str

    @cached_property
    def parameters(self) -> dict[str, Any]:
        declared: dict[str, Any] = yaml.load(self.body, _Loader)["Parameters"]  # noqa: S506 - a SafeLoader
        return declared

    def check(self, values: Mapping[str, str]) -> None:
        """Raise BadInput for a parameter that the template lacks, or a value that it forbids."""
        for name, value in values.items():
            if name not in self.parameters:
                raise BadInput(
                    f"{self.file} has no parameter `{name}`: {nearest(name, self.parameters)}",
                    hint="its head lists them",
                )
            declared = self.parameters[name]
            allowed = declared.get("AllowedValues", [value])
            if (
                not re.fullmatch(declared.get("AllowedPattern", ".*"), value)
                or value not in allowed
            ):
                raise BadInput(
                    f"{name} cannot be `{value}`", hint=" ".join(declared["Description"].split())
                )

    def of_partition(self, partition: str) -> str:
        """The template for a partition: ARNs that begin with `arn:aws:` get that partition."""
        return self.body.replace("arn:aws:", f"arn:{partition}:")


@dataclass(frozen=True)
class DeployedStack:
    """A stack that exists. `outputs` are values by their descriptions, or by their keys if they
    have none."""

    id: str
    name: str
    status: str
    description: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def is_new(self) -> bool:
        """Whether the stack is still empty: it has only change sets that were never executed."""
        return self.status == _EMPTY


@dataclass(frozen=True)
class ChangeSet:
    """A change set that waits to be executed. `id` is "" if CloudFormation found no changes.
    `is_first` is True if it creates the stack `name`. `changes` are lines for the user."""

    id: str
    stack_id: str
    name: str
    is_first: bool
    changes: tuple[str, ...]

    def show(self, region: str) -> Iterator[str]:
        if not self.changes:
            yield f"{region}: nothing to do"
            return
        verb = "a new stack" if self.is_first else "changes of the stack"
        yield f"{region}: {verb} {self.name}"
        yield from self.changes


def find(cloudformation: Client, stack: str) -> DeployedStack | None:
    """Return the stack of that name or id, or None."""
    try:
        description = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except aws.ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return DeployedStack(
        description["StackId"],
        description["StackName"],
        description["StackStatus"],
        description.get("Description", ""),
        {row["ParameterKey"]: row["ParameterValue"] for row in description.get("Parameters", [])},
        {
            row.get("Description", row["OutputKey"]): row["OutputValue"]
            for row in description.get("Outputs", [])
        },
    )


def tagged(cloudformation: Client, key: str) -> dict[str, str]:
    """The value of that tag on each stack that has it, by the stack's name. An empty stack has no
    tags yet."""
    values = dict[str, str]()
    for description in pages(cloudformation, "describe_stacks", "Stacks"):
        own_tags = tags.from_list(description.get("Tags"))
        if key in own_tags and description["StackStatus"] != _EMPTY:
            values[description["StackName"]] = own_tags[key]
    return values


def proposed_tags(cloudformation: Client, stack: DeployedStack) -> list[dict[str, str]]:
    """The tags of each change set that waits: those that the stack gets if it is executed."""
    waiting = pages(cloudformation, "list_change_sets", "Summaries", StackName=stack.id)
    descriptions = [
        cloudformation.describe_change_set(ChangeSetName=row["ChangeSetId"]) for row in waiting
    ]
    return [tags.from_list(description.get("Tags")) for description in descriptions]


def groups(cloudformation: Client, stack: DeployedStack) -> list[str]:
    """The names of the stack's Auto Scaling groups."""
    return [
        resource["PhysicalResourceId"]
        for resource in pages(
            cloudformation, "list_stack_resources", "StackResourceSummaries", StackName=stack.id
        )
        if resource["ResourceType"] == _GROUP and resource.get("PhysicalResourceId")
    ]


def find_ours(cloudformation: Client, wanted: StackIdentity, region: str) -> DeployedStack | None:
    """Return the stack, or None. Raises BadInput for a stack of this name that was made from
    another template."""
    stack = find(cloudformation, wanted.name)
    if stack and not stack.is_new and stack.description != wanted.description:
        raise BadInput(
            f"the stack {stack.name} in {region} is not made from {wanted.file}: "
            f"`{stack.description}`",
            hint="who made it has to delete it, or give it another name; this one's is fixed",
        )
    return stack


def find_usable(
    cloudformation: Client, template: StackTemplate, region: str
) -> DeployedStack | None:
    """As `find_ours`, for a stack that can be changed. Raises Busy while somebody changes it, and
    StageFailed in a state in which it cannot be changed."""
    stack = find_ours(cloudformation, template, region)
    if stack is None:
        return None
    if stack.status.endswith("_IN_PROGRESS") and not stack.is_new:
        raise Busy(
            f"the stack {stack.name} in {region} is being changed: {stack.status}",
            hint="wait until that has ended, then run again",
        )
    message = f"the stack {stack.name} in {region} is in the state {stack.status}"
    if stack.status == _HALF_BACK:
        raise StageFailed(
            message,
            hint="`aws cloudformation continue-update-rollback --stack-name "
            f"{stack.name}`, then run again",
        )
    if stack.status in _GOES_AWAY:
        raise StageFailed(
            message,
            hint=f"{template.removed_by} takes it away and keeps what holds data; then run again",
        )
    return stack


def propose(
    cloudformation: Client,
    template: StackTemplate,
    stack: DeployedStack | None,
    parameters: Mapping[str, str],
) -> ChangeSet:
    """Create a change set that brings the stack to the template. Resources that exist already under
    a fixed name are imported.

    The caller has to execute or discard it. Raises StageFailed if it could not be executed.
    """
    is_first = stack is None or stack.is_new
    kind = {"ChangeSetType": "UPDATE"}
    if is_first:
        kind = {"ChangeSetType": "CREATE", "OnStackFailure": "DELETE"}
    created = cloudformation.create_change_set(
        StackName=template.name,
        ChangeSetName=f"golden-{clock.now():%Y%m%dT%H%M%S}",
        Capabilities=["CAPABILITY_NAMED_IAM"],
        ImportExistingResources=True,
        **kind,
        TemplateBody=template.of_partition(cloudformation.meta.partition),
        Parameters=[
            {"ParameterKey": name, "ParameterValue": value}
            for name, value in sorted(parameters.items())
        ],
    )

    def ended() -> dict[str, Any] | None:
        now: dict[str, Any] = cloudformation.describe_change_set(ChangeSetName=created["Id"])
        return None if now["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS") else now

    proposed = ChangeSet(created["Id"], created["StackId"], template.name, is_first, ())
    description = wait_for(
        ended,
        limit_s=LIMIT_S,
        pauses=growing(FIRST_POLL_S, 2, MOST_POLL_S),
        what=f"CloudFormation plans {created['Id']}",
    )
    if description and description["Status"] == "CREATE_COMPLETE":
        return replace(proposed, changes=tuple(_changes(cloudformation, created["Id"])))
    reason = (description or {}).get("StatusReason", "it is not made after an hour")
    discard(cloudformation, proposed)
    # A change set without changes fails, and only the reason's text tells it from other failures.
    if any(text in reason for text in _NOTHING):
        return replace(proposed, id="")
    raise _failure(template.name, reason)


def _changes(cloudformation: Client, change_set: str) -> Iterator[str]:
    for row in pages(cloudformation, "describe_change_set", "Changes", ChangeSetName=change_set):
        change = row["ResourceChange"]
        replaced = ", replaced" if change.get("Replacement", "False") != "False" else ""
        yield (
            f"  {change['Action'].lower():<7}{change['ResourceType']:<26} "
            f"{change['LogicalResourceId']}{replaced}"
        )


def discard(cloudformation: Client, change_set: ChangeSet) -> None:
    """Delete a change set, and the empty stack that was created with a first one."""
    if change_set.id:
        cloudformation.delete_change_set(ChangeSetName=change_set.id)
    # Two first change sets share their stack: it stays if the other one was executed meanwhile, or
    # still waits.
    stack = find(cloudformation, change_set.stack_id) if change_set.is_first else None
    if (
        stack
        and stack.is_new
        and not list(
            pages(cloudformation, "list_change_sets", "Summaries", StackName=change_set.stack_id)
        )
    ):
        cloudformation.delete_stack(StackName=change_set.stack_id)


def execute(cloudformation: Client, change_set: ChangeSet, say: Say) -> DeployedStack:
    """Execute a change set, reporting each event by `say`, and return the stack as it is then.

    A change set without changes is discarded: a parameter may have changed that no resource uses.
    """
    if not change_set.changes:
        discard(cloudformation, change_set)
        stack = find(cloudformation, change_set.name)
        assert stack is not None  # a first change set has changes
        return stack
    change = _StackChange.begin(cloudformation, change_set.stack_id, change_set.name)
    cloudformation.execute_change_set(ChangeSetName=change_set.id)
    return change.wait(_DONE, say)


def delete(cloudformation: Client, stack: DeployedStack, say: Say) -> None:
    """Delete a stack, reporting each event by `say`. Resources that its template retains stay.

    Raises Busy if its status differs from that of `stack` by now.
    """
    current = find(cloudformation, stack.id)
    if current and current.status != stack.status:
        raise Busy(
            f"the stack {stack.name} was {stack.status} and is {current.status}: somebody else "
            "changes it",
            hint="wait until that has ended, then run again",
        )
    change = _StackChange.begin(cloudformation, stack.id, stack.name)
    cloudformation.delete_stack(StackName=stack.id)
    change.wait(frozenset({"DELETE_COMPLETE"}), say)


def _events(cloudformation: Client, stack_id: str) -> dict[str, Any]:
    events = list(pages(cloudformation, "describe_stack_events", "StackEvents", StackName=stack_id))
    return {event["EventId"]: event for event in reversed(events)}


@dataclass(frozen=True)
class _StackChange:
    """A change of a stack in progress. It is begun before the change is asked for; `seen` are the
    ids of events until then and of those reported since."""

    cloudformation: Client
    stack_id: str
    name: str
    seen: set[str]

    @classmethod
    def begin(cls, cloudformation: Client, stack_id: str, name: str) -> _StackChange:
        return cls(cloudformation, stack_id, name, set(_events(cloudformation, stack_id)))

    def wait(self, good: frozenset[str], say: Say) -> DeployedStack:
        """Wait for the change to end, reporting each event by `say`. Raises an error if the stack's
        status is none of `good` then."""
        began = last_said = time.monotonic()
        failed = list[str]()

        def ended() -> DeployedStack | None:
            nonlocal last_said
            stack = find(self.cloudformation, self.stack_id)
            # CloudFormation still knows a deleted stack by its id, unless it was never more than a
            # change set.
            if stack is None:
                return DeployedStack(self.stack_id, self.name, "DELETE_COMPLETE", "", {}, {})
            for event in self._new_events():
                last_said = time.monotonic()
                reason = event.get("ResourceStatusReason", "")
                say(f"{event['ResourceStatus']:<20} {event['LogicalResourceId']}")
                # Cancelled resources are not the cause: another one failed before them.
                if event["ResourceStatus"].endswith("_FAILED") and _CANCELLED not in reason:
                    failed.append(f"{event['LogicalResourceId']}: {reason}")
            if time.monotonic() - last_said > SILENCE_S:
                last_said = time.monotonic()
                say(f"{stack.status}, for {last_said - began:.0f} s")
            return None if stack.status.endswith("_IN_PROGRESS") else stack

        stack = wait_for(
            ended,
            limit_s=LIMIT_S,
            pauses=growing(FIRST_POLL_S, 2, MOST_POLL_S),
            what=f"CloudFormation changes the stack {self.name}",
        )
        if stack is None:
            raise StageFailed(
                f"the stack {self.name} has not ended its change after {LIMIT_S / 60:.0f} minutes",
                hint="its events are in the console; run again when it has ended",
            )
        if stack.status not in good:
            cause = [*failed, f"the stack ended in {stack.status}"][0]
            raise _failure(self.name, cause)
        return stack

    def _new_events(self) -> Iterator[dict[str, Any]]:
        for number, event in _events(self.cloudformation, self.stack_id).items():
            if number not in self.seen:
                self.seen.add(number)
                yield event


def _failure(stack: str, reason: str) -> GoldenError:
    """The error for a failure, by the text of CloudFormation's reason."""
    reason = reason.partition(error_kinds.ENCODED)[0].rstrip(".")
    message = f"CloudFormation could not change the stack {stack}: {reason}"
    if any(text in reason for text in _RIGHTS):
        return HostNotReady(
            message,
            hint=f"allow it in {error_kinds.denying_policy(reason)}; nothing is half made, then "
            "run again",
        )
    hint = "correct what it names"
    if any(text in reason for text in _NAMES):
        hint = "remove what has that name, or the stack that made it"
    return StageFailed(message, hint=f"{hint}; then run again")
