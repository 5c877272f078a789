"""Run `packer build` for one source, with its state and Ansible's in a work folder, and explain its
failures."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.local.machine import failed_task
from goldenami.local.sandbox import namespaces
from goldenami.model import program_files

_QUIET = {"CHECKPOINT_DISABLE": "1"}
"""Otherwise Packer asks its vendor for a newer version, and prints on standard output that it is
out of date."""
_DIED = re.compile(r"worker was found in a dead state")
"""Ansible's message if the process that ran a task is gone (ansible/plugins/strategy): no task has
failed."""
_BEGUN = re.compile(r"golden-task \S+ s: (?P<task>.+)$")
"""The callback plugin's line as a task starts. Ansible prints `TASK [...]` only with its first
result."""
_SINCE_1_7 = re.compile(
    r"^( +)(?:required_plugins|metadata_options) \{[^\n]*\n.*?^\1\}\n", re.MULTILINE | re.DOTALL
)
"""Blocks of packer/ that Packer 1.6 rejects. `packer fmt` indents a block's end like its
beginning."""
_ROLE_LINE = re.compile(r"^.*golden-role (?!playbook )(?P<role>\S+)")


class AnsibleDied(StageFailed):
    """A process of Ansible itself ended before its task did: by a signal, or for lack of memory."""


@dataclass(frozen=True)
class PackerBuild:
    """A `packer build` for the checkout `root`, which keeps its state in the folder `work`. `step`
    names its files there, because one bake may run Packer several times."""

    root: Path
    work: Path
    step: str
    log: Path

    def run(
        self,
        source: str,
        variables: Mapping[str, object],
        *,
        env: Mapping[str, str],
        on_line: Callable[[str], None],
    ) -> None:
        """Build `source`.

        Raises StageFailed with the failed task of a role and its message, or AnsibleDied if no task
        failed: then the same roles may pass on a tree that they have not touched.
        """
        forget_settings()
        env, tail = {**self._environment(), **env}, list[str]()

        def watch(line: str) -> None:
            tail.append(line)
            on_line(line)

        try:
            argv = self._argv(source, variables)
            command = shell.Command(argv, env, program_files.home(self.root))
            command.stream(log=self.log, on_line=watch)
        except shell.CommandFailed:
            raise self._failure(tail) from None
        failed_task.check_passed(tail)

    def _argv(self, source: str, variables: Mapping[str, object]) -> list[str]:
        argv = ["packer", "build", "-color=false", f"-only={source}"]
        for name, value in variables.items():
            argv += ["-var", f"{name}={value}"]
        return [*argv, str(templates(self.root, self.work))]

    def _environment(self) -> dict[str, str]:
        """Return variables that keep the state of Packer and Ansible in `work`. Plugins are where
        `make setup` had `packer init` put them."""
        # Packer finds `ansible-playbook` on PATH: it has to be that of this interpreter's
        # environment, activated or not.
        inherited, programs = os.environ.get("PATH"), str(Path(sys.executable).parent)
        plugins = Path.home() / ".config/packer/plugins"
        return {
            **_QUIET,
            "PATH": os.pathsep.join(filter(None, [programs, inherited])),
            "PACKER_CONFIG_DIR": str(self.work),
            "PACKER_CACHE_DIR": str(self.work / "packer-cache"),
            "PACKER_PLUGIN_PATH": os.environ.get("PACKER_PLUGIN_PATH") or str(plugins),
            "ANSIBLE_LOCAL_TEMP": str(self.work / "ansible"),
            # RUN's path is short enough for ssh's socket.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": f"{namespaces.RUN}/{self.step}",
            # A person's own ssh_config must not change the connection.
            "ANSIBLE_SSH_COMMON_ARGS": "-F /dev/null",
            # In memory, so that no layer holds Ansible's files.
            "ANSIBLE_REMOTE_TMP": "/run/golden-ansible",
            "GOLDEN_TIMINGS": str(self.work / f"roles-{self.step}.json"),
            "ANSIBLE_NOCOLOR": "1",
            "PYTHONUNBUFFERED": "1",
            **_strategy(),
            "ANSIBLE_ROLES_PATH": program_files.roles_path(self.root, self.work),
            "ANSIBLE_COLLECTIONS_PATH": str(self.root / program_files.COLLECTIONS),
        }

    def _failure(self, tail: list[str]) -> StageFailed:
        """Return the error for a failed run whose lines of output are `tail`."""
        if any(map(_DIED.search, tail)):
            begun = next(filter(None, map(_BEGUN.search, reversed(tail))), None)
            task = begun["task"] if begun else ""
            return AnsibleDied(
                f"ansible: the process that ran task [{task}] died",
                hint="run it again; the kernel's log tells of a want of memory (dmesg | tail)",
                tail=shell.last_lines("\n".join(tail)),
                log=self.log,
            )
        failure, shown = (
            failed_task.of(tail),
            [line for line in tail if "golden-failed" not in line],
        )
        failure.tail, failure.log = shell.last_lines("\n".join(shown)), self.log
        return failure


def templates(root: Path, work: Path) -> Path:
    """Return the folder to build from: packer/ of the repository `root`, or for Packer 1.6 a copy
    in `work` without the blocks that it rejects.

    Without `metadata_options` the AMI or the account decides which IMDSv2 options the builder's
    instance gets.
    """
    source = program_files.home(root) / "packer"
    if tuple(map(int, version().split(".")[:2])) >= (1, 7):
        return source
    folder = work / "templates"
    folder.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name.endswith(".pkr.hcl"):
            records.write_text(
                folder / path.name, _SINCE_1_7.sub("", path.read_text(encoding="utf-8"))
            )
        elif not (folder / path.name).is_symlink():
            (folder / path.name).symlink_to(path)
    return folder


def role_of(line: str) -> str | None:
    """Return the role that a line of output announces, or None. The playbook's own tasks belong to
    no role."""
    match = _ROLE_LINE.match(line)
    return match["role"] if match else None


ROLE_SECONDS = "roles-*.json"
"""Files in the work folder to which the callback plugin writes the seconds of a step's roles."""


def role_seconds(work: Path) -> dict[str, float]:
    """Return the seconds of each role that ran, from the callback plugin's files."""
    seconds: dict[str, float] = {}
    for path in work.glob(ROLE_SECONDS):
        seconds |= json.loads(path.read_text(encoding="utf-8"))
    return seconds


def version() -> str:
    """Return Packer's version, without asking its vendor for a newer one."""
    output = shell.output(["packer", "version"], env=_QUIET)
    match = re.search(r"^Packer v([\d.]+)", output, re.M)
    if match is None:
        raise HostNotReady(
            f"`packer version` does not name one: {output.strip()[:80]!r}", hint="run `make setup`"
        )
    return match[1]


def forget_settings() -> None:
    """Remove a person's own settings for Ansible, Molecule and Packer: a bake must not depend on
    them."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("ANSIBLE_", "MOLECULE_", "PKR_VAR_", "PACKER_LOG"))
    ]:
        del os.environ[name]


def _strategy() -> dict[str, str]:
    """Return variables for Mitogen's strategy, which uses one interpreter in the container for all
    tasks. {} if GOLDEN_MITOGEN=0 or Mitogen is not installed."""
    spec = importlib.util.find_spec("ansible_mitogen")
    if os.environ.get("GOLDEN_MITOGEN", "1") == "0" or spec is None or spec.origin is None:
        return {}
    return {
        "ANSIBLE_STRATEGY": "mitogen_linear",
        "ANSIBLE_STRATEGY_PLUGINS": str(Path(spec.origin).parent / "plugins/strategy"),
    }
