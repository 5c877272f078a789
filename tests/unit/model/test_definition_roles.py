"""What `check` asks of the roles that a definition names: their files, their variables, their own
rules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from goldenami.model.locked import lockfile
from support.builds.definitions import IMAGE, edit, load, refused


@pytest.mark.parametrize(
    "without",
    [
        ("meta/argument_specs.yml",),
        ("defaults/main.yml", "meta/argument_specs.yml"),
        ("vars", "meta", "defaults", "README.md"),
    ],
    ids=str,
)
def test_a_plain_role_of_ansible_s_is_taken(root: Path, without: tuple[str, ...]) -> None:
    for name in without:
        path = root / "roles/limits" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    found = load(root)
    assert lockfile.digests(root, found)["roles/limits"]
    edit(root, "  limits:\n", "  limits:\n    limits_nofile: 5000\n")
    if (root / "roles/limits/defaults/main.yml").exists():
        load(root)
    else:
        assert refused(root) == (
            f"{IMAGE}.yml:13: roles.limits.limits_nofile: unknown role "
            "variable; "
            "the role's defaults/main.yml and meta/argument_specs.yml name "
            "none"
        )


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("defaults/main.yml", "---\n# nothing\n", None),
        (
            "defaults/main.yml",
            "- a\n",
            "roles/limits/defaults/main.yml:1: expected a mapping of keys to values",
        ),
        ("defaults/main.yml", "a: [1\n", "roles/limits/defaults/main.yml:2: not valid YAML: "),
        ("meta/argument_specs.yml", "argument_specs: []\n", None),
        (
            "meta/argument_specs.yml",
            "argument_specs: {main: [a]}\n",
            "roles/limits/meta/argument_specs.yml: main is no mapping",
        ),
        (
            "meta/argument_specs.yml",
            "argument_specs: {main: {options: {limits_nofile: int}}}\n",
            "roles/limits/meta/argument_specs.yml: limits_nofile is no mapping",
        ),
        (
            "meta/argument_specs.yml",
            "argument_specs: {main: {options: {limits_nofile: {type: jsonarg}}}}\n",
            None,
        ),
    ],
)
def test_a_role_s_file_that_is_wrong_is_one_line(
    root: Path, name: str, text: str, complaint: str | None
) -> None:
    (root / "roles/limits" / name).write_text(text, encoding="utf-8")
    if complaint is None:
        load(root)
    else:
        assert refused(root).removeprefix(f"{root}/").startswith(complaint)


def test_a_file_that_the_bake_would_refuse_is_refused_before(root: Path) -> None:
    with (root / "roles/limits/tasks/main.yml").open("a", encoding="utf-8") as tasks:
        tasks.write("- ansible.builtin.copy: {content: x, dest: /root/.config/agent}\n")
    assert refused(root) == (
        f"{IMAGE}.yml:12: roles.limits: brings /root/.config/agent, which "
        "lies in a home, which "
        "holds what skel has: bring it below /etc or /opt"
    )


def test_a_variable_that_would_not_reach_its_role(root: Path) -> None:
    (root / "roles/limits/meta/argument_specs.yml").unlink()
    (root / "roles/limits/defaults/main.yml").write_text("nofile: 5\n", encoding="utf-8")
    edit(root, "  limits:\n", "  limits:\n    nofile: 7\n")
    assert refused(root).startswith(
        f"{IMAGE}.yml:13: roles.limits.nofile: does not reach the role: its "
    )


def test_a_role_that_steps_name_and_nobody_wrote(root: Path) -> None:
    shutil.rmtree(root / "roles/limits")
    steps = "scripts/goldenami/model/roles/role_order.py"
    assert f"roles/limits: no such folder, and STEPS in {steps}" in refused(root)


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("that: \"'kernel' in golden_roles and cuda_source is undefined\"", None),
        ("that: ansible_facts.python_version is search('x')", None),
        ("that: false\n  when: golden_definition is undefined", None),
        ("that: false", "12: roles.limits: wants `False`"),
        (
            "that: [true, limits_stack is search(pattern)]\n  vars: {pattern: '[02468]$'}",
            "12: roles.limits.limits_stack: wants `[True, 'limits_stack is search(pattern)']`",
        ),
        (
            "that: false\n"
            "    fail_msg: limits_stack is odd in {{ golden_definition.base.release }}",
            "12: roles.limits.limits_stack: is odd in trixie",
        ),
        (
            "that: ansible_facts.distribution == 'Ubuntu'\n    fail_msg: '{{ item.name }} is odd'\n"
            "  loop: [{name: base.release}]",
            "5: base.release: is odd",
        ),
    ],
)
def test_a_rule_of_an_own_role_is_asked(root: Path, rule: str, complaint: str | None) -> None:
    (root / "roles/limits/tasks/main.yml").write_text(
        f"- name: Check\n  ansible.builtin.assert:\n    {rule}\n", encoding="utf-8"
    )
    if complaint is None:
        load(root)
    else:
        assert refused(root) == f"{IMAGE}.yml:{complaint}"
