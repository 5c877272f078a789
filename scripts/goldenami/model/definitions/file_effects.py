"""Files of the role `customize` that would have no effect where a definition puts them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from goldenami.core.errors import BadInput
from goldenami.core.yaml_lines import YamlFile
from goldenami.model import program_files
from goldenami.model.definitions.definition import Definition
from goldenami.model.roles import role_specs

_INSTEAD = {
    "/boot/*": "the disk writes it: write `kernel_cmdline` of the role kernel",
    "/etc/default/grub*": "no GRUB reads it: write `kernel_cmdline` of the role kernel",
    "/etc/default/golden-cmdline": "write `kernel_cmdline` of the role kernel",
    "/etc/fstab": "the disk writes it: bring /etc/systemd/system/NAME.mount and turn it on",
    "/etc/hosts": "the bake writes it: let user data add lines",
    "/etc/hostname": "each instance has its own: write `hostname` into user data",
    "/etc/machine-id": "each instance has its own",
    "/etc/resolv.conf": "it is a link: bring /etc/systemd/resolved.conf.d/NAME.conf",
    "/etc/sysctl.conf": "nothing reads it: bring /etc/sysctl.d/NAME.conf",
    "/etc/apt/sources.list": "cloud-init writes it: write `customize_apt_mirror`",
    "/etc/localtime": "write `customize_timezone`",
    "/etc/passwd": "write `customize_users`",
    "/etc/shadow": "write `customize_users`",
    "/etc/group": "write `customize_groups`",
    "/run/*": "it is empty after a boot: bring /etc/tmpfiles.d/NAME.conf",
}
"""What to do instead, by pattern of the path."""
_LATER = (
    ("/etc/sysctl.d/*", "99-zz-golden-hardening.conf", "hardening"),
    ("/etc/sysctl.d/*", "60-golden.conf", "network_tuning"),
    ("/etc/security/limits.d/*", "60-golden.conf", "limits"),
)
"""Folders of which the last file counts, with the file of a role."""


def mistakes(root: Path, source: YamlFile, definition: Definition) -> Iterator[BadInput]:
    """Yield an error for each file, with its line in `source`."""
    for index, row in enumerate(definition.variables("customize").get("customize_files") or []):
        path, file = row["path"], program_files.role(root, "customize") / "files" / row["source"]
        problems = [said for pattern, said in _INSTEAD.items() if fnmatchcase(path, pattern)]
        for pattern, later, role in _LATER:
            is_before = fnmatchcase(path, pattern) and PurePosixPath(path).name < later
            if is_before and role in definition.roles:
                problems += _set_again(root, role, file)
        for problem in problems:
            key = ("roles", "customize", "customize_files", index, "path")
            yield source.error(key, f"`{path}` has no effect there: {problem}")


def _set_again(root: Path, role: str, file: Path) -> Iterator[str]:
    """Yield the lines of `file` whose setting a role's file sets after it."""
    spec, facts = role_specs.role_spec(root, role), program_files.role(root, role) / "vars/main.yml"
    variables = {name.removeprefix(f"{role}_"): name for name in spec.defaults}
    own = role_specs.table(facts).get(f"__{role}_sysctl", [])
    variables |= dict.fromkeys(own, f"{role}_sysctl")
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        for word in re.split(r"[\s=]+", line.partition("#")[0]):
            if word in variables:
                yield f"{file}:{number}: {role} sets {word} after it: write `{variables[word]}`"
