"""What is left in a sealed tree: each of some fifty secrets and leftovers is named, and a clean
tree has none."""

from __future__ import annotations

import base64
import bz2
import gzip
import hashlib
import lzma
import os
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.core.errors import StageFailed
from goldenami.local.tree import residue, sealed
from goldenami.model.roles import role_files
from goldenami.model.roles.role_order import ROLE_ORDER
from support import trees
from support.builds.tools import ROOT
from support.security import canaries
from support.security.secret_lines import PLANTED

BROUGHT = [
    path
    for role in ROLE_ORDER
    for path in role_files.brought(ROOT, role, {"cuda_variant": "toolkit"})
]
"""What our roles bring, with all of CUDA."""
OWNED = (
    "usr/bin/bash",
    "usr/share/doc/bash/README",
    "usr/lib/python3/app.py",
    "etc/ssh/ssh_config",
)
HOSTS = (
    "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"
    "ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
)
CLEAN = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nhub:x:1001:1001::/srv/hub:/bin/sh\n",
    "etc/shadow": "root:!*:1:0:9:7:::\n",
    "etc/shadow-": "root:!*:1:0:9:7:::\n",
    "etc/.pwd.lock": "",
    "etc/gshadow": "root:!::\n",
    "etc/machine-id": "",
    "etc/hosts": HOSTS,
    "etc/resolv.conf": "",
    "root/.bashrc": "umask 022\n",
    "etc/chrony/chrony.conf": "keyfile /etc/chrony/chrony.keys\n",
    "etc/docker/daemon.json": '{"live-restore": true}\n',
    "etc/sysctl.d/60-golden.conf": "net.ipv4.tcp_congestion_control = bbr\n",
    "boot/initrd.img-6.12.0": "x",
    "usr/lib/python3/__pycache__/app.cpython-313.pyc": "x",
    "etc/tool/tool.conf": "token_lifetime = 86400\n",
    "var/lib/dpkg/info/bash.postinst": "#!/bin/sh\ntouch /etc/tool/tool.conf\n",
    "srv/hub/.profile": "umask 077\n",
    "opt/ml/FRAMEWORKS.json": "{}",
    "etc/environment": "PATH=/usr/bin\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in CLEAN.items():
        plant(tmp_path, name, text)
    for name in OWNED:
        plant(tmp_path, name, "as packaged\n")
        os.utime(tmp_path / name, (1, 1))
    plant(tmp_path, "var/lib/dpkg/info/bash.list", "/.\n" + "".join(f"/{name}\n" for name in OWNED))
    return tmp_path


def plant(tree: Path, name: str, text: str) -> None:
    (tree / name).parent.mkdir(parents=True, exist_ok=True)
    (tree / name).write_text(text, encoding="latin-1")


def complaints(tree: Path) -> str:
    try:
        sealed.check(tree, ROOT / "roles/seal/files/seal.py", BROUGHT)
    except StageFailed as error:
        return error.tail
    return ""


def test_a_sealed_tree_has_none(tree: Path) -> None:
    assert complaints(tree) == ""
    plant(tree, "srv/hub/notebook.ipynb", "{}")  # a home has what skel has, wherever it is
    assert complaints(tree) == "home: /srv/hub/notebook.ipynb"


@pytest.mark.parametrize("kinds", [canaries.KNOWN, canaries.OTHERS], ids=["known", "others"])
def test_each_of_them_is_named(tree: Path, kinds: dict[str, str]) -> None:
    for name, text in kinds.items():
        plant(tree, name, text)
    said = complaints(tree)
    assert [name for name in kinds if not _is_named(name, said)] == []
    assert len(kinds) >= 15


def _is_named(name: str, said: str) -> bool:
    """Whether a line is about the file, or about a folder that goes with all that is in it."""
    paths = [
        f"/{name}",
        *(f"/{folder}" for folder in map(str, Path(name).parents) if folder != "."),
    ]
    return any(re.search(rf": {re.escape(path)}( \(.*\))?$", said, re.MULTILINE) for path in paths)


def test_a_user_of_the_definition_has_a_home_and_keys(tree: Path) -> None:
    """A home below /home is its own, not a part of /home; its keys are those of a role's task."""
    with (tree / "etc/passwd").open("a", encoding="utf-8") as accounts:
        accounts.write("admin:x:2000:2000::/home/admin:/bin/bash\n")
    plant(tree, "home/admin/.bashrc", "# as in skel\n")
    plant(tree, "etc/ssh/keys.d/admin", canaries.KNOWN["root/.ssh/authorized_keys"])
    keys = "/etc/ssh/keys.d/admin"
    assert residue.find(tree, [*BROUGHT, "/etc/ssh/**"]) == [f"authorized key: {keys}"]
    assert residue.find(tree, [*BROUGHT, keys]) == []
    plant(tree, "home/admin/notes", "")
    assert residue.find(tree, [*BROUGHT, keys]) == ["home: /home/admin/notes"]


