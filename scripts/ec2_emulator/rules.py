"""The rules that AWS has and moto lacks: each a function with the page that demands it; its
docstring says what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

EC2_API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/"
EC2_GUIDE = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/"
EBS_API = "https://docs.aws.amazon.com/ebs/latest/APIReference/"
EBS_GUIDE = "https://docs.aws.amazon.com/ebs/latest/userguide/"
SSM_GUIDE = "https://docs.aws.amazon.com/systems-manager/latest/userguide/"
ASG_API = "https://docs.aws.amazon.com/autoscaling/ec2/APIReference/"
ASG_GUIDE = "https://docs.aws.amazon.com/autoscaling/ec2/userguide/"


RULES: dict[str, str] = {}
"""The page of every rule; tests/aws/test_rules_tables.py has a call for each that refuses one."""

F = TypeVar("F", bound=Callable[..., Any])


def rule(page: str) -> Callable[[F], F]:
    """Register the decorated function, whose docstring says what `page` demands."""
    def register(function: F) -> F:
        RULES[function.__name__] = page
        return function
    return register
