"""The rules that AWS has and moto lacks: each a function with the page that demands it, whose
docstring says what; and how a call is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from moto.core.exceptions import ServiceException

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


class ApiError(ServiceException):
    """An error with code and message; `status` where AWS answers another one than 400 and no model
    says so."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


def invalid_parameter(message: str) -> ApiError:
    """EC2's refusal of a parameter."""
    return ApiError("InvalidParameterValue", message)
