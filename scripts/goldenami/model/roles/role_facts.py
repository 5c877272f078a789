"""Facts of Ansible that a role reads though two bakes of one lock would differ by them.
ansible/bake.yml has those that a role may read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile
from goldenami.model import program_files

_PARTS = ("defaults", "handlers", "tasks", "templates", "vars")
"""Folders of a role that a bake reads."""
_OF_ONE_MACHINE = """
    all_ipv[46]_addresses bios_\\w+ board_\\w+ bridge\\w* chassis_\\w+ cmdline date_time
    default_ipv[46] device_links devices dns domain ec2_\\w+ en[ops]\\d\\w* env eth\\d+ fqdn
    form_factor hostname hostnqn interfaces iscsi_iqn kernel kernel_version loadavg
    locally_reachable_ips lvm machine_id mem\\w+_mb memory_mb mounts nodename proc_cmdline
    processor\\w* product_\\w+ ssh_host_key_\\w+ swap\\w+_mb system_vendor uptime_seconds
"""
_READ = re.compile(
    rf"\b(?:ansible_facts(?:\.get\(|\.|\[)['\"]?|ansible_)(?:{'|'.join(_OF_ONE_MACHINE.split())})\b(?:['\"]\])?"
    # With a default, or a question whether it is there, a bake does without the fact.
    r"(?![\w.\[\]'\"]*\s*(?:\|\s*(?:default|d)\b|is\s+(?:not\s+)?(?:un)?defined))"
)
_COMMENT = re.compile(r"(?m)(?:^|(?<=\s))#.*")
_ELSEWHERE = re.compile(
    r"alpine|amazon|arch|centos|darwin|fedora|freebsd|gentoo|macos|openbsd|oracle|red-?hat|rhel"
    r"|rocky|suse|windows",
    re.IGNORECASE,
)
"""Names of files that are for other systems than Debian and its kin."""


def mistakes(
    root: Path, source: YamlFile, role: str, variables: Mapping[str, Any]
) -> Iterator[BadInput]:
    """Yield an error for each line of a role, and for each of its variables in the definition
    `source`, that reads such a fact. A default that the definition replaces is not read."""
    for name, value in variables.items():
        if found := _READ.search(str(value)):
            yield source.error(
                ("roles", role, name), _problem(found), hint="write the value itself"
            )
    for relative, path in program_files.role_files(root, role).items():
        if relative.parts[0] in _PARTS and not _ELSEWHERE.search(relative.stem):
            yield from _read(path, variables if relative.parts[0] == "defaults" else {})


def _read(path: Path, replaced: Mapping[str, Any]) -> Iterator[BadInput]:
    text = path.read_text(encoding="utf-8", errors="replace")
    for number, key, found in _lines_that_read(text, path.suffix in (".yml", ".yaml")):
        if key not in replaced:
            yield BadInput(
                f"{path}:{number}: {_problem(found)}",
                hint="read a variable of the role, set in the definition; or let the service ask",
            )


@cache
def _lines_that_read(text: str, is_yaml: bool) -> list[tuple[int, str, re.Match[str]]]:
    """Return the lines of a file that read such a fact: number, key at the line's beginning or
    before it, and the fact."""
    # Cached, since each definition of a checkout has the same roles.
    lines, key = list[tuple[int, str, re.Match[str]]](), ""
    if is_yaml:
        text = _COMMENT.sub("", text)
    for number, line in enumerate(text.splitlines(), 1):
        if begun := re.match(r"\w+", line):
            key = begun[0]
        if found := _READ.search(line):
            lines.append((number, key, found))
    return lines


def _problem(found: re.Match[str]) -> str:
    return f"not reproducible: `{found[0]}` differs between two bakes"
