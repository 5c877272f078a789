"""Boots of the immutable image after somebody has written to its disk from outside: `scripts/test` has baked it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.sandbox import namespaces
from support.builds.tools import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.long]

IMAGE = "debian-13-immutable"
UNREAD = "/usr/share/common-licenses/GPL-3"
"""A file that no boot reads, of one extent."""
BOOT = f"""
import json, sys
from pathlib import Path
from goldenami.core.errors import GoldenError
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import vm
from goldenami.model.build_records import Accel
namespaces.prepare()
folder = Path(sys.argv[1])
config = vm.VmConfig(disk=folder / "disk.raw", scratch=folder / "vm", private_key=folder / "key", user="debian",
                     firmware=vm.Firmware.BIOS, accelerator=Accel.TCG, ssh_limit_s=900)
try:
    with vm.running(config) as machine:
        facts = {{"read": machine.ssh("cat {UNREAD} 2>&1 >/dev/null || true"),
                  "status": machine.ssh("sudo veritysetup status root"),
                  "other": machine.ssh("cat /usr/share/common-licenses/GPL-2 | wc -l")}}
except GoldenError as error:
    facts = {{"error": error.message}}
(folder / "facts.json").write_text(json.dumps(facts))
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A copy of the disk that anybody may write to."""
    latest = ROOT / "build" / IMAGE / "latest"
    assert latest.is_symlink(), f"run `make bake IMAGE={IMAGE}` first: scripts/test does"
    shell.output(["cp", "--sparse=always", str(latest.resolve() / "disk.raw"), str(tmp_path / "disk.raw")])
    return tmp_path / "disk.raw"


def boot(image: Path) -> dict[str, str]:
    """What a machine of this disk says, or how its boot ended."""
    folder = image.parent
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")])
    argv = namespaces.unshare_argv([sys.executable, "-c", BOOT, str(folder)])
    subprocess.run(argv, env=shell.environment(shell.python_env()), check=True)
    facts: dict[str, str] = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    return facts


def test_another_hash_stops_the_boot(image: Path) -> None:
    esp, menu = f"{image}@@{disk.ESP[0]}", image.with_name("grub.cfg")
    text = shell.output(["mtype", "-i", esp, "::/grub/grub.cfg"])
    found = re.search(r"golden\.hash=([0-9a-f]{64}) ", text)
    assert found
    menu.write_text(text.replace(found[1], found[1][::-1]), encoding="utf-8")
    shell.output(["mcopy", "-o", "-i", esp, str(menu), "::/grub/grub.cfg"])
    assert "golden: the root is not the one that the kernel's command line names" in boot(image)["error"]


def test_a_changed_block_is_an_error_for_whoever_reads_it(image: Path) -> None:
    place = f"{image}?offset={disk.ROOT_OFFSET}"
    block = int(shell.output(["/usr/sbin/debugfs", "-R", f"blocks {UNREAD}", place]).split()[0])
    with image.open("r+b") as file:
        file.seek(disk.ROOT_OFFSET + block * disk.BLOCK + 100)
        file.write(b"\xff")
    facts = boot(image)
    assert "Input/output error" in facts["read"]
    assert re.search(r"status: +corrupted", facts["status"])
    assert int(facts["other"]) > 300
