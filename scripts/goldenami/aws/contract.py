"""What we take AWS to do, row by row in contract.yml: the emulator keeps these rules, and a first
evening in a real account shows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml


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
"""The rows by rule, in the order of the steps."""
