"""tests/image run over SSH on a booted machine: the sealed disk in QEMU, or an instance."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from goldenami.core import shell
from goldenami.core.errors import StageFailed
from goldenami.local import ssh
from goldenami.local.sandbox import namespaces
from goldenami.model.build_records import Check, CoverageRecord, Outcome

_LIBRARY = re.compile(r"\.so(\.\d+)*$")
_TESTS_FAILED = 1
"""pytest's status when all tests ran and some failed; a higher one says that not all did (pytest.ExitCode)."""


def run(
    root: Path, roles: Sequence[str], variables: Path, ssh_config: Path, *, work: Path, log: Path,
    cpu_lacks: Sequence[str] = (),
) -> list[Check]:
    """Run the tests of `roles` of the checkout `root`; returns the checks and leaves junit.xml in `work`.

    `variables` is the build's vars.json; `cpu_lacks` are features of the baseline that this machine has not. A role
    that has tests and no check is `unreachable`; StageFailed where pytest broke off.
    """
    tested = [role for role in roles if (root / "tests/image" / role).is_dir()]
    argv = [
        sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider",
        "-p", "goldenami.verify.pytest_plugin",
        "--continue-on-collection-errors", f"--hosts=ssh://{ssh.HOST}", f"--ssh-config={ssh_config}",
        f"--junitxml={work / 'junit.xml'}", *(str(root / "tests/image" / role) for role in tested),
    ]
    found = work / "checks.json"
    env = {**namespaces.python_env(), "GOLDEN_VARS": str(variables), "GOLDEN_CHECKS": str(found), "GOLDEN_BOOTED": "1",
           "GOLDEN_CPU_LACKS": ",".join(cpu_lacks)}
    try:
        shell.stream(argv, log=log, env=env, cwd=root)
    except shell.CommandFailed as error:
        if error.status != _TESTS_FAILED:
            raise StageFailed("the image's tests could not run", tail=error.tail, hint="see the log") from None
    checks = [Check.model_validate(check) for check in json.loads(found.read_text(encoding="utf-8"))]
    seen = {check.role for check in checks}
    return checks + [_silent(role) for role in tested if role not in seen]


def code(record: CoverageRecord, ask: Callable[[str], str], *, complete: bool = True) -> list[Check]:
    """Whether the machine has what the coverage gate read; `ask` runs a command there. An image without such code gets
    no check. Where the gate read no tree, only wheels (not `complete`), any other library is wrong."""
    if complete and not record.files:
        return []
    folders = " ".join(shlex.quote(f"/{folder}") for folder in record.folders)
    sums = ask(f'for folder in {folders}; do [ ! -d "$folder" ] || '
               'sudo find "$folder" -xdev -type f -exec sha256sum {} + || exit 1; done')
    now = {line[66:]: line[:64] for line in sums.splitlines()}
    read = {file.sha256 for file in record.files}
    wrong = [file.path for file in record.files if now.get(f"/{file.path}") != file.sha256]
    beside = [] if complete else [name for name in now if _LIBRARY.search(name) and now[name] not in read]
    said = [*([f"it read others: {', '.join(wrong[:4])}"] if wrong else []),
            *([f"it did not read {', '.join(name[1:] for name in beside[:4])}"] if beside else [])]
    return [Check(id="boot/code", role="boot", title="The frameworks' code is what the coverage gate read",
                  outcome=Outcome.INCORRECT if said else Outcome.CORRECT, detail="; ".join(said), seconds=0.0)]


def _silent(role: str) -> Check:
    return Check(id=f"{role}/ran", role=role, title="A test of the role ran", outcome=Outcome.UNREACHABLE,
                 detail=f"no test in tests/image/{role} ran", seconds=0.0)
