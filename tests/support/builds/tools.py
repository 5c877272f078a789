"""Running other programs in tests: a missing one is skipped on a laptop and an error in CI."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner
from goldenami.core import shell
from goldenami.core.cache_paths import CachePaths
from goldenami.core.errors import GoldenError
from goldenami.core.records import sha256_file

ROOT = Path(__file__).resolve().parents[3]
POLICIES = ROOT / "scripts/goldenami/aws/policies"
BIN = Path(sys.executable).parent
"""The environment's own programs come first, whatever the caller's PATH is."""


def granted(command: str) -> list[str]:
    document = json.loads((POLICIES / f"{command}.json").read_text(encoding="utf-8"))
    return list(
        dict.fromkeys(
            action
            for statement in document["Statement"]
            if statement["Effect"] == "Allow"
            for action in statement["Action"]
        )
    )


def find(name: str) -> str:
    """The path of `name`; where it is missing, the test is skipped, or fails if CI is set."""
    path = shutil.which(
        name, path=os.pathsep.join([str(BIN), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    )
    if path is not None:
        return path
    said = f"{name} is not installed (`make test` installs it)"
    if os.environ.get("CI"):
        pytest.fail(said)
    pytest.skip(said)


def complaints(
    name: str, *args: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> str:
    argv = [find(name), *args]
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    try:
        shell.output(argv, cwd=cwd, env={"PATH": path, "NO_COLOR": "1", **(env or {})})
    except shell.CommandFailed as error:
        return error.output.strip() or error.message
    except GoldenError as error:
        return error.message
    return ""


def complaints_kept(
    name: str, *args: str, inputs: Iterable[Path], env: Mapping[str, str] | None = None
) -> str:
    """`complaints`, asked once for the same program, arguments and bytes of `inputs`.

    Only silence is kept, beside the cache of goldenami, so that the next checkout on this machine
    knows of it.
    """
    digest = hashlib.sha256("\0".join([name, *args]).replace(str(ROOT), "").encode())
    digest.update((ROOT / "requirements/test.txt").read_bytes())  # the program's own version
    for path in sorted(inputs):
        digest.update(f"{path.relative_to(ROOT)} {sha256_file(path)}\n".encode())
    silent = CachePaths.default().folder / "linters" / f"{name}-{digest.hexdigest()}"
    if silent.exists():
        return ""
    said = complaints(name, *args, env=env)
    if not said:
        silent.parent.mkdir(parents=True, exist_ok=True)
        silent.touch()
    return said


def schema_complaints(*args: str) -> str:
    """What check-jsonschema has to say if it exits non-zero; in this process, since it takes 2 s to
    start."""
    from check_jsonschema import main

    ran = CliRunner().invoke(main, args)
    return ran.output if ran.exit_code else ""


def need(*tools: str) -> None:
    """Skip where a tool is missing on somebody's machine; in CI that is an error."""
    missing = [
        tool
        for tool in tools
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None
    ]
    if missing and os.environ.get("CI"):
        pytest.fail(f"CI lacks {', '.join(missing)}")
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: run `make setup`")


def need_disk_tools() -> None:
    need("sfdisk", "mke2fs", "debugfs", "mkfs.vfat", "mcopy", "grub-mkimage", "unshare")


def need_reproducible_disks() -> None:
    """Skip where mke2fs reads no tar (Debian 12, Ubuntu): a disk is right there, but not the same
    on every host."""
    need("mke2fs")
    if not _reads_tar():
        pytest.skip(
            "mke2fs of this host reads no tar, so that disks are not reproducible (Debian "
            "13's does)"
        )


@functools.cache
def _reads_tar() -> bool:
    with tempfile.TemporaryDirectory() as folder, io.BytesIO() as archive:
        with tarfile.open(fileobj=archive, mode="w") as tar:
            root = tarfile.TarInfo(".")
            root.type = tarfile.DIRTYPE
            tar.addfile(root)
        argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-d", "-", f"{folder}/disk", "8M"]
        return (
            subprocess.run(
                argv,
                input=archive.getvalue(),
                capture_output=True,
                check=False,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            ).returncode
            == 0
        )
