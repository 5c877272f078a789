"""What no disk shows: a fresh machine runs what its image declares, and whatever else runs is
named.

First of all roles' tests: others load modules and start services.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami.fleet.drift.inside import running_check
from goldenami.model.builds.build_folder import BuildFolder

PORT, PROGRAM = 4444, "/usr/bin/yes"
TAMPER = f"""\
modprobe dummy
sysctl -q -w fs.protected_hardlinks=0
prlimit --pid $(systemctl show -P MainPID chrony) --nofile=4321:4321
systemd-run --quiet --unit=golden-try python3 -m http.server --bind 127.0.0.1 {PORT}
mount --bind /usr/bin/true {PROGRAM}
until ss -Hltn | grep -q :{PORT}; do sleep 0.2; done
"""
UNDO = f"""\
umount {PROGRAM}
systemctl stop golden-try
systemctl restart chrony systemd-sysctl
rmmod dummy
"""
NAMED = ["module dummy", "sysctl fs.protected_hardlinks", "limit NOFILE of chrony.service",
         f"listener tcp/{PORT} on 127.0.0.1", f"mount {PROGRAM}"]


@pytest.fixture(scope="module")
def look(host: Any, needs_boot: None) -> Callable[[], list[str]]:
    build = BuildFolder(Path(os.environ["GOLDEN_VARS"]).parent)
    if not build.manifest.exists():
        pytest.skip("not asked: this build has no manifest")

    def run() -> list[str]:
        found = running_check.look(build, lambda command: str(host.run(command).stdout))
        return [f"{row.kind} {row.name}" for row in found]

    return run


@pytest.fixture
def tampered(host: Any) -> Iterator[None]:
    done = host.run(f"set -e; {TAMPER}")
    yield
    undone = host.run(UNDO)
    assert (done.rc, undone.rc) == (0, 0), done.stderr + undone.stderr


def test_fresh_machine_runs_what_its_image_declares(
    look: Callable[[], list[str]], settled: str
) -> None:
    assert look() == []


def test_whatever_else_runs_is_named(look: Callable[[], list[str]], tampered: None) -> None:
    assert sorted(look()) == sorted(NAMED)
