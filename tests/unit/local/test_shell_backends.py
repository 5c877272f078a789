"""testinfra's connections with one open shell: what testinfra's modules say over each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra
from goldenami.local.machine import shell_backends

LAST_WORD = '#!/bin/sh\nfor word; do :; done\nexec sh -c "$word"\n'
"""A way in that leads to this machine: its last argument is what runs there."""
AS_USER = '#!/bin/sh\n[ "$1" != -n ] || shift\nexport AS="$2"\nshift 2\nexec "$@"\n'
"""sudo that only says who it would become."""
WAYS = {
    "local": "local://",
    "chroot": "/?connection=chroot",
    "ssh": "ssh://one@machine:2222",
    "docker": "docker://box",
    "podman": "podman://one@box",
}


@pytest.fixture
def ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """testinfra with these backends, and a program for each way in."""
    monkeypatch.setattr(testinfra.backend, "BACKENDS", dict(testinfra.backend.BACKENDS))
    monkeypatch.setattr(testinfra.host.Host, "_host_cache", {})
    shell_backends.install()
    for name, text in {
        **dict.fromkeys(("ssh", "docker", "podman"), LAST_WORD),
        "sudo": AS_USER,
    }.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    yield
    shell_backends.close()


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_testinfra_s_modules_work_over_one_shell(way: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_bytes(b"caf\xc3\xa9\0\xff")
    (tmp_path / "a file").chmod(0o640)
    name, _, options = way.partition("?connection=")
    host: Any = testinfra.get_host(name, **({"connection": options} if options else {}))
    assert {host.check_output("echo $$") for _ in range(2)} == {host.check_output("echo $$")}
    found = host.file(f"{tmp_path}/a file")
    assert (found.exists, found.mode, found.content) == (True, 0o640, b"caf\xc3\xa9\0\xff")
    assert not host.file("/nonexistent").exists
    assert host.sysctl("kernel.ostype") == "Linux"
    assert host.mount_point("/proc").filesystem == "proc"
    assert host.run("exit %s", "3").rc == 3
    with pytest.raises(AssertionError, match=r"exit code 1 for `echo wrong >&2; false`: wrong\n"):
        host.check_output("echo wrong >&2; false")


@pytest.mark.usefixtures("ways")
def test_each_user_of_sudo_has_a_shell() -> None:
    host: Any = testinfra.get_host("local://")
    own = host.check_output("echo $$")
    with host.sudo():
        root = host.check_output("echo $AS $$")
        with host.sudo("nobody"):
            assert host.check_output("echo $AS") == "nobody"
        assert host.check_output("echo $AS $$") == root
    with host.sudo("nobody"):
        nobody = host.check_output("echo $AS $$")
    assert (root.split()[0], nobody.split()[0]) == ("root", "nobody")
    assert len({own, root.split()[1], nobody.split()[1]}) == 3
    assert host.check_output("echo $$") == own


@pytest.mark.usefixtures("ways")
def test_who_is_no_root_asks_as_root_by_sudo(tmp_path: Path) -> None:
    host: Any = testinfra.get_host("local://")
    (tmp_path / "id").write_text("#!/bin/sh\n[ $AS ] && echo 0 || echo 1000\n", encoding="utf-8")
    (tmp_path / "id").chmod(0o755)
    root: Any = shell_backends.as_root(host)
    assert (root.check_output("echo $AS"), host.check_output("echo $AS")) == ("root", "")
    assert root.file("/").exists and shell_backends.as_root(host) is root
    assert shell_backends.as_root(root) is root
