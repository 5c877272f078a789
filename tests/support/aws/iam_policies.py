"""Whether IAM allows a request: identity policies, a boundary, explicit denials, wildcards and
conditions.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
and .../reference_policies_elements_condition_operators.html.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cfnlint

Policy = Mapping[str, Any]
_VARIABLE = re.compile(r"\$\{([^}]+)\}")

REFERENCE: Mapping[str, Any] = json.loads(
    (Path(cfnlint.__file__).parent / "data/AdditionalSpecs/Policies.json").read_text(
        encoding="utf-8"
    )
)
"""AWS's Service Authorization Reference, as cfn-lint has it: actions with their kinds of resources,
these with keys."""


def kinds_of(action: str) -> list[str]:
    """The kinds of resources that IAM can narrow an action to; none where it is for `*` alone."""
    service, _, name = action.partition(":")
    found = REFERENCE[service]["Actions"].get(name.lower())
    assert found is not None, f"{action} is no action"
    return list(found.get("Resources", []))


@dataclass(frozen=True)
class Asked:
    """One of the questions that a call puts to IAM: an action, one resource, and what the request
    says beside."""

    action: str
    resource: str = "*"
    context: Mapping[str, Any] = field(default_factory=dict)


def listed(value: Any) -> list[Any]:
    """An element of a policy, which may be one value or a list."""
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


@functools.cache
def _pattern(text: str, *, fold: bool) -> re.Pattern[str]:
    """IAM knows `*` and `?`; brackets are themselves, unlike in a shell's pattern."""
    parts = [{"*": ".*", "?": "."}.get(part, re.escape(part)) for part in re.split(r"([*?])", text)]
    return re.compile("".join(parts), re.DOTALL | (re.IGNORECASE if fold else 0))


def _like(value: str, patterns: Iterable[str], *, fold: bool = False) -> bool:
    return any(_pattern(pattern, fold=fold).fullmatch(value) for pattern in patterns)


def _filled(text: str, have: Mapping[str, Any]) -> str:
    """A resource or a condition's value with its policy variables; empty, which matches nothing,
    where the request lacks one.

    Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
    """
    names = {name.lower() for name in _VARIABLE.findall(text)}
    if names - have.keys():
        return ""
    return _VARIABLE.sub(lambda match: str(have[match[1].lower()]), text)


def holds(operator: str, key: str, wanted: Any, context: Mapping[str, Any]) -> bool:
    """One condition. A key that the request has not makes it false, a negated one or ForAllValues
    true.

    AssertionError for an operator that nothing here uses.
    """
    have = {name.lower(): value for name, value in context.items()}
    present, values = key.lower() in have, [str(each) for each in listed(have.get(key.lower(), []))]
    patterns = [text for each in listed(wanted) if (text := _filled(str(each), have))]
    quantifier, _, plain = operator.rpartition(":")
    if plain == "Null":
        return present is (patterns == ["false"])
    negated = "Not" in plain
    assert plain.replace("Not", "") in (
        "StringEquals",
        "StringLike",
        "ArnLike",
        "ArnEquals",
        "Bool",
    ), operator
    exact = plain in ("StringEquals", "StringNotEquals")
    matches = [
        value in patterns if exact else _like(value, patterns, fold=plain == "Bool")
        for value in values
    ]
    if quantifier == "ForAllValues":
        return all(match is not negated for match in matches)
    if quantifier == "ForAnyValue":
        return any(match is not negated for match in matches)
    assert quantifier == "", operator
    return not any(matches) if negated else any(matches)


def applies(statement: Mapping[str, Any], asked: Asked) -> bool:
    """Whether a statement is about what is asked."""
    assert not {"NotAction", "NotResource"} & statement.keys(), "nothing here uses these"
    have = {name.lower(): value for name, value in asked.context.items()}
    resources = [_filled(resource, have) for resource in listed(statement["Resource"])]
    return (
        _like(asked.action, listed(statement["Action"]), fold=True)
        and _like(asked.resource, resources)
        and all(
            holds(operator, key, wanted, asked.context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def about(policy: Policy, action: str) -> Policy:
    """What of a policy is about an action."""
    return {
        "Statement": [
            each for each in policy["Statement"] if _like(action, listed(each["Action"]), fold=True)
        ]
    }


def _effects(policies: Iterable[Policy], asked: Asked) -> set[str]:
    statements = (statement for policy in policies for statement in policy["Statement"])
    return {statement["Effect"] for statement in statements if applies(statement, asked)}


def allows(policies: Sequence[Policy], boundary: Policy | None, asked: Asked) -> bool:
    """Whether a role of these policies within that boundary may do it."""
    limits = [[boundary]] if boundary else []
    return all(_effects(each, asked) == {"Allow"} for each in [policies, *limits])
