"""Authentication and authorization of calls, and refusals in each service's protocol."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import botocore.session
from moto.core.exceptions import ServiceException
from moto.core.model import OperationModel, ServiceModel
from moto.core.request import Request, determine_request_protocol
from moto.core.responses import BaseResponse
from moto.core.serialize import get_serializer_class
from moto.core.utils import get_service_model
from werkzeug import Response

from ec2_emulator import iam
from ec2_emulator.rules import ApiError
from ec2_emulator.state import MY_ACCOUNT, ApiCall, EmulatorState

Environ = dict[str, Any]

_QUERY = frozenset({"autoscaling", "cloudformation", "iam", "s3", "sns", "sts"})
"""Services that refuse with AccessDenied; those that speak JSON, as CloudWatch does by now, with
AccessDeniedException."""
_SIGNED_AS = {"monitoring": "cloudwatch", "servicequotas": "service-quotas"}
"""Signing names that differ from the names of models
(https://docs.aws.amazon.com/general/latest/gr/cw_region.html)."""
_SCOPE = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")


@functools.cache
def regions() -> frozenset[str]:
    """Every region that EC2 has, by botocore's table."""
    session = botocore.session.get_session()
    return frozenset(
        region
        for partition in session.get_available_partitions()
        for region in session.get_available_regions("ec2", partition)
    )


def identify(environ: Environ, body: bytes) -> ApiCall | None:
    """Return the call that a request makes, or None if it is not signed."""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if scope is None:
        return None
    key, region, signed_for = scope.groups()
    service = _SIGNED_AS.get(signed_for, signed_for)
    call = ApiCall(service, _action(environ, body, service), region, key)
    return replace(call, actions=iam.actions(call.name, body))


def _action(environ: Environ, body: bytes, service: str) -> str:
    # A service's protocol decides where the action is: JSON in a header, Query in the form or the
    # query string, REST in the method and the path.
    if target := environ.get("HTTP_X_AMZ_TARGET"):
        return str(target).rpartition(".")[2]
    query = environ.get("QUERY_STRING", "").encode()
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        query += b"&" + body
    if match := re.search(rb"(?:^|&)Action=(\w+)", query):
        return match[1].decode()
    handler = BaseResponse(service_name=service)
    return handler._get_action_from_method_and_request_uri(Request(environ.copy())) or "Unknown"


def authorize(state: EmulatorState, call: ApiCall) -> None:
    """Raise AWS's refusal if the region is not enabled or the caller lacks a right."""
    settings = state.settings
    if call.region not in regions() or call.region in settings.disabled_regions:
        raise _not_enabled(call.service)
    for action in call.actions:
        demand(state, call, action)


def demand(state: EmulatorState, call: ApiCall, action: str) -> None:
    """Raise AWS's refusal if the caller may not do `action`."""
    if decision(state, call, action) != "allowed":
        raise _denied(call, action, state.settings.accounts.get(call.key, MY_ACCOUNT))


def decision(state: EmulatorState, call: ApiCall, action: str) -> str:
    """Return IAM's word for whether the caller may do `action`."""
    settings = state.settings
    # A denial outweighs a permission, as in IAM.
    if matches(action, (*settings.denied.get("*", ()), *settings.denied.get(call.key, ()))):
        return "explicitDeny"
    allowed = settings.allowed.get(call.key, settings.allowed.get("*", ("*",)))
    return "allowed" if matches(action, allowed) else "implicitDeny"


def matches(action: str, patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns, such as `ec2:Describe*`, matches the action."""
    return any(fnmatchcase(action, pattern) for pattern in patterns)


def _not_enabled(service: str) -> ApiError:
    """Return the refusal of a region that is not enabled: it knows no credentials
    (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and
    https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html)."""
    if service == "ec2":
        return ApiError(
            "AuthFailure", "AWS was not able to validate the provided access credentials", 401
        )
    message = "The security token included in the request is invalid."
    if service == "s3":
        return ApiError("InvalidAccessKeyId", message, 403)
    if service in _QUERY:
        return ApiError("InvalidClientTokenId", message, 403)
    return ApiError("UnrecognizedClientException", message)


def _denied(call: ApiCall, action: str, account: str) -> ApiError:
    """Return the refusal of a caller without the right
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html)."""
    caller = f"User: arn:aws:iam::{account}:user/golden is not authorized to perform: {action}"
    reason = f"because no identity-based policy allows the {action} action"
    if call.service == "ec2":
        return ApiError(
            "UnauthorizedOperation",
            f"You are not authorized to perform this operation. {caller} {reason}",
            403,
        )
    if call.service == "sns":
        return ApiError("AuthorizationError", f"{caller} {reason}", 403)
    code = "AccessDenied" if call.service in _QUERY else "AccessDeniedException"
    return ApiError(code, f"{caller} {reason}", 403 if code == "AccessDenied" else 400)


def render(result: object, call: ApiCall, environ: Environ) -> Response:
    """Return a refusal or a call's answer in the protocol that the service speaks."""
    model: ServiceModel = get_service_model(call.service)
    protocol = determine_request_protocol(model, environ.get("CONTENT_TYPE", ""))
    is_refusal = isinstance(result, ServiceException)
    operation = OperationModel({}, model) if is_refusal else model.operation_model(call.action)
    answer = get_serializer_class(call.service, protocol)(operation).serialize(result)
    status = getattr(result, "status", None) or answer["status_code"]
    return Response(answer["body"], status, answer["headers"])
