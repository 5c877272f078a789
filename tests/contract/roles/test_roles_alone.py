"""Each role by itself: from the collection that the wheel's files make, by a playbook of a
repository that is not ours, over the network, on a stock Debian 13 that knows of no lock.

The machine is a container of Podman, a new one of the same image for each role. Its packages come
from this machine's mirrors.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from goldenami.packages import mirrors
from support import trees
from support.aws import hub
from support.aws.emulator import Emulator, environment, running
from support.builds.podman import Podman
from support.builds.tools import ROOT, find
from support.waiting import until

pytestmark = pytest.mark.long

SOURCES = """\
Types: deb
URIs: {debian}
Suites: trixie trixie-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp

Types: deb
URIs: {debian-security}
Suites: trixie-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.pgp
"""
INSTALL = """\
apt-get update -q
apt-get install --yes -q --no-install-recommends dbus openssh-server python3 sudo systemd-sysv
echo "ListenAddress 127.0.0.1:2022" >/etc/ssh/sshd_config.d/test.conf
apt-get clean
rm -rf /var/lib/apt/lists/*
mkdir -p -m 700 /root/.ssh
cat >/root/.ssh/authorized_keys
"""
LEFT_OF_A_BAKE = """\
find / -xdev \\( -path '*/policy-rc.d' -o -path '/etc/apt/*golden*bake*' \
  -o -path '/etc/dpkg/*golden*' -o -path '*golden-refuse*' -o -lname '*golden-refuse*' \\)
grep -rlsi 'proxy\\|file:/' /etc/apt
true
"""
"""Lists what keeps services or packages from a machine, and sources and proxies of a bake."""
NON_FREE = ("cuda", "nvidia_driver")
"""Roles whose packages are in components that a stock Debian does not have in its sources."""
GIVEN: dict[str, dict[str, Any]] = {"jupyterhub": {"jupyterhub_users": ["nobody"]}}
"""What no role can know: who may log in."""
USER = "ann"
PRIVILEGED = ("--cap-add", "SYS_ADMIN,SYS_RESOURCE")
"""A hub's unit sees a part of the file system alone, and a user's machine mounts the home."""
LINK = 'mkdir -p /dev/disk/by-id; ln -s "$1" "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_$2"'
LOOK = """\
systemctl is-active jupyterhub || true
cd ~ann
findmnt --noheadings --output SOURCE,FSTYPE --target .
stat --format=%a .
stat --format='%n %u' . .bashrc *.txt
"""
NEEDS_A_LOCK = {"frameworks": "frameworks_installed", "provenance": "provenance_record"}
"""Roles that refuse to run without what a lock says, and the variable that they name."""
OF_A_BAKE = ("seal", "immutable")
"""Roles that make a machine an image: afterwards nobody can log in, or its disk has another
layout."""
ROLES = sorted(path.name for path in trees.scanned(19, ROOT, "roles/*/"))


