"""The rules of the repository's shape, as functions from a tree to the list of its violations.

`tests/unit/test_layout.py` holds this checkout to them, and feeds each a tree that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.rules import policy_rules, prose_rules, python_rules, requirement_rules, text_rules

RULES: tuple[Callable[[Path], list[str]], ...] = (
    python_rules.basenames, python_rules.folders, python_rules.weights, python_rules.sizes,
    python_rules.widths, text_rules.sizes, text_rules.variables, text_rules.make_targets,
    text_rules.module_map, requirement_rules.pins, policy_rules.template, prose_rules.sentences,
    prose_rules.page_sizes, prose_rules.links,
)
"""The rules that need nothing but the tree."""
