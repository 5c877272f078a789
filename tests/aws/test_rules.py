from __future__ import annotations

import ast
from pathlib import Path

import ec2_emulator.server  # noqa: F401 - registers every rule
from ec2_emulator.rules import RULES
from support.rules import trees

HERE = Path(__file__).parent


def _probed() -> set[str]:
    """Rules named by the probes of this folder."""
    return {argument.value for path in trees.scanned(8, HERE, "test_rules_*.py")
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "probe" for argument in node.args if isinstance(argument, ast.Constant)
            and isinstance(argument.value, str)}


def test_each_rule_has_a_probe_and_each_probe_a_rule() -> None:
    assert _probed() == RULES.keys()


def test_each_rule_says_what_and_names_its_page() -> None:
    for rule in RULES.values():
        assert rule.page.startswith("https://docs.aws.amazon.com/"), rule
        assert rule.demand.endswith("."), rule
        assert "\n" not in rule.demand, rule
