"""SSM parameters. Those of data type aws:ec2:image appear only after AWS has looked for their
AMI."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from moto.core.common_types import TYPE_RESPONSE
from moto.core.responses import ActionResult
from moto.ssm.models import ssm_backends
from moto.ssm.responses import SimpleSystemManagerResponse

from ec2_emulator.compute import images
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.state import STATE

PREFIX = "resolve:ssm:"


@dataclass(frozen=True)
class PendingParameter:
    """A version that PutParameter has confirmed and that does not exist yet."""

    account: str
    region: str
    since: float
    parameter: Any


@rule
def settle() -> None:
    """PutParameter of an aws:ec2:image answers at once; the version appears later, and only if the
    AMI is available."""
    with STATE.lock:
        for pending in list(STATE.pending_parameters):
            if STATE.is_over(pending.since, lambda settings: settings.pending_s):
                STATE.pending_parameters.remove(pending)
                backend, value = (
                    ssm_backends[pending.account][pending.region],
                    pending.parameter.value,
                )
                if any(
                    image.id == value and image.state == "available"
                    for image in images.visible(pending.account, pending.region)
                ):
                    backend._parameters[pending.parameter.name].append(pending.parameter)


@rule
def resolve(account: str, region: str, image: str) -> str:
    """`resolve:ssm:NAME`, with or without a version or label, is the AMI that the parameter
    holds."""
    if not image.startswith(PREFIX):
        return image
    settle()
    parameter = ssm_backends[account][region].get_parameter(image.removeprefix(PREFIX))
    if parameter is None or not parameter.value.startswith("ami-"):
        raise ApiError(
            "InvalidParameterValue", f"the parameter of '{image}' does not exist or holds no AMI"
        )
    return str(parameter.value)


class ParameterApi(SimpleSystemManagerResponse):
    """The handlers."""

    def call_action(self) -> TYPE_RESPONSE:
        settle()
        return super().call_action()

    @rule
    def put_parameter(self) -> ActionResult:
        """A parameter never changes its type, and is replaced only with Overwrite.

        A version of data type aws:ec2:image appears later (`settle`).
        """
        name = self._get_param("Name")
        key = (self.current_account, self.region, name)
        pending_versions = [
            pending
            for pending in STATE.pending_parameters
            if (pending.account, pending.region, pending.parameter.name) == key
        ]
        if pending_versions and not self._get_param("Overwrite"):
            raise ApiError(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the "
                "overwrite option in the request to true.",
            )
        existing = self.ssm_backend.get_parameter(name)
        if existing is not None and existing.parameter_type != self._get_param("Type"):
            raise ApiError(
                "HierarchyTypeMismatchException",
                f"{name} is a {existing.parameter_type}, and stays one",
            )
        answer = super().put_parameter()
        if self._get_param("DataType") != "aws:ec2:image":
            return answer
        # moto has stored the version at once: take it back.
        versions = self.ssm_backend._parameters[name]
        new_version = versions.pop()
        # moto counted without the versions that are pending still.
        new_version.version += len(pending_versions)
        if not versions:
            del self.ssm_backend._parameters[name]
        STATE.pending_parameters.append(
            PendingParameter(self.current_account, self.region, time.monotonic(), new_version)
        )
        return ActionResult({"Version": new_version.version, "Tier": new_version.tier})
