"""The rules of `goldenami.aws.contract`, and the errors that refuse calls. A function with `@rule`
keeps the row of its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from goldenami.aws.contract import CONTRACT
from moto.core.exceptions import ServiceException

KEPT: set[str] = set()
"""Rules that the emulator keeps; the others are assumptions."""

F = TypeVar("F", bound=Callable[..., Any])


def rule(function: F) -> F:
    """Mark a function that keeps the rule of its name."""
    if function.__name__ not in CONTRACT:
        raise LookupError(f"contract.yml has no row for {function.__name__}: add one")
    KEPT.add(function.__name__)
    return function


class ApiError(ServiceException):
    """An error with a code and a message. `status` is the HTTP status if it is not 400 and no model
    of the service says so."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


def invalid_parameter(message: str) -> ApiError:
    """Return EC2's refusal of a parameter's value."""
    return ApiError("InvalidParameterValue", message)
