"""The rules that AWS has and moto lacks: each a function with the page that demands it; its
docstring says what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

EC2_API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/"
EC2_GUIDE = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/"
EBS_API = "https://docs.aws.amazon.com/ebs/latest/APIReference/"
EBS_GUIDE = "https://docs.aws.amazon.com/ebs/latest/userguide/"
SSM_API = "https://docs.aws.amazon.com/systems-manager/latest/APIReference/"
SSM_GUIDE = "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
ASG_API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/"
ASG_GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide/"


@dataclass(frozen=True)
class AwsRule:
    """One rule: the name of the function that keeps it, its demand in a sentence, the page that
    demands it."""

    name: str
    demand: str
    page: str


RULES: dict[str, AwsRule] = {}
"""Every rule by name; tests/aws/test_rules_tables.py has a call for each that refuses one."""

F = TypeVar("F", bound=Callable[..., Any])


def rule(page: str) -> Callable[[F], F]:
    """Register the decorated function as the rule that `page` demands."""
    def register(function: F) -> F:
        name = function.__name__
        demand = " ".join((function.__doc__ or "").split("\n\n")[0].split())
        assert demand and name not in RULES, name
        RULES[name] = AwsRule(name, demand, page)
        return function
    return register
