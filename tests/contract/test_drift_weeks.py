"""A machine that booted, was powered off and boots again eight days later has not drifted:
`scripts/test` has baked it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.fleet.drift.disk import disk_check
from goldenami.fleet.drift.disk.disk_check import LookedAt
from goldenami.local.reader.block_source import RawFile
from goldenami.local.sandbox import namespaces
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.tools import ROOT
from support.drift import small_image

pytestmark = pytest.mark.long

IMAGE, USER, DAYS = "debian-13-ml", "debian", 8
BOOT = f"""
import json, sys, time
from pathlib import Path
from goldenami.core import shell
from goldenami.core.errors import GoldenError
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import vm
from goldenami.model.builds.build_records import Accel
namespaces.prepare()
baked, folder = map(Path, sys.argv[1:])
facts = []
try:
    for image, after, days in ((baked, folder / "first.raw", 0), (folder / "first.raw", folder / "later.raw", {DAYS})):
        with vm.running(vm.VmConfig(disk=image, scratch=folder / "vm", private_key=folder / "key", user="{USER}",
                                    firmware=vm.Firmware.UEFI, accelerator=Accel.TCG, ssh_limit_s=900,
                                    days_ahead=days)) as machine:
            machine.ssh("cloud-init status --wait >/dev/null; systemctl is-system-running --wait; true", timeout_s=600)
            waits = "while systemctl list-jobs --no-legend | grep -q .; do sleep 2; done; sudo sync"
            machine.ssh(waits, timeout_s=600)
            facts.append(machine.ssh("date +%s; systemctl list-timers --all --no-legend | wc -l").split())
            vm.power_off(machine)
            shell.output(["qemu-img", "convert", "-O", "raw", str(folder / "vm/root.qcow2"), str(after)])
except GoldenError as error:
    facts = [error.message]
(folder / "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture(scope="module")
def build() -> BuildFolder:
    latest = ROOT / "build" / IMAGE / "latest"
    assert latest.is_symlink(), f"run `make bake IMAGE={IMAGE}` first: scripts/test does"
    return BuildFolder(latest.resolve())


def test_a_reboot_a_week_later_is_no_drift(build: BuildFolder, tmp_path: Path) -> None:
    """Timers that were missed run at that boot, and logs are rotated; what somebody changes
    meanwhile is found."""
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")])
    argv = namespaces.unshare_argv([sys.executable, "-c", BOOT, str(build.disk), str(tmp_path)])
    subprocess.run(argv, env=shell.environment(shell.python_env()), check=True)
    first, later = json.loads((tmp_path / "facts.json").read_text(encoding="utf-8"))
    assert int(later[0]) - int(first[0]) > (DAYS - 1) * 86_400, "its clock was ahead"
    for name in ("first", "later"):
        found = disk_check.check(build, LookedAt(name, USER, RawFile(tmp_path / f"{name}.raw")))
        assert found.drift == [], name
        assert found.expected > 20, "it has booted"
    small_image.debugfs(tmp_path / "later.raw", "set_inode_field /usr/bin/sudo mode 0104777")
    found = disk_check.check(build, LookedAt("changed", USER, RawFile(tmp_path / "later.raw")))
    assert [row.path for row in found.drift] == ["/usr/bin/sudo"]
