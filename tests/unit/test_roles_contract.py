"""Each role keeps the contract of roles/README.md, and each rule is seen to fail on a role that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.model.definitions.definition import ROLE_ORDER
from support.rules import role_rules as rules

ROOT = Path(__file__).resolve().parents[2]
Rule = Callable[[Path, str], list[str]]


@pytest.mark.parametrize("role", ROLE_ORDER)
@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_role_keeps(rule: Rule, role: str) -> None:
    assert "\n".join(rule(ROOT, role)) == ""


def test_order_has_every_role() -> None:
    assert "\n".join(rules.order(ROOT, ROLE_ORDER)) == ""


# --- each rule has been seen to fail ---------------------------------------------------------------------------------

SPECS = """
argument_specs:
  main:
    options:
      demo_size: {type: int, default: 4, description: Size.}
      demo_kernel: {type: str, required: true, description: Kernel.}
"""
TABLE = "| variable | default | meaning |\n| --- | --- | --- |\n"
GOOD = {
    "roles/demo/defaults/main.yml": "demo_size: 4\n",
    "roles/demo/meta/argument_specs.yml": SPECS,
    "roles/demo/meta/main.yml": "galaxy_info: {license: Apache-2.0}\n",
    "roles/demo/tasks/main.yml": "- name: Preflight\n  ansible.builtin.import_tasks: preflight.yml\n",
    "roles/demo/tasks/preflight.yml": """
- name: Ask
  ansible.builtin.command: uname
  register: __demo_kernel
  changed_when: false  # a query
- name: Change
  block:
    - name: Copy
      ansible.builtin.copy: {src: a, dest: /b, mode: "0644"}
    - name: Make
      ansible.builtin.command: {cmd: make, creates: /x}
""",
    "roles/demo/vars/Debian_12.yml": "__demo_packages: [a]\n",
    "roles/demo/README.md": f"{TABLE}| `demo_size` | `4` | x |\n| `demo_kernel` | derived | x |\n",
    "molecule/demo/molecule.yml": "", "tests/image/demo/test_demo.py": "",
    "ansible/bake.yml": "- roles: [{role: demo}]\n",
}
TASKS, ASK = "roles/demo/tasks/main.yml", "roles/demo/tasks/preflight.yml"
DEFAULTS, README = "roles/demo/defaults/main.yml", "roles/demo/README.md"
BAD: list[tuple[Rule, dict[str, str | None], str]] = [
    (rules.skeleton, {README: None}, "roles/demo/README.md is missing"),
    (rules.skeleton, {"roles/demo/library/x.py": ""}, "roles/demo/library/ is not part of the skeleton"),
    (rules.contents, {TASKS: "- name: Work\n  ansible.builtin.command: x"}, "Work: does work"),
    (rules.contents, {TASKS: "- ansible.builtin.import_tasks: other.yml"}, "begins with other.yml, not with"),
    (rules.contents, {"roles/demo/tasks/lost.yml": "[]"}, "lost.yml is never included"),
    (rules.specification, {DEFAULTS: "demo_size: 5"}, "demo_size is 5 in defaults, 4 in"),
    (rules.specification, {DEFAULTS: "{demo_size: 4, demo_odd: 1}"}, "demo_odd is in defaults but not"),
    (rules.specification, {DEFAULTS: "{demo_size: 4, demo_kernel: x}"}, "demo_kernel is required and"),
    (rules.specification, {DEFAULTS: "{}"}, "demo_size is neither required nor in defaults"),
    (rules.specification, {"roles/demo/meta/argument_specs.yml": SPECS.replace("description: Size.", "")},
     "demo_size has no description"),
    (rules.readme, {README: TABLE}, "demo_size is not in README's table"),
    (rules.readme, {README: f"{TABLE}| `demo_odd` | x | x |"}, "README's table has demo_odd"),
    (rules.readme, {README: f"{TABLE}| `demo_size` | `5` | x |"}, "README says 5 of demo_size"),
    (rules.readme, {README: f"{TABLE}| `demo_size` | derived | x |"}, "demo_size, which is not required"),
    (rules.readme, {README: f"{TABLE}| `demo_kernel` | `a` | x |"}, "demo_kernel, which is required"),
    (rules.prefixes, {DEFAULTS: "size: 4"}, "size does not begin with demo_"),
    (rules.prefixes, {"roles/demo/vars/Debian_12.yml": "demo_packages: []"}, "demo_packages does not begin with"),
    (rules.prefixes, {ASK: "- ansible.builtin.stat: {path: x}\n  register: found"}, "found does not begin with"),
    (rules.prefixes, {ASK: "- ansible.builtin.set_fact: {demo_x: 1}"}, "demo_x does not begin with __demo_"),
    (rules.company, {"molecule/demo/molecule.yml": None}, "molecule/demo/molecule.yml is missing"),
    (rules.company, {"tests/image/demo/test_demo.py": None}, "tests/image/demo/test_demo.py is missing"),
    (rules.company, {"roles/demo/meta/main.yml": "galaxy_info: {license: MIT}"}, "licence MIT, not Apache-2.0"),
    (rules.commands, {ASK: "- name: Ask\n  ansible.builtin.command: uname"}, "Ask: ansible.builtin.command with"),
    (rules.commands, {ASK: "- block:\n    - name: Ask\n      ansible.builtin.shell: {cmd: uname}"}, "shell without"),
    (rules.commands, {ASK: "- ansible.builtin.command: uname\n  changed_when: false\n"}, ":2: changed_when: false"),
    (rules.names, {ASK: "- name: Copy\n  copy: {src: a}"}, "Copy: `copy` is no fully qualified name"),
    (rules.names, {ASK: "- ansible.builtin.copy: {src: a}"}, "ansible.builtin.copy has no name"),
    (rules.modes, {ASK: "- ansible.builtin.copy: {src: a, mode: 0644}"}, ":1: mode 0644 is not quoted"),
    (rules.modes, {ASK: "- block:\n    - ansible.builtin.file: {mode: 755}"}, ":2: mode 755 is not quoted"),
    (rules.indexes, {ASK: "- name: Install\n  ansible.builtin.apt: {name: '{{ __demo_packages }}'}"},
     "Install: installs packages without cache_valid_time"),
]


def _tree(root: Path, changes: dict[str, str | None] | None = None) -> Path:
    for name, text in {**GOOD, **(changes or {})}.items():
        if text is not None:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text, encoding="utf-8")
    return root


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_what_is_right(tmp_path: Path, rule: Rule) -> None:
    assert rule(_tree(tmp_path), "demo") == []


@pytest.mark.parametrize(("rule", "changes", "message"), BAD, ids=[bad[2] for bad in BAD])
def test_rule_sees(tmp_path: Path, rule: Rule, changes: dict[str, str | None], message: str) -> None:
    found = rule(_tree(tmp_path, changes), "demo")
    assert any(message in problem for problem in found), found


def test_every_rule_has_a_bad_role() -> None:
    assert {bad[0] for bad in BAD} == set(rules.RULES)


@pytest.mark.parametrize(("order", "message"), [
    (("demo", "seal"), "role seal has no folder"), ((), "roles/demo is in no step"),
    (("demo",), "seal is not the last"),
])
def test_order_is_seen(tmp_path: Path, order: tuple[str, ...], message: str) -> None:
    assert any(message in problem for problem in rules.order(_tree(tmp_path), order))


def test_order_is_accepted(tmp_path: Path) -> None:
    assert rules.order(_tree(tmp_path, {"roles/seal/README.md": "seal"}), ("demo", "seal")) == []
