"""The CloudFormation stack that sets an account up, in one region: looked at, changed by a change set, deleted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore import exceptions as aws

from goldenami.aws.calls import pages
from goldenami.aws.session import Client
from goldenami.core import clock
from goldenami.core.errors import BadInput, Busy, GoldenError, HostNotReady, StageFailed
from goldenami.core.wait import growing, wait_until

NAME = "golden-ami"
TEMPLATE = Path(__file__).parent / "account.yml"
DESCRIPTION = "goldenami account"
"""The template's description, by which a stack of this name is known as ours."""
LIMIT_S = 3600.0
"""Seconds; a role takes about 15, an instance profile 120. CloudFormation itself gives up on a resource earlier."""
FIRST_POLL_S, MOST_POLL_S, SILENCE_S = 0.2, 5.0, 30.0

Say = Callable[[str], None]

_DONE = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
_REMEDIES: Mapping[str, str] = {
    "UPDATE_ROLLBACK_FAILED": f"`aws cloudformation continue-update-rollback --stack-name {NAME}`, then run again",
    **dict.fromkeys(("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"),
                    "`golden account remove` takes it away and keeps what holds data; then run again"),
}
"""What a person has to do first about a stack in a state that no change set can be made in (CloudFormation user guide,
"Stack status codes")."""
_NOTHING = ("didn't contain changes", "No updates are to be performed")
_RIGHTS = ("AccessDenied", "not authorized", "UnauthorizedOperation")
_NAMES = ("already exists", "AlreadyExists", "already in use")
_CANCELLED = "cancelled"


@dataclass(frozen=True)
class AccountStack:
    """A stack as it is. `outputs` are values by what they are described as."""

    id: str
    status: str
    description: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    @property
    def is_new(self) -> bool:
        """Whether there is nothing of it yet but a change set that was never executed."""
        return self.status == "REVIEW_IN_PROGRESS"


@dataclass(frozen=True)
class ResourceChange:
    """What a change set does with one resource: Add, Modify, Remove or Import."""

    action: str
    name: str
    kind: str
    replaces: bool


@dataclass(frozen=True)
class ChangeSet:
    """A change set that waits to be executed; one without changes has no id. `is_first`: it makes the stack."""

    id: str
    stack_id: str
    is_first: bool
    changes: tuple[ResourceChange, ...]


def find(cloudformation: Client, stack: str = NAME) -> AccountStack | None:
    """The stack of that name or id, or None where there is none."""
    try:
        found = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    except aws.ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
    return AccountStack(found["StackId"], found["StackStatus"], found.get("Description", ""),
                 {row["ParameterKey"]: row["ParameterValue"] for row in found.get("Parameters", [])},
                 {row.get("Description", row["OutputKey"]): row["OutputValue"] for row in found.get("Outputs", [])})


def check_ours(stack: AccountStack, region: str) -> None:
    """BadInput for a stack of our name that was made from another template."""
    if not stack.is_new and stack.description != DESCRIPTION:
        raise BadInput(f"the stack {NAME} in {region} is not made from {TEMPLATE.name}: `{stack.description}`",
                       hint="delete it, or give it another name; this one's is fixed")


def check_usable(stack: AccountStack, region: str) -> None:
    """As `check_ours`; Busy while somebody changes it, StageFailed for a state that nothing can be changed in."""
    check_ours(stack, region)
    if stack.status.endswith("_IN_PROGRESS") and not stack.is_new:
        raise Busy(f"the stack {NAME} in {region} is being changed: {stack.status}",
                   hint="wait until that has ended, then run again")
    if stack.status in _REMEDIES:
        raise StageFailed(f"the stack {NAME} in {region} is in the state {stack.status}", hint=_REMEDIES[stack.status])


def template(partition: str) -> str:
    """The template for a partition: the policies' names of resources, which begin with `arn:aws:`, are of that one."""
    return TEMPLATE.read_text(encoding="utf-8").replace("arn:aws:", f"arn:{partition}:")


