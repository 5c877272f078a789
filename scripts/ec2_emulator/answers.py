"""Answers that moto does not make: stated ones, of calls that read what no command makes, such as
fleets and bills; and the first one, of a call with a token that was used."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from moto.budgets.responses import BudgetsResponse
from moto.ec2.models import ec2_backends
from werkzeug import Response

from ec2_emulator import listing
from ec2_emulator.rules import EC2_API, ApiError, rule
from ec2_emulator.state import STATE, ApiCall, StatedAnswer

Data = dict[str, Any]
CE_API = "https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/"
_TOKENS = {"ce": "NextPageToken", "savingsplans": "nextToken"}
"""What the token of a page is called, where it is not NextToken."""


NOTHING = (
    StatedAnswer(call="ce:GetCostAndUsage", answer={"ResultsByTime": []}),
    StatedAnswer(call="savingsplans:DescribeSavingsPlans", answer={"savingsPlans": []}),
    StatedAnswer(call="ec2:DescribeReservedInstances", answer={"ReservedInstances": []}),
)
"""Answers to an account that bought and commits to nothing."""


def fields(body: bytes) -> Data:
    """The fields of a request: JSON's, or those of a form."""
    if body.startswith(b"{"):
        found: Data = json.loads(body)
        return found
    return dict(parse_qsl(body.decode("latin-1")))


@rule(CE_API + "API_GetCostAndUsage.html")
def stated(call: ApiCall, body: bytes) -> Mapping[str, Any] | None:
    """What is stated for the request; None where nothing is. Cost Explorer says that it has no
    data."""
    known = [
        each
        for each in (*NOTHING, *STATE.settings.answers)
        if each.call == call.name and each.region in ("*", call.region)
    ]
    asked = fields(body) if known else {}
    fitting = [each.answer for each in known if each.asked.items() <= asked.items()]
    if not fitting:
        if call.service == "ce":
            raise ApiError("DataUnavailableException", "The requested data is unavailable")
        return None
    merged: Data = {}
    for answer in fitting:
        for name, value in answer.items():
            before = merged.get(name, [])
            merged[name] = [*before, *value] if isinstance(value, list) else value
    token = _TOKENS.get(call.service, "NextToken")
    for name, value in list(merged.items()):
        if isinstance(value, list):
            limit = int(asked.get("MaxResults") or 1000)
            merged[name], merged[token] = listing.paginate(value, limit, asked.get(token))
    return {name: value for name, value in merged.items() if value is not None}


@rule(CE_API + "API_budgets_DescribeBudgets.html")
def describe_budgets(self: BudgetsResponse) -> str:
    """The last page has no token."""
    budgets = self.backend.describe_budgets(account_id=self._get_param("AccountId"))
    return json.dumps({"Budgets": budgets})


IDEMPOTENT = {
    "ebs:StartSnapshot": "ConflictException",
    **dict.fromkeys(
        (
            "ec2:CopyImage",
            "ec2:RunInstances",
            "ec2:CreateLaunchTemplate",
            "ec2:CreateLaunchTemplateVersion",
        ),
        "IdempotentParameterMismatch",
    ),
}
"""Calls that a ClientToken makes idempotent, and how another request with it is refused (EBS:
https://docs.aws.amazon.com/ebs/latest/userguide/ebs-direct-api-idempotency.html)."""


def _as_it_is_now(call: ApiCall, answer: Response) -> Response:
    """The answer with the snapshot's state of now."""
    shown = json.loads(answer.get_data())
    for account in ec2_backends:
        known = ec2_backends[account][call.region].snapshots
        if shown["SnapshotId"] in known:
            shown["Status"] = known[shown["SnapshotId"]].status
    return Response(json.dumps(shown), answer.status, content_type=answer.content_type)


@rule(EC2_API + "Run_Instance_Idempotency.html")
def same_token_same_answer(call: ApiCall, body: bytes, make: Callable[[], Response]) -> Response:
    """The same ClientToken gives the first answer again, and a refusal for another request."""
    asked = fields(body) if call.name in IDEMPOTENT else {}
    token = asked.pop("ClientToken", "")
    if not token:
        return make()
    key = (call.name, call.region, call.key, token)
    if key not in STATE.tokens:
        answer = make()
        if answer.status_code < 300:
            STATE.tokens[key] = (asked, answer)
        return answer
    before, answer = STATE.tokens[key]
    if before != asked:
        raise ApiError(IDEMPOTENT[call.name], f"the token {token} belongs to another request")
    return _as_it_is_now(call, answer) if call.service == "ebs" else answer
