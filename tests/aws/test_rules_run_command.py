"""The emulator's rules of Run Command: each shown to be kept, and not by moto alone."""

from __future__ import annotations

from typing import Any

from support.aws.emulator_probe import ProbeAccount, probe, refused
from support.waiting import until

INSTANCE, DOCUMENT = "i-0123456789abcdef0", "AWS-RunShellScript"


def send(account: ProbeAccount, command: str) -> str:
    answer = account.ssm.send_command(InstanceIds=[INSTANCE], DocumentName=DOCUMENT, Parameters={"commands": [command]})
    return str(answer["Command"]["CommandId"])


def ended(account: ProbeAccount, command: str) -> Any:
    def said() -> Any:
        answer = account.ssm.get_command_invocation(CommandId=command, InstanceId=INSTANCE)
        return answer if answer["Status"] != "InProgress" else None

    return until("the end of the command", said)


@probe("agent")
def test_without_an_agent_nothing_is_sent(account: ProbeAccount) -> None:
    refused("InvalidInstanceId", account.ssm.send_command, InstanceIds=[INSTANCE], DocumentName=DOCUMENT,
            Parameters={"commands": ["true"]})


@probe("kept")
def test_what_a_command_printed_is_kept_in_part(account: ProbeAccount) -> None:
    account.set(agents={INSTANCE: ["sh", "-c"]})
    said = ended(account, send(account, "head -c 30000 /dev/zero | tr '\\0' x; head -c 9000 /dev/zero >&2; exit 3"))
    assert (said["Status"], said["ResponseCode"]) == ("Failed", 3)
    assert said["StandardOutputContent"] == "x" * 24_000
    assert len(said["StandardErrorContent"]) == 8_000


@probe("invocation")
def test_an_invocation_appears_later(account: ProbeAccount) -> None:
    account.set(agents={INSTANCE: ["sh", "-c"]}, pending_s=3600)
    command = send(account, "true")
    refused("InvocationDoesNotExist", account.ssm.get_command_invocation, CommandId=command, InstanceId=INSTANCE)
