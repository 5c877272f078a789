"""Roles of the world read facts of Ansible: those that every image shares are there, and those of
one machine are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami.model.roles import role_order
from support.builds import galaxy_roles
from support.builds.definitions import edit, load, refused
from support.builds.tools import ROOT
from support.files import write

GIVEN = re.compile(r"ansible_facts(?:\.|\[')(\w+)|\bansible_(?!facts\b)(\w+)")
GATHERED = re.compile(r"distribution\w*|os_family|python|user_\w+")
"""What the subsets of ansible/bake.yml gather."""


def test_ten_roles_of_the_world_find_the_facts_that_they_read(root: Path) -> None:
    write(root, galaxy_roles.FILES)
    definition = "  customize:\n    customize_users: [{name: ann}]\n" + galaxy_roles.DEFINITION
    edit(root, "  limits:\n", f"{definition}  limits:\n")
    names = load(root).role_names
    assert {*galaxy_roles.ROLES} <= {*names} and len(galaxy_roles.ROLES) == 10
    tasks: list[dict[str, Any]] = yaml.safe_load(
        (ROOT / "ansible/bake.yml").read_text(encoding="utf-8")
    )[0]["tasks"]
    said = {name.removeprefix("ansible_") for name in tasks[0]["ansible.builtin.set_fact"]}
    text = "".join(
        text
        for name, text in galaxy_roles.FILES.items()
        if not re.search("RedHat|FreeBSD|windows", name)
    ).replace("ansible_processor_vcpus", "")  # the definition replaces this default
    read = {one or other for one, other in GIVEN.findall(text)}
    assert len(read) >= 15
    assert {name for name in read if name not in said and not GATHERED.fullmatch(name)} == set()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        (
            "tasks/main.yml",
            "- debug: {msg: '{{ ansible_fqdn }}'}\n",
            ":1: not reproducible: `ansible_fqdn`",
        ),
        (
            "tasks/main.yml",
            "# ansible_fqdn\n- debug: {msg: \"{{ ansible_facts['date_time'].iso8601 }}\"}\n",
            ":2: not reproducible: `ansible_facts['date_time']`",
        ),
        (
            "handlers/main.yml",
            "- debug: {msg: '{{ hostvars[inventory_hostname].ansible_eth0.ipv4.address }}'}\n",
            ":1: not reproducible: `ansible_eth0`",
        ),
        (
            "templates/a.conf.j2",
            "# made\nheap = {{ (ansible_memtotal_mb * 0.5) | int }}\n",
            ":2: not reproducible: `ansible_memtotal_mb`",
        ),
        (
            "defaults/main.yml",
            "agent_port: 1\nagent_workers: '{{ ansible_processor_cores }}'\n",
            ":2: not reproducible: `ansible_processor_cores`",
        ),
        ("vars/main.yml", "a: '{{ ansible_mounts }}'\n", ":1: not reproducible: `ansible_mounts`"),
    ],
)
def test_what_differs_between_two_bakes_is_refused(
    root: Path, file: str, text: str, said: str
) -> None:
    write(root, {"roles/agent/tasks/main.yml": "[]\n", f"roles/agent/{file}": text})
    edit(root, "  limits:\n", "  agent:\n  limits:\n")
    assert refused(root).removeprefix(f"{root}/roles/agent/{file}").startswith(said)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("tasks/setup-RedHat.yml", "- debug: {msg: '{{ ansible_fqdn }}'}\n"),
        ("tasks/main.yml", "- debug: {msg: '{{ ansible_fqdn | default(1) }}'}\n"),
        ("tasks/main.yml", "- debug: {msg: a}\n  when: ansible_fqdn is not defined\n"),
        ("tasks/main.yml", "- debug: {msg: '{{ ansible_hostname_of_mine }}'}\n"),
        ("defaults/main.yml", "agent_workers: '{{ ansible_processor_vcpus }}'\n"),
        ("README.md", "ansible_fqdn\n"),
        ("molecule/default/converge.yml", "ansible_fqdn\n"),
    ],
)
def test_what_a_bake_does_not_read_is_not_refused(root: Path, file: str, text: str) -> None:
    given = {"roles/agent/defaults/main.yml": "agent_workers: 1\n", f"roles/agent/{file}": text}
    write(root, {"roles/agent/tasks/main.yml": "[]\n", **given})
    edit(root, "  limits:\n", "  agent:\n    agent_workers: 2\n  limits:\n")
    assert "agent" in load(root).roles


def test_a_variable_of_the_definition_is_read_too(root: Path) -> None:
    write(
        root,
        {"roles/agent/tasks/main.yml": "[]\n", "roles/agent/defaults/main.yml": "agent_name: a\n"},
    )
    edit(root, "  limits:\n", "  agent:\n    agent_name: '{{ ansible_hostname }}'\n  limits:\n")
    assert "roles.agent.agent_name: not reproducible: `ansible_hostname`" in refused(root)


def test_the_program_s_roles_read_the_distribution_alone() -> None:
    roles = role_order.ROLE_ORDER
    texts = [
        path.read_text(encoding="utf-8")
        for role in roles
        for path in (ROOT / "roles" / role).rglob("*.y*ml")
    ]
    assert len(texts) >= 100
    read = {one or other for text in texts for one, other in GIVEN.findall(text)}
    assert read == {"distribution", "distribution_major_version"}
