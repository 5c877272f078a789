"""Puts the strict handlers in the place of moto's."""

from __future__ import annotations


def install() -> None:
    """Replace moto's handlers, in this process."""
