"""Run tests/image on a booted machine over SSH (the sealed disk in QEMU, or an instance), or in a
disk's root tree."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import HostNotReady, StageFailed
from goldenami.local.machine import ssh
from goldenami.model import program_files
from goldenami.model.builds.build_records import Check, CoverageRecord, Outcome

_LIBRARY = re.compile(r"\.so(\.\d+)*$")
_TMP = "/tmp"  # noqa: S108 - where each side makes its own names
"""TMPDIR of the tests. It has to exist in a disk's tree too, where a folder of this run does
not."""
_ALL_RAN = (0, 1, 5)
"""pytest's status if all tests passed, if some failed, and if there was none to run
(pytest.ExitCode)."""
_REASON = re.compile(r"^(?:E|INTERNALERROR>) +(\w+(?:Error|Exception|Interrupt)\b.*)", re.MULTILINE)
"""The line of pytest's output that says why it broke off."""
_NEEDS_NO_BOOT = "no_boot"
"""Marker of a test that looks at files and runs programs, and needs nothing that only a boot
makes."""


@dataclass(frozen=True)
class Run:
    """Tests of tests/image in progress. They write their checks to `checks_file`."""

    process: subprocess.Popen[bytes]
    checks_file: Path
    log: Path

    def checks(self, limit_s: float | None = None) -> list[Check]:
        """Return the checks once all tests have run. Raises StageFailed if they take longer than
        `limit_s` seconds, HostNotReady if pytest broke off, which is no fault of the image."""
        try:
            status = self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise StageFailed(
                f"the image's tests run for {limit_s:.0f} s and have not ended",
                tail=shell.end_of(self.log),
                hint="the last test of the log hangs",
            ) from None
        if status not in _ALL_RAN:
            output = self.log.read_text(encoding="utf-8", errors="replace")
            reasons = _REASON.findall(output) or [f"pytest ended with status {status}"]
            raise HostNotReady(
                f"this machine could not run the image's checks: {reasons[-1]}",
                tail=shell.last_lines(output),
                log=self.log,
                hint="`make setup` installs what they need; then verify again",
            )
        return [
            Check.model_validate(check)
            for check in json.loads(self.checks_file.read_text(encoding="utf-8"))
        ]


@dataclass(frozen=True)
class ImageTests:
    """The tests of `roles` in the checkout `root`. `variables` is the build's vars.json; the tests'
    files go into the folder `work`."""

    root: Path
    roles: Sequence[str]
    variables: Path
    work: Path
    log: Path

    @property
    def asked(self) -> list[str]:
        """The roles that have tests."""
        return tested(self.root, self.roles)

    def run(self, ssh_config: Path) -> list[Check]:
        """Run all tests on the machine that `ssh_config` leads to, and return their checks."""
        with self.running(over_ssh(ssh_config)) as tests:
            return complete(tests.checks(), self.asked)

    @contextlib.contextmanager
    def running(
        self, argv: Sequence[str], *, name: str = "", gpu_session: Path | None = None
    ) -> Iterator[Run]:
        """Start the tests, and stop them at the end of the block.

        `argv` are pytest's arguments for where to look and which tests to run; `name` sets the
        files of one run in `work` apart from another's. `gpu_session` is a GpuSession's file.
        """
        checks_file, roles = self.work / f"checks{name}.json", self.asked
        folder = program_files.checks(self.root, roles, self.work)
        session = [f"--gpu-session={gpu_session}"] if gpu_session else []
        words = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--color=no",
            # Nothing above the folder is read: a conftest.py there may need what no bake installs.
            "-c",
            str(program_files.INSTALLED / program_files.CHECKS / "pytest.ini"),
            # Two folders up, so that no folder of a role has the name of an installed package.
            f"--rootdir={folder.parents[1]}",
            f"--confcutdir={folder}",
            "-p",
            "goldenami.image.verify.pytest_plugin",
            "--continue-on-collection-errors",
            *argv,
            f"--checks={checks_file}",
            "--booted",
            *session,
            f"--junitxml={self.work / f'junit{name}.xml'}",
            *(str(folder / role) for role in roles),
        ]
        # A person's own options could leave tests out.
        env = {
            **shell.python_env(),
            "PYTEST_ADDOPTS": "",
            "PYTEST_PLUGINS": "",
            "TMPDIR": _TMP,
            "GOLDEN_VARS": str(self.variables),
        }
        process = shell.Command(words, env=env, cwd=self.root).start(log=self.log)
        try:
            yield Run(process, checks_file, self.log)
        finally:
            shell.stop(process)


def over_ssh(ssh_config: Path, *, everything: bool = True) -> list[str]:
    """Return pytest's arguments for the machine that `ssh_config` leads to: for all tests, or only
    for those that need a boot."""
    marked = [] if everything else ["-m", f"not {_NEEDS_NO_BOOT}"]
    return [f"--hosts=ssh://{ssh.HOST}", f"--ssh-config={ssh_config}", *marked]


def without_boot(tree: Path) -> list[str]:
    """Return pytest's arguments for the tests that need no boot, in a disk's root tree."""
    return [f"--hosts={tree}", "--connection=chroot", "-m", _NEEDS_NO_BOOT]


def tested(root: Path, roles: Sequence[str]) -> list[str]:
    """Return those of `roles` that have tests."""
    return [
        role
        for role in roles
        if program_files.find(root, f"{program_files.CHECKS}/{role}").is_dir()
    ]


def complete(checks: Sequence[Check], roles: Sequence[str]) -> list[Check]:
    """Return each of `checks` once, and an `unreachable` one for each role without any."""
    by_id = {check.id: check for check in checks}
    seen = {check.role for check in checks}
    return [*by_id.values(), *(_silent(role) for role in roles if role not in seen)]


def as_root(command: str) -> str:
    """Return a shell command that runs `command` as root for the default user of an image."""
    return f"sudo sh -c {shlex.quote(command)}"


def code(
    record: CoverageRecord, ask: Callable[[str], str], *, complete: bool = True
) -> list[Check]:
    """Check that the machine has the files that the coverage check read; `ask` runs a command there
    as root. If the gate read only wheels and no tree (not `complete`), any other library is
    wrong."""
    if complete and not record.files:
        return []
    folders = " ".join(shlex.quote(f"/{folder}") for folder in record.folders)
    sums = ask(
        f'for folder in {folders}; do [ ! -d "$folder" ] || '
        'find "$folder" -xdev -type f -exec sha256sum {} + || exit 1; done'
    )
    # sha256sum prints 64 digits, two characters and the path.
    current = {line[66:]: line[:64] for line in sums.splitlines()}
    read = {file.sha256 for file in record.files}
    problems = []
    wrong = [file.path for file in record.files if current.get(f"/{file.path}") != file.sha256]
    if wrong:
        problems.append(f"it read others: {', '.join(wrong[:4])}")
    if not complete:
        libraries = [name for name in current if _LIBRARY.search(name)]
        beside = [name[1:] for name in libraries if current[name] not in read]
        if beside:
            problems.append(f"it did not read {', '.join(beside[:4])}")
    return [
        Check.of_boot(
            "code",
            "The frameworks' code is what the coverage check read",
            not problems,
            "; ".join(problems),
        )
    ]


def _silent(role: str) -> Check:
    return Check(
        id=f"{role}/ran",
        role=role,
        title="A test of the role ran",
        outcome=Outcome.UNREACHABLE,
        detail=f"no test in tests/image/{role} ran",
        seconds=0.0,
    )
