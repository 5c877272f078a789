"""Refusals: an error's code and message as AWS answers them."""

from __future__ import annotations

from moto.core.exceptions import ServiceException


class ApiError(ServiceException):
    """An error with code and message; `status` where AWS answers another one than 400 and no model
    says so."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status


def invalid_parameter(message: str) -> ApiError:
    """EC2's refusal of a parameter."""
    return ApiError("InvalidParameterValue", message)
