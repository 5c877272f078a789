"""The rules of `goldenami.aws.contract`, and the errors that refuse calls. A function with `@rule`
keeps the row of its name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

from goldenami.aws.contract import CONTRACT
from moto.core.exceptions import ServiceException

from ec2_emulator.state import STATE

KEPT: set[str] = set()
"""Rules that the emulator keeps; the others are assumptions."""

SEEDS: dict[str, Callable[..., Any]] = {}
"""What answers instead of a rule that is not kept: it gets the rule's function and arguments. A
rule that is not here then refuses nothing."""

F = TypeVar("F", bound=Callable[..., Any])


def rule(function: F) -> F:
    """Mark a function that keeps the rule of its name, unless that is in the setting `broken`."""
    name = function.__name__
    if name not in CONTRACT:
        raise LookupError(f"contract.yml has no row for {name}: add one")
    KEPT.add(name)

    @functools.wraps(function)
    def kept(*args: Any, **kwargs: Any) -> Any:
        if name not in STATE.settings.broken:
            return function(*args, **kwargs)
        seed = SEEDS.get(name)
        return seed(function, *args, **kwargs) if seed else None

    return cast("F", kept)


class ApiError(ServiceException):
    """An error with a code and a message. `status` is the HTTP status if it is not 400 and no model
    of the service says so."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


def invalid_parameter(message: str) -> ApiError:
    """Return EC2's refusal of a parameter's value."""
    return ApiError("InvalidParameterValue", message)