def propose(cloudformation: Client, stack: AccountStack | None, parameters: Mapping[str, str]) -> ChangeSet:
    """A change set to the template with `parameters`; what exists already by a fixed name is imported.

    It has to be executed or discarded. StageFailed where CloudFormation says that it cannot be carried out.
    """
    is_first = stack is None or stack.is_new
    kind = {"ChangeSetType": "CREATE", "OnStackFailure": "DELETE"} if is_first else {"ChangeSetType": "UPDATE"}
    made = cloudformation.create_change_set(
        StackName=NAME, ChangeSetName=f"golden-{clock.now():%Y%m%dT%H%M%S}", Capabilities=["CAPABILITY_NAMED_IAM"],
        TemplateBody=template(cloudformation.meta.partition), ImportExistingResources=True, **kind,
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in sorted(parameters.items())])

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = cloudformation.describe_change_set(ChangeSetName=made["Id"])
        return None if found["Status"] in ("CREATE_PENDING", "CREATE_IN_PROGRESS") else found

    proposed = ChangeSet(made["Id"], made["StackId"], is_first, ())
    found = wait_until(ended, LIMIT_S, growing(FIRST_POLL_S, 2, MOST_POLL_S))
    if found and found["Status"] == "CREATE_COMPLETE":
        return ChangeSet(made["Id"], made["StackId"], is_first, tuple(_changes(cloudformation, made["Id"])))
    reason = (found or {}).get("StatusReason", "it is not made after an hour")
    discard(cloudformation, proposed)
    if any(text in reason for text in _NOTHING):
        return ChangeSet("", made["StackId"], is_first, ())
    raise _failure(reason)


def _changes(cloudformation: Client, change_set: str) -> Iterator[ResourceChange]:
    for row in pages(cloudformation, "describe_change_set", "Changes", ChangeSetName=change_set):
        change = row["ResourceChange"]
        yield ResourceChange(change["Action"], change["LogicalResourceId"], change["ResourceType"],
                             change.get("Replacement", "False") != "False")


def discard(cloudformation: Client, change_set: ChangeSet) -> None:
    """Delete a change set, and the empty stack that came with a first one."""
    if change_set.id:
        cloudformation.delete_change_set(ChangeSetName=change_set.id)
    if change_set.is_first:
        cloudformation.delete_stack(StackName=change_set.stack_id)


def execute(cloudformation: Client, change_set: ChangeSet, say: Say) -> AccountStack:
    """Carry a change set out and wait for it, an event a line; the stack as it is then."""
    seen = set(_events(cloudformation, change_set.stack_id))
    cloudformation.execute_change_set(ChangeSetName=change_set.id)
    return _wait(cloudformation, change_set.stack_id, seen, _DONE, say)


def delete(cloudformation: Client, stack: AccountStack, say: Say) -> None:
    """Delete a stack and wait for it, an event a line. What its template retains stays."""
    seen = set(_events(cloudformation, stack.id))
    cloudformation.delete_stack(StackName=stack.id)
    _wait(cloudformation, stack.id, seen, frozenset({"DELETE_COMPLETE"}), say)


def _events(cloudformation: Client, stack_id: str) -> dict[str, Any]:
    """Events by id, oldest first."""
    found = list(pages(cloudformation, "describe_stack_events", "StackEvents", StackName=stack_id))
    return {event["EventId"]: event for event in reversed(found)}


def _wait(cloudformation: Client, stack_id: str, seen: set[str], good: frozenset[str], say: Say) -> AccountStack:
    began = said = time.monotonic()
    failed = list[str]()

    def ended() -> AccountStack | None:
        nonlocal said
        stack = find(cloudformation, stack_id)
        if stack is None:  # ids are known after the end of a stack, but not of one that was only a change set
            return AccountStack(stack_id, "DELETE_COMPLETE", "", {}, {})
        for name, event in _events(cloudformation, stack_id).items():
            if name in seen:
                continue
            seen.add(name)
            said = time.monotonic()
            reason = event.get("ResourceStatusReason", "")
            say(f"{event['ResourceStatus']:<20} {event['LogicalResourceId']}")
            if event["ResourceStatus"].endswith("_FAILED") and _CANCELLED not in reason:
                failed.append(f"{event['LogicalResourceId']}: {reason}")
        if time.monotonic() - said > SILENCE_S:
            said = time.monotonic()
            say(f"{stack.status}, for {said - began:.0f} s")
        return None if stack.status.endswith("_IN_PROGRESS") else stack

    stack = wait_until(ended, LIMIT_S, growing(FIRST_POLL_S, 2, MOST_POLL_S))
    if stack is None:
        raise StageFailed(f"the stack {NAME} has not ended its change after {LIMIT_S / 60:.0f} minutes",
                          hint="its events are in the console; run again when it has ended")
    if stack.status not in good:
        raise _failure(failed[0] if failed else f"the stack ended in {stack.status}")
    return stack


def _failure(reason: str) -> GoldenError:
    """The error that CloudFormation's words stand for: a right that is missing, a name that is taken, or another."""
    message = f"CloudFormation could not change the stack {NAME}: {reason.rstrip('.')}"
    if any(text in reason for text in _RIGHTS):
        return HostNotReady(message, hint="allow it in the IAM policy of these credentials; nothing is half made, "
                                          "then run again")
    if any(text in reason for text in _NAMES):
        return StageFailed(message, hint="remove what has that name, or the stack that made it; then run again")
    return StageFailed(message, hint="correct what it names; then run again")
