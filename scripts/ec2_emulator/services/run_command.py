"""Run Command: what is sent is run, by what a test names as an instance's agent; moto runs nothing
and says Success."""

from __future__ import annotations

import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.core.responses import ActionResult
from moto.ssm.responses import SimpleSystemManagerResponse

from ec2_emulator.errors import ApiError
from ec2_emulator.rules import SSM_API, rule
from ec2_emulator.state import STATE

OUTPUT, ERROR = 24_000, 8_000


@dataclass
class Invocation:
    """A command on one instance. `ended` is what came of it, when it has."""

    argv: tuple[str, ...]
    limit_s: float
    since: float = field(default_factory=time.monotonic)
    ended: dict[str, Any] | None = None

    def run(self) -> None:
        """Have the agent run it, in a thread of its own."""
        try:
            ran = subprocess.run(self.argv, capture_output=True, text=True, check=False,
                                 timeout=self.limit_s)
        except subprocess.TimeoutExpired:
            self.ended = {"Status": "TimedOut", "StatusDetails": "Execution Timed Out",
                          "ResponseCode": -1}
            return
        said = "Success" if ran.returncode == 0 else "Failed"
        self.ended = {"Status": said, "StatusDetails": said, "ResponseCode": ran.returncode,
                      **kept(ran.stdout, ran.stderr)}


@rule(SSM_API + "API_SendCommand.html")
def agent(instance: str) -> tuple[str, ...]:
    """A command is refused for an instance on which no SSM Agent runs."""
    if instance not in STATE.settings.agents:
        raise ApiError("InvalidInstanceId",
                       f"Instances [[{instance}]] not in a valid state for account")
    return STATE.settings.agents[instance]


@rule(SSM_API + "API_GetCommandInvocation.html")
def kept(output: str, error: str) -> dict[str, str]:
    """The invocation keeps the first 24,000 characters of what a command printed, and 8,000 of its
    errors."""
    return {"StandardOutputContent": output[:OUTPUT], "StandardErrorContent": error[:ERROR]}


@rule(SSM_API + "API_GetCommandInvocation.html")
def invocation(
    invocations: Mapping[tuple[str, str], Invocation], command: str, instance: str
) -> Invocation:
    """There is an invocation only some time after SendCommand has answered."""
    found = invocations.get((command, instance))
    if found is None or not STATE.is_over(found.since, lambda at: at.pending_s):
        raise ApiError("InvocationDoesNotExist", "")
    return found


class RunCommandApi(SimpleSystemManagerResponse):
    """The handlers."""

    def send_command(self) -> ActionResult:
        """Run a shell's commands on instances."""
        parameters = self._get_param("Parameters", {})
        instances = self._get_param("InstanceIds", [])
        if self._get_param("DocumentName") != "AWS-RunShellScript":
            raise ApiError("InvalidDocument", "the emulator has no document but AWS-RunShellScript")
        limit_s = float(parameters.get("executionTimeout", ["3600"])[0])
        made = {each: Invocation((*agent(each), "\n".join(parameters["commands"])), limit_s)
                for each in instances}
        name = str(uuid.uuid4())
        for instance, each in made.items():
            STATE.invocations[name, instance] = each
            threading.Thread(target=each.run, daemon=True).start()
        return ActionResult({"Command": {"CommandId": name, "InstanceIds": instances,
                                         "Status": "Pending"}})

    def get_command_invocation(self) -> ActionResult:
        """Where a command is, and what it printed."""
        command, instance = self._get_param("CommandId"), self._get_param("InstanceId")
        ended = invocation(STATE.invocations, command, instance).ended
        return ActionResult({"CommandId": command, "InstanceId": instance,
                             "StandardOutputContent": "",
                             "StandardErrorContent": "",
                             **(ended
                                or {"Status": "InProgress", "StatusDetails": "InProgress",
                                    "ResponseCode": -1})})
