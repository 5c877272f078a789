"""Answers that are stated, not made: of calls that read what no command makes, such as fleets and
bills."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from ec2_emulator import listing
from ec2_emulator.errors import ApiError
from ec2_emulator.state import STATE, ApiCall, StatedAnswer

Data = dict[str, Any]
_TOKENS = {"ce": "NextPageToken", "savingsplans": "nextToken"}
"""What the token of a page is called, where it is not NextToken."""


NOTHING = (
    StatedAnswer(call="ce:GetCostAndUsage", answer={"ResultsByTime": []}),
    StatedAnswer(call="savingsplans:DescribeSavingsPlans", answer={"savingsPlans": []}),
    StatedAnswer(call="ec2:DescribeReservedInstances", answer={"ReservedInstances": []}))
"""Answers to an account that bought and commits to nothing."""


def fields(body: bytes) -> Data:
    """The fields of a request: JSON's, or those of a form."""
    if body.startswith(b"{"):
        found: Data = json.loads(body)
        return found
    return dict(parse_qsl(body.decode("latin-1")))


def find(call: ApiCall, body: bytes) -> Mapping[str, Any] | None:
    """What is stated for the request; None where nothing is. Cost Explorer says that it has no
    data."""
    known = [each for each in (*NOTHING, *STATE.settings.answers)
             if each.call == call.name and each.region in ("*", call.region)]
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
