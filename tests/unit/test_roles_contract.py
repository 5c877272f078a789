"""Each role keeps the contract of roles/README.md, and each rule is seen to fail on a role that
breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.model.definitions.role_order import ROLE_ORDER
from support.files import write
from support.rules import role_rules as rules

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path, str], list[str]]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_roles_keep(rule: Rule) -> None:
    assert "\n".join(line for role in ROLE_ORDER for line in rule(ROOT, role)) == ""


def test_order_has_every_role() -> None:
    assert "\n".join(rules.order(ROOT, ROLE_ORDER)) == ""
    assert len(ROLE_ORDER) >= 17


# --- each rule has been seen to fail ---------------------------------------------------------------------------------

SPECS = """
argument_specs:
  main:
    options:
      demo_size: {type: int, default: 4, description: Size.}
      demo_kernel: {type: str, description: Kernel.}
"""
TABLE = "| variable | default | meaning |\n| --- | --- | --- |\n"
GOOD = {
    "roles/demo/defaults/main.yml": "demo_size: 4\n",
    "roles/demo/meta/argument_specs.yml": SPECS,
    "roles/demo/tasks/main.yml": "- name: Preflight\n  ansible.builtin.import_tasks: preflight.yml\n",
    "roles/demo/tasks/preflight.yml": """
- name: Ask
  ansible.builtin.command: uname
  register: __demo_kernel
  changed_when: false  # a query
""",
    "roles/demo/vars/Debian_13.yml": "__demo_packages: [a]\n",
    "roles/demo/README.md": f"{TABLE}| `demo_size` | `4` | x |\n| `demo_kernel` | derived | x |\n",
    "molecule/demo/molecule.yml": "",
    "tests/image/demo/test_demo.py": "",
    "ansible/bake.yml": "- roles: [{role: demo}]\n",
}
TASKS, ASK = "roles/demo/tasks/main.yml", "roles/demo/tasks/preflight.yml"
DEFAULTS, README = "roles/demo/defaults/main.yml", "roles/demo/README.md"
BAD: list[tuple[Rule, dict[str, str | None], str]] = [
    (rules.contents, {"roles/demo/tasks/lost.yml": "[]"}, "lost.yml is never included"),
    (rules.specification, {DEFAULTS: "demo_size: 5"}, "demo_size is 5 in defaults, 4 in"),
    (rules.specification, {DEFAULTS: "{demo_size: 4, demo_odd: 1}"},
     "demo_odd is in defaults but not"),
    (rules.specification, {DEFAULTS: "{}"}, "demo_size has a default in argument_specs, not in"),
    (rules.readme, {README: TABLE}, "demo_size is not in README's table"),
    (rules.readme, {README: f"{TABLE}| `demo_size` | `5` | x |"}, "README says 5 of demo_size"),
    (rules.readme, {README: f"{TABLE}| `demo_size` | derived | x |"}, "demo_size, which has a def"),
    (rules.company, {"molecule/demo/molecule.yml": None}, "molecule/demo/molecule.yml is missing"),
    (rules.indexes,
     {ASK: "- name: Install\n  ansible.builtin.apt: {name: '{{ __demo_packages }}'}"},
     "Install: installs packages without cache_valid_time"),
]


def _tree(root: Path, changes: dict[str, str | None] | None = None) -> Path:
    files = {**GOOD, **(changes or {})}
    return write(root, {name: text for name, text in files.items() if text is not None})


def test_rules_accept_what_is_right(tmp_path: Path) -> None:
    assert [line for rule in rules.RULES for line in rule(_tree(tmp_path), "demo")] == []


@pytest.mark.parametrize(("rule", "changes", "message"), BAD, ids=[bad[2] for bad in BAD])
def test_rule_sees(
    tmp_path: Path, rule: Rule, changes: dict[str, str | None], message: str
) -> None:
    found = rule(_tree(tmp_path, changes), "demo")
    assert any(message in problem for problem in found), found


def test_every_rule_has_a_bad_role() -> None:
    assert {bad[0] for bad in BAD} == set(rules.RULES)


def test_order_is_seen(tmp_path: Path) -> None:
    for order, message in ((("demo", "seal"), "role seal has no folder"),
                           (("demo",), "seal is not the last")):
        found = rules.order(_tree(tmp_path), order)
        assert any(message in problem for problem in found), found
