"""What we take AWS to do, row by row in contract.yml, and the errors that refuse calls. A function
with `@rule` keeps the row of its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from moto.core.exceptions import ServiceException


@dataclass(frozen=True)
class Row:
    """The page that says so, the place that relies on it, and the step that shows it."""

    page: str
    place: str
    step: str


CONTRACT = {
    name: Row(f"https://docs.aws.amazon.com/{page}" if page else "", place, step)
    for step, rows in yaml.safe_load(Path(__file__).with_name("contract.yml").read_text()).items()
    for name, (page, place) in rows.items()
}
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
