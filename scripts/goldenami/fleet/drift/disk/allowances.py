"""What an image's definition lets differ on its instances, until a day."""

from __future__ import annotations

import re
from datetime import date

from goldenami.core.errors import BadInput
from goldenami.fleet.drift.disk.disk_check import Allowed
from goldenami.fleet.drift.disk.policy import expression
from goldenami.fleet.drift.inside.running_check import AllowedPort
from goldenami.model.definitions.definition import Definition


def allowed(definition: Definition, today: date) -> Allowed:
    """Why a path may differ, by the definition; BadInput where a date in it is past: somebody has
    to look again."""
    for index, row in enumerate(definition.drift.allow, 1):
        _demand_future(definition, f"allow.{index}", f"{row.path} was allowed to differ", row.until,
                       today)
    rows = [(re.compile(expression(row.path), re.DOTALL), row) for row in definition.drift.allow]

    def reason(path: str) -> str:
        return next((f"{row.path}: {row.reason}, until {row.until}" for pattern, row in rows
                     if pattern.fullmatch(path)), "")

    return reason


def allowed_ports(definition: Definition, today: date) -> AllowedPort:
    """Why a port may be heard, by the definition; BadInput as `allowed`."""
    for index, row in enumerate(definition.drift.listen, 1):
        _demand_future(definition, f"listen.{index}", f"{row.port} was allowed to be heard",
                       row.until, today)
    reasons = {row.port: row.reason for row in definition.drift.listen}
    return lambda port: reasons.get(port, "")


def _demand_future(definition: Definition, key: str, what: str, until: date, today: date) -> None:
    if until < today:
        raise BadInput(f"packer/images/{definition.image}.yml: drift.{key}.until: {what} until "
                       f"{until}",
                       hint="bake it into the image, or state a later date and why")