class Machines(Podman):
    """A stock Debian 13 as an image of Podman, and containers of it, in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._make()

    def _make(self) -> None:
        uris = mirrors.locate(["debian", "debian-security"])
        sources, tree = self.folder / "debian.sources", self.folder / "debian.tar"
        sources.write_text(SOURCES.format(**uris), encoding="utf-8")
        subprocess.run(
            [
                find("mmdebstrap"),
                "--variant=minbase",
                "--include=ca-certificates",
                "--quiet",
                "trixie",
                str(tree),
                str(sources),
            ],
            check=True,
        )
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "key")],
            check=True,
        )
        self.podman("import", "--quiet", str(tree), "debian:13")
        tree.unlink()
        self.podman(
            "run",
            "--interactive",
            "--name",
            "first",
            "localhost/debian:13",
            "sh",
            "-ec",
            INSTALL,
            stdin=(self.folder / "key.pub").read_text(encoding="utf-8"),
        )
        self.podman("commit", "--quiet", "first", "stock")
        self.podman("rm", "first")

    def start(self, name: str, image: str = "localhost/stock", *options: str) -> None:
        self.podman(
            "run", "--detach", "--name", name, "--systemd", "always", *options, image, "/sbin/init"
        )
        asked = ("exec", name, "systemctl", "is-system-running")
        until(
            "a running systemd",
            lambda: self.ended(*asked).stdout.strip() in ("running", "degraded"),
        )

    def play(self, project: Path, name: str) -> tuple[int, str]:
        # This machine's network is the container's, too, and its ssh.service may not have started.
        self.podman("exec", name, "mkdir", "-p", "/run/sshd")
        way_in = f"podman exec --interactive {name} /usr/sbin/sshd -i"
        inventory = (
            f"{name} ansible_user=root ansible_ssh_private_key_file={self.folder}/key "
            f"ansible_ssh_common_args='-o ProxyCommand=\"{way_in}\" -o ControlMaster=no'\n"
        )
        (project / f"{name}.ini").write_text(inventory, encoding="utf-8")
        env = {
            **self.env,
            "ANSIBLE_HOST_KEY_CHECKING": "False",
            "ANSIBLE_CONFIG": "",
            "ANSIBLE_COLLECTIONS_PATH": str(project / "collections"),
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            [find("ansible-playbook"), "-i", f"{name}.ini", f"{name}.yml"],
            cwd=project,
            env=env,
            text=True,
            capture_output=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    made = Machines(tmp_path_factory.mktemp("machines"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of somebody else's, with the collection from the wheel."""
    folder = tmp_path_factory.mktemp("company")
    wheel = ["wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "--quiet", *wheel, str(ROOT)], check=True)
    shutil.unpack_archive(next(folder.glob("*.whl")), folder / "wheel", "zip")
    galaxy = [find("ansible-galaxy"), "collection"]
    data = str(folder / "wheel/goldenami/data")
    subprocess.run([*galaxy, "build", "--output-path", str(folder), data], check=True)
    (file,) = folder.glob("goldenami-ml_images-*.tar.gz")
    subprocess.run(
        [*galaxy, "install", "--offline", "-p", str(folder / "collections"), str(file)], check=True
    )
    shutil.rmtree(folder / "wheel")
    return folder


def _playbook(project: Path, role: str, components: str = "main", **variables: Any) -> None:
    play = {
        "hosts": "all",
        "vars": GIVEN.get(role, {}) | variables,
        "pre_tasks": [
            {
                "name": "Choose the archive's components",
                "ansible.builtin.replace": {
                    "path": "/etc/apt/sources.list.d/0000debian.sources",
                    "regexp": "^Components: .*",
                    "replace": f"Components: {components}",
                },
            }
        ],
        "roles": [f"goldenami.ml_images.{role}"],
    }
    (project / f"{role}.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")


@pytest.mark.parametrize("role", [role for role in ROLES if role not in OF_A_BAKE])
def test_a_role_by_itself(role: str, machines: Machines, project: Path) -> None:
    components = "main contrib non-free non-free-firmware" if role in NON_FREE else "main"
    _playbook(project, role, components)
    machines.start(role)
    status, said = machines.play(project, role)
    left = machines.ended("exec", role, "sh", "-c", LEFT_OF_A_BAKE).stdout
    machines.podman("rm", "--force", role)
    assert left.split() == [], "what only a bake may have"
    if role in NEEDS_A_LOCK:
        assert status == 2 and NEEDS_A_LOCK[role] in said, said
    else:
        assert status == 0, said


def test_a_machine_without_the_driver_s_archive_is_told(machines: Machines, project: Path) -> None:
    _playbook(project, "nvidia_driver")
    machines.start("nvidia_driver")
    status, said = machines.play(project, "nvidia_driver")
    machines.podman("rm", "--force", "nvidia_driver")
    assert (status, "components contrib, non-free" in " ".join(said.split())) == (2, True), said


def _write(machines: Machines, name: str, path: str, text: str) -> None:
    machines.podman(
        "exec",
        "--interactive",
        name,
        "sh",
        "-c",
        'mkdir -p "${1%/*}"; umask 077; cat >"$1"',
        "sh",
        path,
        stdin=text,
    )


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Emulator]:
    """An empty account, of this machine's loopback."""
    with running() as emulator:
        for name, value in environment(emulator.url, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield emulator


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "disk"
    file.touch()
    os.truncate(file, 64 << 20)
    device = subprocess.run(
        [find("losetup"), "--find", "--show", str(file)], check=True, text=True, capture_output=True
    ).stdout.strip()
    yield device
    subprocess.run([find("losetup"), "--detach", device], check=True)


def _boot(machines: Machines, machine: dict[str, Any], disk: str, folder: Path) -> None:
    """Boot what the hub has launched, and do what cloud-init and EC2 do."""
    shared, files = [], hub.told(machine)
    for number, file in enumerate(files):
        copy = folder / f"{machine['InstanceId']}-{number}"
        copy.write_text(file["content"], encoding="utf-8")
        copy.chmod(0o600)
        shared += ["--volume", f"{copy}:{file['path']}"]
    machines.start("server", "localhost/notebooks", "--device", disk, *PRIVILEGED, *shared)
    home = json.loads(files[0]["content"])["home"]
    until("an attached home", lambda: hub.holder(home) == machine["InstanceId"])
    machines.podman("exec", "server", "sh", "-ec", LINK, "sh", disk, home.replace("-", ""))


def test_a_hub_and_a_user_s_servers_on_machines_of_one_image(
    aws: Emulator, machines: Machines, project: Path, disk: str, tmp_path: Path
) -> None:
    """All of them boot; the account is the emulator's."""
    settings = hub.network(aws)
    _playbook(
        project,
        "jupyterhub",
        jupyterhub_users=[USER],
        jupyterhub_spawner="cluster",
        jupyterhub_cluster_image="debian-13-jupyterhub",
        jupyterhub_cluster_types=hub.TYPES,
    )
    machines.start("jupyterhub")
    status, said = machines.play(project, "jupyterhub")
    assert status == 0, said
    machines.podman("commit", "--quiet", "jupyterhub", "notebooks")
    machines.podman("rm", "--force", "jupyterhub")
    machines.start("hub", "localhost/notebooks", *PRIVILEGED)
    for path, text in hub.of_a_launch(settings).items():
        _write(machines, "hub", path, text)
    machines.podman(
        "exec",
        "hub",
        "sh",
        "-c",
        f"useradd -m {USER}; echo {USER}:word | chpasswd; "
        "systemctl daemon-reload; systemctl reset-failed; systemctl restart jupyterhub",
    )
    ann = hub.Browser(USER, "word")
    for count, kind in enumerate(reversed(hub.TYPES)):
        ann.choose(kind)
        [machine] = until("a machine", hub.live)
        assert machine["InstanceType"] == kind
        _boot(machines, machine, disk, tmp_path)
        until("ann's server", ann.has_server, poll_s=0.5)
        ann.save(f"{kind}.txt", "hello")
        found = machines.podman("exec", "server", "sh", "-ec", LOOK)
        owned = [".", ".bashrc", *(f"{each}.txt" for each in sorted(hub.TYPES[-count - 1 :]))]
        assert found.splitlines() == [
            "inactive",
            f"{disk} ext4",
            "700",
            *(f"{name} 2000" for name in owned),
        ]
        ann.stop()
        until("its end", lambda: not hub.live())
        machines.podman("rm", "--force", "server")
    machines.podman("rm", "--force", "hub")
