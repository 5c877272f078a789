"""A command as root on an instance, by Systems Manager's Run Command: its agent asks, so no port is
open."""

from __future__ import annotations

from typing import Any

from goldenami.aws.calls import wait_for
from goldenami.aws.session import Account, translated
from goldenami.core.errors import Unreachable
from goldenami.core.wait import growing

DOCUMENT = "AWS-RunShellScript"
FETCH_S, RUN_S, LIMIT_S = 30, 120, 180
"""Seconds that its agent has to fetch a command (30 is the least that SendCommand takes), that the
command may take, and that are waited for the answer.
"""
OUTPUT = 24_000
"""Characters of the output that are kept
(https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetCommandInvocation.html)."""
_UNFINISHED = ("Pending", "InProgress", "Delayed", "Cancelling")
_AGENT = "SSM Agent has to run there, with AmazonSSMManagedInstanceCore in its instance profile; else --inside ssh"


def as_root(account: Account, region: str, instance: str, command: str) -> str:
    """What a shell of the instance printed. Unreachable where no agent answers in time or the
    command fails."""
    client = account.ssm(region)
    with translated(region):
        sent = _send(client, instance, command)
        said = wait_for(lambda: _ended(client, sent, instance), limit_s=LIMIT_S,
                        pauses=growing(0.3, 1.5, 3))
    if said is None:
        raise Unreachable(f"could not look: no agent on {instance} took command {sent} in "
                          f"{LIMIT_S} s", hint=_AGENT)
    if said["Status"] != "Success":
        raise Unreachable(f"could not look: command {sent} on {instance} ended as "
                          f"{said['StatusDetails']}",
                          tail=said["StandardErrorContent"], hint="run again, or use --inside ssh")
    if len(said["StandardOutputContent"]) >= OUTPUT:
        raise Unreachable(f"could not look: Run Command keeps {OUTPUT:,} characters, and the "
                          "answer is longer",
                          hint="use --inside ssh")
    return str(said["StandardOutputContent"])


def _send(client: Any, instance: str, command: str) -> str:
    try:
        answer = client.send_command(InstanceIds=[instance], DocumentName=DOCUMENT,
                                     TimeoutSeconds=FETCH_S, Parameters={
                                         "commands": [command], "executionTimeout": [str(RUN_S)]})
    except client.exceptions.InvalidInstanceId:
        raise Unreachable(
            f"could not look: Systems Manager knows no agent on {instance}", hint=_AGENT
        ) from None
    return str(answer["Command"]["CommandId"])


def _ended(client: Any, command: str, instance: str) -> dict[str, Any] | None:
    """The invocation when it is over; the first looks may come before there is one."""
    try:
        said: dict[str, Any] = client.get_command_invocation(CommandId=command, InstanceId=instance)
    except client.exceptions.InvocationDoesNotExist:
        return None
    return None if said["Status"] in _UNFINISHED else said
