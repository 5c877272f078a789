"""Which files a role brings: what its tasks copy, and its own list; and so what a sealed tree may
hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.local.tree import residue
from goldenami.model.roles import role_files
from goldenami.model.roles.role_order import ROLE_ORDER
from support.builds.tools import ROOT
from support.files import write

CERTIFICATES = "/usr/local/share/ca-certificates"


def role(root: Path, tasks: str, **files: str) -> Path:
    """A checkout with the role `company`."""
    write(
        root / "roles/company",
        {"tasks/main.yml": tasks, "defaults/main.yml": "company_ca: one.crt\n", **files},
    )
    return root


@pytest.mark.parametrize(
    ("tasks", "path"),
    [
        (
            "- ansible.builtin.copy: "
            "{src: company.crt, dest: /usr/local/share/ca-certificates/company.crt}",
            f"{CERTIFICATES}/company.crt",
        ),
        (
            "- copy: {src: company.crt, dest: /usr/local/share/ca-certificates/}",
            f"{CERTIFICATES}/company.crt",
        ),
        (
            "- copy: src=company.crt dest='/usr/local/share/ca-certificates/company.crt' mode=0644",
            f"{CERTIFICATES}/company.crt",
        ),
        ("- template: {src: a/b.conf.j2, dest: /opt/agent/}", "/opt/agent/b.conf"),
        ("- copy: {content: x, dest: '/etc/company/{{ company_ca }}'}", "/etc/company/one.crt"),
        (
            "- copy: {src: '{{ item }}', dest: '/etc/company/{{ item }}'}\n  loop: [a, b]",
            "/etc/company/b",
        ),
        (
            "- copy: {src: x, dest: '/etc/company/{{ item.name }}'}\n"
            "  with_items: [{name: a}, {name: '{{ company_ca }}'}]",
            "/etc/company/one.crt",
        ),
        (
            "- copy: {src: x, dest: '/etc/company/{{ ca }}'}\n"
            "  loop: '{{ __company_all }}'\n  loop_control: {loop_var: ca}",
            "/etc/company/of-13",
        ),
        (
            "- block:\n    - block:\n        - copy: {content: x, dest: /etc/company/deep}",
            "/etc/company/deep",
        ),
        ("- copy: {src: tree/, dest: /opt/agent}", "/opt/agent/**"),
        ("- copy: {src: tree, dest: /opt/agent}", "/opt/agent/tree/**"),
        ("- lineinfile: {path: /etc/company.conf, line: x, create: true}", "/etc/company.conf"),
        ("[]", "/opt/fetched/*"),
    ],
)
def test_what_a_role_brings(tmp_path: Path, tasks: str, path: str) -> None:
    root = role(
        tmp_path,
        f"{tasks}\n",
        **{
            "files/tree/lib/x.py": "",
            "vars/Debian_13.yml": "__company_all: [of-13]\n",
            "vars/main.yml": "__company_files: ['{{ __company_home }}/*']\n"
            "__company_home: /opt/fetched\n",
        },
    )
    assert path in role_files.brought(root, "company", {})
    assert "/opt/fetched/*" in role_files.brought(root, "company", {})


def test_a_variable_of_the_definition_counts(tmp_path: Path) -> None:
    root = role(tmp_path, "- copy: {content: x, dest: '/etc/company/{{ company_ca }}'}\n")
    given = {"golden_roles": ["company"], "company_ca": "two.crt"}
    assert role_files.of_image(root, given) == ["/etc/company/two.crt"]


@pytest.mark.parametrize(
    "dest", ["/etc/{{ ansible_facts.hostname }}", "{{ 1 / 0 }}", "{{ x | nosuch }}", "relative"]
)
def test_a_path_that_only_the_machine_knows_is_left_out(tmp_path: Path, dest: str) -> None:
    root = role(
        tmp_path,
        f"- copy: {{content: x, dest: '{dest}'}}\n- copy: {{content: x, dest: /etc/company/a}}\n",
    )
    assert role_files.brought(root, "company", {}) == ["/etc/company/a"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"vars/main.yml": "__company_files: /opt/x\n"}, "__company_files is '/opt/x', no list"),
        ({"tasks/main.yml": "- copy: [\n"}, "tasks/main.yml: no list of tasks: "),
    ],
)
def test_what_cannot_be_read_is_named(
    tmp_path: Path, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(BadInput) as caught:
        role_files.brought(role(tmp_path, "[]\n", **files), "company", {})
    assert complaint in caught.value.message


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/root/.config/x", "lies in a home"),
        ("/home/debian/x", "lies in a home"),
        ("/*", "names no place"),
        ("/etc/*", "names no place"),
        ("/etc/company/*", ""),
        ("/etc/company", ""),
        ("/opt/a*", ""),
    ],
)
def test_a_path_that_no_role_may_bring(path: str, problem: str) -> None:
    assert role_files.misplaced(path).startswith(problem) and bool(
        role_files.misplaced(path)
    ) == bool(problem)


def test_the_checkout_s_roles_name_what_they_copy() -> None:
    """Most paths are plain enough to be read; and none is out of place."""
    found = {path for name in ROLE_ORDER for path in role_files.brought(ROOT, name, {})}
    assert {
        "/etc/sysctl.d/60-golden.conf",
        "/usr/local/libexec/golden-refuse-packages",
        "/opt/ml/bin/ml-run",
        "/etc/systemd/system/docker.service.d/60-golden.conf",
        "/etc/gitconfig",
    } <= found
    assert len(found) > 80
    assert [path for path in found if role_files.misplaced(path)] == []


def test_a_sealed_tree_may_hold_what_a_role_brings(tmp_path: Path) -> None:
    copied = f"- copy: {{src: company.crt, dest: {CERTIFICATES}/}}\n"
    root = role(tmp_path / "checkout", copied)
    tree = write(tmp_path / "tree", {f"{CERTIFICATES[1:]}/company.crt": "x", "etc/passwd": ""})
    assert residue.find(tree, []) == [f"nobody's file: {CERTIFICATES}/company.crt"]
    assert residue.find(tree, role_files.of_image(root, {"golden_roles": ["company"]})) == []
