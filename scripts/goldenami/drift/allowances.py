"""What an image's definition lets differ on its instances, until a day."""

from __future__ import annotations

import re
from datetime import date

from goldenami.core.errors import BadInput
from goldenami.drift.disk_check import Allowed
from goldenami.drift.policy import expression
from goldenami.model.definition import Definition


def allowed(definition: Definition, today: date) -> Allowed:
    """Why a path may differ, by the definition; BadInput where a date in it is past: somebody has to look again."""
    for index, row in enumerate(definition.drift.allow):
        if row.until < today:
            raise BadInput(f"packer/images/{definition.image}.yml: drift.allow.{index}.until: {row.path} was allowed "
                           f"to differ until {row.until}", hint="bake it into the image, or state a later date and why")
    rows = [(re.compile(expression(row.path), re.DOTALL), row) for row in definition.drift.allow]

    def reason(path: str) -> str:
        return next((f"{row.path}: {row.reason}, until {row.until}" for pattern, row in rows
                     if pattern.fullmatch(path)), "")

    return reason