def test_a_package_s_file_is_read_where_it_is_not_as_packaged(tree: Path) -> None:
    """The package's digest says so; times do not, since programs keep them."""
    key, name = canaries.KNOWN["opt/app/key.pem"], "usr/share/doc/bash/README"
    plant(tree, name, key)
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    plant(tree, "var/lib/dpkg/info/bash.md5sums", f"{digest}  {name}\n")
    assert residue.find(tree, BROUGHT) == [], "examples in documentation are the package's own"
    plant(tree, name, f"{key}# changed\n")
    os.utime(tree / name, (1, 1))
    assert residue.find(tree, BROUGHT) == [f"private key: /{name}"]
    (tree / "var/lib/dpkg/info/bash.md5sums").unlink()
    assert residue.find(tree, BROUGHT) == [f"private key: /{name}"], "a package without digests"
    plant(tree, name, "as packaged\n")
    plant(tree, "etc/ssh/ssh_config", key)
    plant(tree, "var/lib/dpkg/info/bash.md5sums", f"{digest}  etc/ssh/ssh_config\n")
    assert residue.find(tree, BROUGHT) == ["private key: /etc/ssh/ssh_config"], (
        "all of /etc is read"
    )


def test_a_wheel_s_file_is_read_where_its_record_has_another_digest(tree: Path) -> None:
    site = "opt/ml/one/lib/python3.13/site-packages"
    text = canaries.KNOWN["opt/app/key.pem"]
    digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    plant(tree, f"{site}/demo/test.pem", text)
    record = f"demo/test.pem,sha256={digest},{len(text)}\ndemo-1.dist-info/RECORD,,\n"
    plant(tree, f"{site}/demo-1.dist-info/RECORD", record)
    assert residue.find(tree, BROUGHT) == [], "a test's key is the wheel's own"
    plant(tree, f"{site}/demo/test.pem", f"{text}# changed\n")
    os.utime(tree / site / "demo/test.pem", (1, 1))
    assert residue.find(tree, BROUGHT) == [f"private key: /{site}/demo/test.pem"]


def test_a_diverted_file_has_its_package_s_digest(tree: Path) -> None:
    key = canaries.KNOWN["opt/app/key.pem"]
    digest = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
    plant(tree, "var/lib/dpkg/info/bash.md5sums", f"{digest}  usr/bin/bash\n")
    plant(tree, "usr/bin/bash.real", key)
    assert residue.find(tree, BROUGHT) == ["nobody's file: /usr/bin/bash.real"]
    plant(tree, "var/lib/dpkg/diversions", "/usr/bin/bash\n/usr/bin/bash.real\nwrapper\n")
    assert residue.find(tree, BROUGHT) == []
    plant(tree, "usr/bin/bash.real", f"{key}# changed\n")
    assert residue.find(tree, BROUGHT) == ["private key: /usr/bin/bash.real"]


NOBODYS = (
    "etc/systemd/system/golden-agent.service",
    "etc/golden.d/x",
    "etc/cron.d/golden",
    "etc/golden-notes",
    "etc/systemd/system/multi-user.target.wants/golden",
    "usr/local/bin/golden-x",
    "usr/local/libexec/golden-x",
    "usr/share/golden/x",
    "var/lib/golden/x",
    "etc/sudoers.d/61-golden",
    "etc/profile.d/golden.sh",
    "etc/default/x/y",
    "etc/apt/apt.conf.d/x/y",
    "etc/modules-load.d/x/y",
    "boot/initrd.img-1/x",
    "etc/initramfs-tools/hooks/x",
    "etc/pam.d/common-x/y",
    "opt/ml/bin/x/y",
    "opt/ml/one/bin/x/y",
    "usr/lib/python3/__pycache__/gone.cpython-313.pyc",
)
"""Names like a role's, a folder deeper than one, byte code without its module."""


def test_what_no_package_and_no_role_brings_is_nobody_s(tree: Path) -> None:
    for path in NOBODYS:
        plant(tree, path, "x")
    assert residue.find(tree, BROUGHT) == sorted(f"nobody's file: /{path}" for path in NOBODYS)


def test_the_roles_own_files_are_declared(tree: Path) -> None:
    """Each path with `golden` that a role's tree mirrors or its tasks name."""
    paths = set[str]()
    for path in trees.scanned(80, ROOT, "roles/*/*/**/*golden*"):
        _, _, kind, *names = path.relative_to(ROOT).parts
        if kind in ("files", "templates") and names[0] in ("etc", "usr") and path.is_file():
            paths.add("/".join(names).removesuffix(".j2"))
    for tasks in trees.scanned(55, ROOT, "roles/*/tasks/*.yml"):
        found = re.findall(
            r"^\s+(?:dest|path): \"?/?((?:etc|usr)/[\w./-]*golden[\w./-]*)\"?$",
            tasks.read_text(encoding="utf-8"),
            re.MULTILINE,
        )
        paths.update(found)
    paths -= {
        "etc/systemd/system/60-golden-fast-boot.conf",
        "etc/systemd/system/engine.d/60-golden.conf",
    }
    for name in paths:
        plant(tree, name, "x")
    assert residue.find(tree, BROUGHT) == []
    assert len(paths) >= 60, "the roles have more"


