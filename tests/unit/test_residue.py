"""What is left in a sealed tree: each of some hundred secrets and leftovers is named, and a clean tree has none."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from goldenami.core.errors import StageFailed
from goldenami.local.tree import residue, sealed, secret_patterns
from support.builds.tools import ROOT
from support.security import canaries
from support.security.canaries import noise

OWNED = ("usr/bin/bash", "usr/share/doc/bash/README", "usr/lib/python3/app.py", "etc/ssh/ssh_config")
HOSTS = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\nff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n"
CLEAN = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nhub:x:1001:1001::/srv/hub:/bin/sh\n",
    "etc/shadow": "root:!*:1:0:9:7:::\n",
    "etc/gshadow": "root:!::\n", "etc/machine-id": "",
    "etc/hosts": HOSTS, "etc/resolv.conf": "",
    "root/.bashrc": "umask 022\n",
    "etc/chrony/chrony.conf": "keyfile /etc/chrony/chrony.keys\n",
    "etc/docker/daemon.json": '{"live-restore": true}\n',
    "etc/sysctl.d/60-golden.conf": "net.ipv4.tcp_congestion_control = bbr\n", "boot/initrd.img-6.12.0": "x",
    "usr/lib/python3/__pycache__/app.cpython-313.pyc": "x", "etc/tool/tool.conf": "token_lifetime = 86400\n",
    "var/lib/dpkg/info/bash.postinst": "#!/bin/sh\ntouch /etc/tool/tool.conf\n", "srv/hub/.profile": "umask 077\n",
    "opt/ml/FRAMEWORKS.json": "{}", "etc/environment": "PATH=/usr/bin\n",
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
        sealed.check(tree, ROOT / "roles/seal/files/seal.py")
    except StageFailed as error:
        return error.tail
    return ""


def test_a_sealed_tree_has_none(tree: Path) -> None:
    assert complaints(tree) == ""


@pytest.mark.parametrize("kinds", [canaries.KNOWN, canaries.OTHERS], ids=["known", "others"])
def test_each_of_them_is_named(tree: Path, kinds: dict[str, str]) -> None:
    for name, text in kinds.items():
        plant(tree, name, text)
    said = complaints(tree)
    assert [name for name in kinds if not _is_named(name, said)] == []
    assert len(kinds) >= 30


def _is_named(name: str, said: str) -> bool:
    """Whether a line is about the file, or about a folder that goes with all that is in it."""
    paths = [f"/{name}", *(f"/{folder}" for folder in map(str, Path(name).parents) if folder != ".")]
    return any(re.search(rf": {re.escape(path)}( \(.*\))?$", said, re.MULTILINE) for path in paths)


def test_a_package_s_file_is_read_where_it_was_changed_after_unpacking(tree: Path) -> None:
    key = canaries.KNOWN["opt/app/key.pem"]
    plant(tree, "usr/share/doc/bash/README", key)
    os.utime(tree / "usr/share/doc/bash/README", (1, 1))
    assert residue.find(tree) == [], "examples in documentation are the package's own"
    os.utime(tree / "usr/share/doc/bash/README")
    assert residue.find(tree) == ["private key: /usr/share/doc/bash/README"]
    plant(tree, "etc/ssh/ssh_config", key)
    os.utime(tree / "etc/ssh/ssh_config", (1, 1))
    assert "private key: /etc/ssh/ssh_config" in residue.find(tree), "all of /etc is read"


def test_byte_code_without_its_module_is_nobody_s(tree: Path) -> None:
    plant(tree, "usr/lib/python3/__pycache__/gone.cpython-313.pyc", "x")
    assert residue.find(tree) == ["nobody's file: /usr/lib/python3/__pycache__/gone.cpython-313.pyc"]


def test_a_diverted_file_is_still_its_package_s(tree: Path) -> None:
    plant(tree, "usr/bin/bash.real", "x")
    assert residue.find(tree) == ["nobody's file: /usr/bin/bash.real"]
    plant(tree, "var/lib/dpkg/diversions", "/usr/bin/bash\n/usr/bin/bash.real\nwrapper\n")
    assert residue.find(tree) == []


def test_a_home_has_what_skel_has_wherever_it_is(tree: Path) -> None:
    plant(tree, "srv/hub/notebook.ipynb", "{}")
    assert residue.find(tree) == ["home: /srv/hub/notebook.ipynb"]


@pytest.mark.parametrize("text", [
    "password = ${DB_PASSWORD}", "token_lifetime = 86400", "ssl_key = /etc/ssl/private/x.key", "# password: example",
    "key_buffer_size = 16M", "secret = changeme", "http://user:<password>@host/", "git clone ssh://git@host/x",
    "PasswordAuthentication no", "authorizedkeysfile .ssh/authorized_keys", "-----BEGIN CERTIFICATE-----\nMIIB",
    "url = https://example.org:8080/path@2", "KeyType = ed25519", "sk-learn", "hf_transfer", "keyserver hkps.pool",
])
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert secret_patterns.found(f"x\n{text}\n".encode()) == ""


@pytest.mark.parametrize("text", [
    f"password = {noise('a', 14)}", f"export API_TOKEN=\"{noise('b', 24)}\"", f"secret_key: {noise('c', 30)}",
    f"db+psycopg://ada:{noise('d', 10)}@db.example/x", f"{{\"refresh_token\": \"{noise('e', 30)}\"}}",
])
def test_what_is_one_is_found(text: str) -> None:
    assert secret_patterns.found(f"x\n{text}\n".encode()) != ""
