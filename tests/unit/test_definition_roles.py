"""What `check` asks of the roles that a definition names: their files, their variables, their own rules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.model.builds import lockfile
from goldenami.model.definitions import definition_file

IMAGE = "debian-13-ml-cpu"


def refused(root: Path) -> str:
    """The one-line complaint about the definition, without the folder that it is in."""
    with pytest.raises(BadInput) as caught:
        definition_file.load(root, definition_file.path_of(root, IMAGE))
    assert "\n" not in caught.value.message
    return caught.value.message.replace(f"{root}/packer/images/", "")


def edit(root: Path, old: str, new: str) -> None:
    path = root / f"packer/images/{IMAGE}.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("without", [
    ("meta/argument_specs.yml",), ("defaults/main.yml", "meta/argument_specs.yml"),
    ("vars", "meta", "defaults", "README.md"),
], ids=str)
def test_a_plain_role_of_ansible_s_is_taken(root: Path, without: tuple[str, ...]) -> None:
    for name in without:
        path = root / "roles/limits" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    found = definition_file.load(root, definition_file.path_of(root, IMAGE))
    assert lockfile.digests(root, found)["roles/limits"]
    edit(root, "  limits:\n", "  limits:\n    limits_nofile: 5000\n")
    if (root / "roles/limits/defaults/main.yml").exists():
        definition_file.load(root, definition_file.path_of(root, IMAGE))
    else:
        assert refused(root) == (f"{IMAGE}.yml:13: roles.limits.limits_nofile: unknown role variable; "
                                 "the role's defaults/main.yml and meta/argument_specs.yml name none")


@pytest.mark.parametrize(("name", "text", "complaint"), [
    ("defaults/main.yml", "", None), ("defaults/main.yml", "---\n# nothing\n", None),
    ("defaults/main.yml", "- a\n", "roles/limits/defaults/main.yml:1: expected a mapping of keys to values"),
    ("defaults/main.yml", "a: [1\n", "roles/limits/defaults/main.yml:2: not valid YAML: "),
    ("defaults/main.yml", "a: !vault x\n", "roles/limits/defaults/main.yml:1: not valid YAML: "),
    ("meta/argument_specs.yml", "argument_specs: {}\n", None),
    ("meta/argument_specs.yml", "argument_specs: []\n", None),
    ("meta/argument_specs.yml", "argument_specs: {main: [a]}\n",
     "roles/limits/meta/argument_specs.yml: main is no mapping"),
    ("meta/argument_specs.yml", "argument_specs: {main: {options: {limits_nofile: int}}}\n",
     "roles/limits/meta/argument_specs.yml: limits_nofile is no mapping"),
    ("meta/argument_specs.yml", "argument_specs: {main: {options: {limits_nofile: {type: jsonarg}}}}\n", None),
])
def test_a_role_s_file_that_is_wrong_is_one_line(root: Path, name: str, text: str, complaint: str | None) -> None:
    (root / "roles/limits" / name).write_text(text, encoding="utf-8")
    if complaint is None:
        definition_file.load(root, definition_file.path_of(root, IMAGE))
    else:
        assert refused(root).removeprefix(f"{root}/").startswith(complaint)


def test_a_file_that_the_bake_would_refuse_is_refused_before(root: Path) -> None:
    with (root / "roles/limits/tasks/main.yml").open("a", encoding="utf-8") as tasks:
        tasks.write("- ansible.builtin.copy: {content: x, dest: /root/.config/agent}\n")
    assert refused(root) == (f"{IMAGE}.yml:12: roles.limits: brings /root/.config/agent, which lies in a home, which "
                             "holds what skel has: bring it below /etc or /opt")


def test_a_variable_that_would_not_reach_its_role(root: Path) -> None:
    (root / "roles/limits/meta/argument_specs.yml").unlink()
    (root / "roles/limits/defaults/main.yml").write_text("nofile: 5\n", encoding="utf-8")
    edit(root, "  limits:\n", "  limits:\n    nofile: 7\n")
    assert refused(root).startswith(f"{IMAGE}.yml:13: roles.limits.nofile: does not reach the role: its ")


def test_a_role_that_steps_name_and_nobody_wrote(root: Path) -> None:
    shutil.rmtree(root / "roles/limits")
    steps = "scripts/goldenami/model/definitions/definition.py"
    assert f"roles/limits: no such folder, and STEPS in {steps}" in refused(root)


@pytest.mark.parametrize(("role", "variable", "complaint"), [
    ("limits", "limits_nofile: 99999999", "limits_nofile: is `99999999`: it has to be from 1024 to 1048576"),
    ("limits", "limits_nofile: 1023", "limits_nofile: is `1023`: it has to be from 1024 to 1048576"),
    ("limits", "limits_stack: plenty", "limits_stack: is `plenty`: it has to be a number of KiB or `unlimited`"),
    ("limits", "limits_nofile: 1048576", None), ("limits", "limits_memlock: '64'", None),
    ("network_tuning", "network_tuning_sysctl: {net.ipv4.tcp_congestion_control: bbr}",
     "network_tuning_sysctl: sets net.ipv4.tcp_congestion_control to `bbr` but net.core.default_qdisc to `nothing`"),
    ("network_tuning", "network_tuning_sysctl: {nat.x: 1}",
     "network_tuning_sysctl: has `nat.x`: not the name of a parameter"),
    ("first_touch", "first_touch_depth: 257", "first_touch_depth: is `257`: it has to be between 1 and 256"),
    ("fast_boot", "fast_boot_cpu_weight: 0", "fast_boot_cpu_weight: is 0, not 1 to 10000"),
    ("hardening", "hardening_passwords_min_length: 7", "hardening_passwords_min_length: is `7`: it has to be at least"),
    ("hardening", "hardening_sysctl: {kernal.x: 1}", "hardening_sysctl: is `kernal.x`: not the name of a parameter"),
    ("hardening", "hardening_mounts: {/: [nodev]}", "hardening_mounts: is `/`: each has to be the path of a folder"),
    ("container_runtime", "container_runtime_log_max_files: 0", "container_runtime_log_max_files: is `0`: it has to"),
    ("instance_store", "instance_store_mount_point: /usr", "instance_store_mount_point: is `/usr`: it has to be an ab"),
    ("instance_store", 'instance_store_mode: "888"', "instance_store_mode: is `888`: it has to be three or four octal"),
    ("instance_store", "instance_store_mount_point: /data/fast", None),
])
def test_a_role_s_own_rule_is_asked_before_a_bake(root: Path, role: str, variable: str, complaint: str | None) -> None:
    path = root / f"packer/images/{IMAGE}.yml"
    if f"  {role}:\n" not in path.read_text(encoding="utf-8"):
        edit(root, "  limits:\n", f"  {role}:\n  limits:\n")
    edit(root, f"  {role}:\n", f"  {role}:\n    {variable}\n")
    if complaint is None:
        definition_file.load(root, definition_file.path_of(root, IMAGE))
    else:
        assert f": roles.{role}.{complaint}" in refused(root)


def test_a_rule_of_an_own_role_is_asked(root: Path) -> None:
    (root / "roles/limits/tasks/preflight.yml").write_text(
        "- name: Check\n  ansible.builtin.assert:\n    that: limits_nofile is search(pattern)\n"
        "    fail_msg: 'limits_nofile is {{ limits_nofile }}, not even'\n  vars: {pattern: '[02468]$'}\n"
        "- name: Leave to the machine\n  ansible.builtin.assert: {that: ansible_facts.x == limits_nofile}\n",
        encoding="utf-8")
    (root / "roles/limits/meta/argument_specs.yml").unlink()
    edit(root, "  limits:\n", "  limits:\n    limits_nofile: '5001'\n")
    assert refused(root) == f"{IMAGE}.yml:13: roles.limits.limits_nofile: is 5001, not even"
