"""A machine on which people work for a day, and that boots again eight days later, is as baked:
`scripts/test` has baked it, by `make bake` in a clone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import shell
from goldenami.local.disk import disk
from goldenami.local.drift import disk_check
from goldenami.local.drift.disk_check import LookedAt
from goldenami.local.reader.block_source import RawFile
from goldenami.local.sandbox import namespaces
from goldenami.model.builds.build_folder import BuildFolder
from support.builds.checkout import ROOT
from support.drift import small_image
from support.drift.user_data import USER_DATA

pytestmark = pytest.mark.slow

IMAGE, DAYS = "debian-13-ml", 8
DAY = r"""
set -eu
cloud-init status --wait >/dev/null || true
sudo -i bash -ic 'id; history -s id; history -a'
files=$(ldd /usr/bin/sleep /usr/bin/touch | grep -o '/[^ ]*' | grep -v : | sort -u)
sudo tar --create --dereference /usr/bin/sleep /usr/bin/touch $files 2>/dev/null |
    sudo docker import - own
sudo docker run --detach --restart always --name kept own /usr/bin/sleep infinity
sudo docker volume create kept
sudo docker run --rm --volume kept:/kept own /usr/bin/touch /kept/file
mkdir -p build && cd build && touch file && printf 'FROM own\nCOPY file /file\n' >Dockerfile
sudo docker build --tag built . && cd
python3 -m venv venv
python3 - <<'END'
import zipfile
with zipfile.ZipFile("own-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("own.py", "")
    wheel.writestr("own-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: own\nVersion: 1\n")
    wheel.writestr("own-1.dist-info/WHEEL",
                   "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    wheel.writestr("own-1.dist-info/RECORD", "")
END
venv/bin/pip install --quiet --no-index ./own-1-py3-none-any.whl
sudo apt-get update || true
sudo logrotate --force /etc/logrotate.conf
sudo journalctl --rotate --vacuum-size=1M
(ulimit -c unlimited; sh -c 'kill -SEGV $$') || true
sudo fallocate --length "$(df --output=avail --block-size=1 / | tail -1)" /home/debian/full || true
logger "the disk is full"; sudo rm -f /home/debian/full
loginctl enable-linger || true
timeout 1800 systemctl is-system-running --wait || true
while systemctl list-jobs --no-legend | grep -q .; do sleep 2; done
sudo sync
date +%s
"""
LATER = """
cloud-init status --wait >/dev/null || true
timeout 1800 systemctl is-system-running --wait || true
while systemctl list-jobs --no-legend | grep -q .; do sleep 2; done
sudo docker ps --format '{{.Names}}'
sudo sync
date +%s
"""
GIVEN = """
cloud-init status --wait >/dev/null || true
ls --directory /srv/data
cat /etc/hostname .ssh/authorized_keys
sudo sync
"""
BOOT = """
import json, sys
from pathlib import Path
from goldenami.core import shell
from goldenami.core.errors import GoldenError
from goldenami.local.sandbox import namespaces
from goldenami.local.vm import second_boot, vm
from goldenami.model.builds.build_records import Accel
namespaces.prepare()
baked, folder, boots, said = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]), []
disk = baked
def boot(disk, script, ahead, user_data, after):
    config = vm.VmConfig(disk=disk, scratch=folder / "vm", private_key=folder / "key",
                         user="debian", firmware=vm.Firmware.UEFI, accelerator=Accel.TCG,
                         ssh_limit_s=900, days_ahead=ahead, user_data=user_data)
    with vm.running(config) as machine:
        said.append({"said": machine.ssh(script, timeout_s=1800)})
        vm.power_off(machine)
        if disk == baked:
            said[-1]["drift"] = second_boot.drift(config)
        if after:
            raw = str(folder / after)
            shell.output(["qemu-img", "convert", "-O", "raw", str(config.overlay), raw])
try:
    for script, ahead, user_data, after in boots:
        boot(disk, script, ahead, user_data, after)
        disk = folder / after if after else baked
except GoldenError as error:
    said.append({"error": f"{error.message}\\n{error.tail}"})
(folder / "said.json").write_text(json.dumps(said))
"""


@pytest.fixture(scope="module")
def build() -> BuildFolder:
    latest = ROOT / "build/tests/clone/build" / IMAGE / "latest"
    assert latest.is_symlink(), "scripts/test makes the clone, and `make bake` in it"
    return BuildFolder(latest.resolve())


Boot = tuple[str, int, str | None, str]
"""What is typed, days that the clock is ahead, user data, and the name that the disk gets for the
next boot; without, the next is of the baked disk, too."""


def booted(build: BuildFolder, folder: Path, boots: list[Boot]) -> list[dict[str, Any]]:
    """What each boot said, and how its disk differs from the bake."""
    shell.output(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key")])
    argv = [sys.executable, "-c", BOOT, str(build.disk), str(folder), json.dumps(boots)]
    subprocess.run(
        namespaces.unshare_argv(argv), env=shell.environment(shell.python_env()), check=True
    )
    said: list[dict[str, Any]] = json.loads((folder / "said.json").read_text(encoding="utf-8"))
    assert "error" not in said[-1], said[-1]["error"]
    return said


def test_a_healthy_day_and_a_boot_a_week_later_are_no_drift(
    build: BuildFolder, tmp_path: Path
) -> None:
    """Timers that were missed run at the second boot; a tampering is found between all that."""
    first, later = booted(
        build, tmp_path, [(DAY, 0, None, "first.raw"), (LATER, DAYS, None, "later.raw")]
    )
    begun, ended = (int(boot["said"].split()[-1]) for boot in (first, later))
    assert ended - begun > (DAYS - 1) * 86_400, "its clock was ahead"
    assert "kept" in later["said"].split(), "the engine started it again"
    assert first["drift"] == []
    image = tmp_path / "later.raw"
    found = disk_check.check(build, LookedAt("later", RawFile(image)))
    assert found.drift == []
    assert any("a container" in line for line in found.starts), found.starts
    counted = {area.area: area.paths for area in found.data}
    assert counted["homes"] > 500 and counted["container engines"] > 50, counted
    # A machine whose power-off took too long leaves a journal, which would undo what debugfs
    # writes: the kernel replays it first.
    size = image.stat().st_size - disk.ROOT_OFFSET
    with small_image.mounted(image, tmp_path / "mount", size=size) as tree:
        (tree / "usr/bin/sudo").chmod(0o4777)
    found = disk_check.check(build, LookedAt("changed", RawFile(image)))
    assert [row.path for row in found.drift] == ["/usr/bin/sudo"]


@pytest.mark.long
def test_usual_user_data_is_no_drift(build: BuildFolder, tmp_path: Path) -> None:
    kinds = [kind for kind in USER_DATA if kind != "compressed multipart"]  # the service has texts
    boots = booted(build, tmp_path, [(GIVEN, 0, USER_DATA[kind].decode(), "") for kind in kinds])
    for kind, boot in zip(kinds, boots, strict=True):
        assert (kind, boot["drift"]) == (kind, [])
        assert "/srv/data" in boot["said"], (kind, boot["said"])
