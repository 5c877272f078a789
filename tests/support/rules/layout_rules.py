"""The rules of the repository's shape, as functions from a tree to the list of its violations.

`tests/unit/test_layout.py` holds this checkout to them, and feeds each a tree that breaks it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.rules import policy_rules, prose_rules, python_rules, requirement_rules, text_rules

RULES: tuple[Callable[[Path], list[str]], ...] = (
    python_rules.basenames, python_rules.folders, python_rules.weights, python_rules.processes,
    python_rules.clocks,
    python_rules.process_ids, python_rules.names, python_rules.scans,
    python_rules.class_names, python_rules.sizes, python_rules.widths,
    python_rules.docstrings,
    text_rules.top_level, text_rules.sizes, text_rules.folder_readmes, text_rules.variables,
    text_rules.make_targets,
    text_rules.module_map, text_rules.libraries, text_rules.prose_width, text_rules.local_hooks,
    text_rules.benches, requirement_rules.pins, policy_rules.template,
    prose_rules.sentences, prose_rules.page_sizes, prose_rules.questions, prose_rules.links,
    prose_rules.index,
)
"""The rules that need nothing but the tree."""