PASSWORD = f"DB_PASSWORD={canaries.noise('places', 20)}\n"


def test_a_secret_in_a_name_a_target_or_an_attribute_is_named(tree: Path) -> None:
    token = f"token=ghp_{canaries.noise('beside', 36)}"
    (tree / "opt" / token).mkdir()
    (tree / "etc/tool/lock").symlink_to(token)
    os.setxattr(tree / "usr/bin/bash", "user.login", token.encode())
    os.setxattr(tree / "usr/lib/python3", "user.login", token.encode())
    beside = "GitHub token in its name, target or attributes"
    assert residue.find(tree, BROUGHT) == [
        f"{beside}: /etc/tool/lock",
        f"{beside}: /opt/{token}",
        f"{beside}: /usr/bin/bash",
        f"{beside}: /usr/lib/python3",
    ]


def test_a_secret_anywhere_in_a_large_text_is_named(tree: Path) -> None:
    plant(tree, "etc/tool/tool.conf", "# comment\n" * 400_000 + PASSWORD + "# comment\n" * 400_000)
    assert residue.find(tree, BROUGHT) == ["a value of something secret: /etc/tool/tool.conf"]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zlib.compress])
def test_a_compressed_file_is_read_where_it_is_not_as_packaged(
    tree: Path, pack: Callable[[bytes], bytes]
) -> None:
    name, packed = "usr/share/doc/bash/README", pack(PASSWORD.encode())
    digest = hashlib.md5(packed, usedforsecurity=False).hexdigest()
    plant(tree, "var/lib/dpkg/info/bash.md5sums", f"{digest}  {name}\n")
    plant(tree, name, packed.decode("latin-1"))
    assert residue.find(tree, BROUGHT) == []
    plant(tree, "var/lib/dpkg/info/bash.md5sums", f"{'0' * 32}  {name}\n")
    assert residue.find(tree, BROUGHT) == [f"a value of something secret: /{name}"]


def test_what_is_appended_to_a_compressed_stream_is_read(tree: Path) -> None:
    """As to an initramfs, whose own files come from the tree."""
    for before in (gzip.compress(bytes(4096)), b"\x28\xb5\x2f\xfd" + bytes(range(256)) * 16):
        appended = before + b"070701\0etc/app.conf\0\0" + PASSWORD.encode() + b"\0\0"
        for data in (
            appended,
            before + gzip.compress(PASSWORD.encode()) if before[:1] == b"\x1f" else appended,
        ):
            plant(tree, "boot/initrd.img-6.12.0", data.decode("latin-1"))
            assert residue.find(tree, BROUGHT) == [
                "a value of something secret: /boot/initrd.img-6.12.0"
            ]


@pytest.mark.parametrize("charset", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_text_of_two_bytes_a_character_is_read(tree: Path, charset: str) -> None:
    plant(tree, "etc/tool/tool.conf", f"x = 1\n{PASSWORD}".encode(charset).decode("latin-1"))
    assert residue.find(tree, BROUGHT) == ["a value of something secret: /etc/tool/tool.conf"]


def test_a_database_that_no_package_has_is_read(tree: Path) -> None:
    plant(tree, "etc/tool/tool.conf", "SQLite format 3\0\x10" + "\0" * 99 + PASSWORD + "\0\xff")
    assert residue.find(tree, BROUGHT) == ["a value of something secret: /etc/tool/tool.conf"]


def test_an_answer_that_debconf_keeps_secret_is_named(tree: Path) -> None:
    name = "var/cache/debconf/passwords.dat"
    text = "Name: passwd/root-password\nTemplate: passwd/root-password\n{}Owners: passwd\n\n"
    plant(tree, name, text.format("Value: \n"))
    assert residue.find(tree, BROUGHT) == []
    plant(tree, name, text.format("Value: summer\n"))
    assert residue.find(tree, BROUGHT) == [f"a password of debconf: /{name}"]


def test_what_is_a_secret_is_found(tree: Path) -> None:
    """Anywhere in a line, and encoded; also in the middle of a file of a role."""
    name, missed = "etc/sysctl.d/60-golden.conf", []
    for kind, text in PLANTED.items():
        plant(tree, name, f"net.core.x = 1\n{text}net.core.y = 2\n")
        if not [line for line in residue.find(tree, BROUGHT) if f"/{name}" in line]:
            missed.append(kind)
    assert missed == []
