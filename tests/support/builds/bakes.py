"""Bakes of the CPU image that a test watches, ends and looks at afterwards."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from goldenami.core.wait import wait_until
from goldenami.model.definitions import definition, definition_file
from goldenami.model.locked import lockfile
from goldenami.model.roles import role_order

from support.builds import checkout
from support.files import write

IMAGE = "debian-13-ml-cpu"
LIMIT_S = 900
LAST = "+".join(role for role in role_order.STEPS[-1] if role != definition.IMMUTABLE)
"""The step that makes the image what it is; each run does it anew."""


def locked(folder: Path) -> Path:
    """A copy of the checkout with a lock whose files are here: its own (`scripts/test` saw to
    that), else a new one."""
    root = checkout.copy(folder)
    said = ""
    for stage in (("bake", IMAGE, "--fetch-only", "--relock"), ("lock", IMAGE)):
        status, said = finish(checkout.golden(root, *stage))
        if status == 0:
            return root
    raise AssertionError(said)


@contextmanager
def baked(
    folder: Path,
    files: dict[str, str],
    *options: str,
    locked: Callable[[], object] = lambda: None,
    **env: str,
) -> Iterator[Path]:
    """A copy of the checkout with these files, of which the first is a definition, and the build of
    a new lock of it, which is made with `env`; `locked` runs when the store has all of it."""
    root, image = checkout.copy(folder), Path(next(iter(files))).stem
    write(root, files)
    status, said = finish(checkout.golden(root, "lock", image, **env))
    locked()
    assert status == 0, said
    status, said = finish(checkout.golden(root, "bake", image, *options))
    assert status == 0, said
    yield root
    assert settle(root) == []
    shutil.rmtree(root, ignore_errors=True)


def again(root: Path, folder: Path) -> Path:
    other = checkout.copy(folder)
    shutil.copytree(root / "packer/locks", other / "packer/locks", dirs_exist_ok=True)
    return other


def changed(root: Path, path: Path, text: str) -> None:
    """Write `text` to a file of a role, and take the changed role into the lock: `lock` would read
    the mirror again."""
    path.write_text(text, encoding="utf-8")
    lock = lockfile.path_of(root, IMAGE)
    inputs = lockfile.digests(
        root, definition_file.load(root, definition_file.path_of(root, IMAGE))
    )
    lockfile.write(lock, lockfile.read(lock)[0].model_copy(update={"inputs": inputs}))


def build_of_lock(root: Path) -> Path:
    return (
        root
        / "build"
        / IMAGE
        / lockfile.read(lockfile.path_of(root, IMAGE))[1][: lockfile.ID_LENGTH]
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=LIMIT_S)
    return process.returncode, output


def kill(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)


def until(process: subprocess.Popen[str], step: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(rf"\d:\d\d  {re.escape(step)}", line):
            return seen
    process.communicate()  # else its open pipe fails a later test, too
    raise AssertionError(f"the bake ended before `{step}`:\n{seen}")


def settle(root: Path) -> list[str]:
    """What is left once the kernel has had a minute at most; work folders are the next run's to
    sweep."""

    def left() -> list[str]:
        return [line for line in checkout.leftovers(root) if not line.startswith("work folder")]

    wait_until(lambda: not left() or None, 60, 0.1)
    return left()
