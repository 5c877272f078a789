"""Answers that moto does not give: those that a test states for what no command makes, such as
fleets and bills, and the first answer again if a client token is used twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from moto.ec2.models import ec2_backends
from werkzeug import Response

from ec2_emulator import authorization, listing
from ec2_emulator.rules import ApiError, rule
from ec2_emulator.state import STATE, ApiCall, StatedAnswer

Data = dict[str, Any]
_TOKENS = {"ce": "NextPageToken", "savingsplans": "nextToken"}
"""Names of the page token by service, if it is not NextToken."""


NOTHING = (
    StatedAnswer(call="ce:GetCostAndUsage", answer={"ResultsByTime": []}),
    StatedAnswer(call="ce:GetAnomalies", answer={"Anomalies": []}),
    StatedAnswer(call="ce:GetSavingsPlansPurchaseRecommendation", answer={}),
    StatedAnswer(call="savingsplans:DescribeSavingsPlans", answer={"savingsPlans": []}),
    StatedAnswer(call="ec2:DescribeReservedInstances", answer={"ReservedInstances": []}),
    StatedAnswer(
        call="ec2:GetImageBlockPublicAccessState",
        answer={"ImageBlockPublicAccessState": "block-new-sharing"},
    ),
    StatedAnswer(call="ec2:GetSnapshotBlockPublicAccessState", answer={"State": "unblocked"}),
    StatedAnswer(call="ec2:GetAllowedImagesSettings", answer={"State": "disabled"}),
    StatedAnswer(call="ec2:GetInstanceMetadataDefaults", answer={"AccountLevel": {}}),
    StatedAnswer(
        call="ec2:DescribeVpcBlockPublicAccessOptions",
        answer={"VpcBlockPublicAccessOptions": {"InternetGatewayBlockMode": "off"}},
    ),
    StatedAnswer(
        call="ec2:DescribeVpcBlockPublicAccessExclusions",
        answer={"VpcBlockPublicAccessExclusions": []},
    ),
    StatedAnswer(call="service-quotas:GetServiceQuota", answer={"Quota": {"Value": 64.0}}),
    StatedAnswer(
        call="organizations:DescribeEffectivePolicy",
        answer={"EffectivePolicy": {"PolicyContent": '{"tags": {}}'}},
    ),
)
"""Answers to an account without bills, savings plans and reservations, with settings as AWS gives
them to a new account, and with quotas of 64."""


@rule
def simulate_principal_policy(call: ApiCall, body: bytes) -> Data:
    """IAM's simulator decides on each action as a call of it would be decided on."""
    request = fields(body)
    resources = [request[key] for key in request if key.startswith("ResourceArns.")] or ["*"]
    results = [
        {
            "EvalActionName": request[key],
            "EvalResourceName": resource,
            "EvalDecision": authorization.decision(STATE, call, request[key]),
        }
        for key in request
        if key.startswith("ActionNames.")
        for resource in resources
    ]
    return {"EvaluationResults": results, "IsTruncated": False}


def fields(body: bytes) -> Data:
    """Return the fields of a request, which is JSON or a form."""
    if body.startswith(b"{"):
        json_fields: Data = json.loads(body)
        return json_fields
    return dict(parse_qsl(body.decode("latin-1")))


@rule
def stated(call: ApiCall, body: bytes) -> Mapping[str, Any] | None:
    """Return the stated answer to the request, or None if there is none. Cost Explorer may refuse
    instead: it says that it has no data."""
    if call.name == "iam:SimulatePrincipalPolicy":
        return simulate_principal_policy(call, body)
    candidates = [
        candidate
        for candidate in (*NOTHING, *STATE.settings.answers)
        if candidate.call == call.name and candidate.region in ("*", call.region)
    ]
    request = fields(body) if candidates else {}
    matching_answers = [
        candidate.answer for candidate in candidates if candidate.asked.items() <= request.items()
    ]
    if not matching_answers:
        if call.service == "ce":
            raise ApiError("DataUnavailableException", "The requested data is unavailable")
        return None
    merged: Data = {}
    for answer in matching_answers:
        for name, value in answer.items():
            earlier_items = merged.get(name, [])
            merged[name] = [*earlier_items, *value] if isinstance(value, list) else value
    token = _TOKENS.get(call.service, "NextToken")
    # A copy of the items: the loop adds the token.
    for name, value in list(merged.items()):
        if isinstance(value, list):
            limit = int(request.get("MaxResults") or 1000)
            merged[name], merged[token] = listing.paginate(value, limit, request.get(token))
    return {name: value for name, value in merged.items() if value is not None}


def without_nulls(answer: Response) -> Response:
    """Return an answer in JSON without the nulls that moto has for what AWS leaves out."""
    if b"null" in answer.get_data():
        fields = json.loads(
            answer.get_data(),
            object_hook=lambda found: {k: v for k, v in found.items() if v is not None},
        )
        answer.set_data(json.dumps(fields))
    return answer


IDEMPOTENT = {
    "ebs:StartSnapshot": "ConflictException",
    **dict.fromkeys(
        ("ec2:CopyImage", "ec2:RunInstances", "ec2:CreateLaunchTemplateVersion"),
        "IdempotentParameterMismatch",
    ),
}
"""Calls that a ClientToken makes idempotent, with the error code if another request has the same
token (EBS: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-direct-api-idempotency.html)."""


def _with_present_status(call: ApiCall, answer: Response) -> Response:
    """Return the first answer of StartSnapshot with the snapshot's present status."""
    body = json.loads(answer.get_data())
    for account in ec2_backends:
        snapshots = ec2_backends[account][call.region].snapshots
        if body["SnapshotId"] in snapshots:
            body["Status"] = snapshots[body["SnapshotId"]].status
    return Response(json.dumps(body), answer.status, content_type=answer.content_type)


@rule
def same_token_same_answer(call: ApiCall, body: bytes, make: Callable[[], Response]) -> Response:
    """The same ClientToken gets the first answer again; with another request it is refused."""
    request = fields(body) if call.name in IDEMPOTENT else {}
    token = request.pop("ClientToken", "")
    if not token:
        return make()
    key = (call.name, call.region, call.key, token)
    if key not in STATE.tokens:
        answer = make()
        # A refused request does not use up its token.
        if answer.status_code < 300:
            STATE.tokens[key] = (request, answer)
        return answer
    first_request, answer = STATE.tokens[key]
    if first_request != request:
        raise ApiError(IDEMPOTENT[call.name], f"the token {token} belongs to another request")
    return _with_present_status(call, answer) if call.service == "ebs" else answer
