"""Registry of the rules that AWS has and moto lacks, and the errors that refuse calls. A rule is a
function; its docstring says what AWS's page demands."""

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
"""Function names to the pages of their rules. tests/aws/emulator/test_rules_tables.py has a refused
call for each rule that refuses."""

F = TypeVar("F", bound=Callable[..., Any])


def rule(page: str) -> Callable[[F], F]:
    """Register the decorated function, whose docstring says what `page` demands."""

    def register(function: F) -> F:
        RULES[function.__name__] = page
        return function

    return register


class ApiError(ServiceException):
    """An error with a code and a message. `status` is the HTTP status if it is not 400 and no model
    of the service says so."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


def invalid_parameter(message: str) -> ApiError:
    """Return EC2's refusal of a parameter's value."""
    return ApiError("InvalidParameterValue", message)
