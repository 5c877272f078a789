"""Each role keeps the contract of roles/README.md, and each rule is seen to fail on a role that
breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.model.roles.role_order import ROLE_ORDER
from support.builds.tools import ROOT
from support.files import write
from support.rules import role_rules as rules

Rule = Callable[[Path, str], list[str]]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_roles_keep(rule: Rule) -> None:
    assert "\n".join(line for role in ROLE_ORDER for line in rule(ROOT, role)) == ""


def test_order_has_every_role() -> None:
    assert [role for role in ROLE_ORDER if not (ROOT / "roles" / role).is_dir()] == []
    assert len(ROLE_ORDER) >= 17 and ROLE_ORDER[-1] == "seal"


SPECS = """
argument_specs:
  main:
    options:
      demo_size: {type: int, default: 4, description: Size.}
      demo_kernel: {type: str, description: Kernel.}
"""
GOOD = {
    "roles/demo/defaults/main.yml": "demo_size: 4\n",
    "roles/demo/meta/argument_specs.yml": SPECS,
    "tests/image/demo/test_demo.py": "",
}
DEFAULTS = "roles/demo/defaults/main.yml"
BAD = [
    (rules.specification, DEFAULTS, "demo_size: 5", "demo_size is 5 in defaults, 4 in"),
    (rules.specification, DEFAULTS, "{demo_size: 4, demo_odd: 1}", "demo_odd is 1 in defaults"),
    (rules.specification, DEFAULTS, "{}", "demo_size is 'absent' in defaults, 4 in"),
    (rules.company, "roles/demo/README.md", "", "molecule/demo/molecule.yml is missing"),
]


@pytest.mark.parametrize(("rule", "file", "text", "message"), BAD, ids=[bad[-1] for bad in BAD])
def test_rule_sees(tmp_path: Path, rule: Rule, file: str, text: str, message: str) -> None:
    root = write(tmp_path, {**GOOD, file: text})
    assert any(message in problem for problem in rule(root, "demo")), rule(root, "demo")
