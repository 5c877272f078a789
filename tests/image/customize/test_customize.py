"""Each thing that a company asked for is in the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

FILES = Path.cwd() / "roles/customize/files"
"""Of the repository that the tests are started in."""
PROXIED = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")
"""Programs read one spelling or the other."""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"


@pytest.mark.no_boot
def test_packages_are_installed(host: Any, lock: dict[str, Any]) -> None:
    missing, other = list[str](), dict[str, str]()
    for text in lock["customize_packages"]:
        name, _, version = text.partition("=")
        if not host.package(name).is_installed:
            missing.append(name)
        elif version and host.package(name).version != version:
            other[text] = host.package(name).version
    assert (missing, other) == ([], {})


@pytest.mark.no_boot
def test_packages_that_are_left_out_are_absent(host: Any, lock: dict[str, Any]) -> None:
    """Wholly: of one that is only removed, dpkg keeps a record with its configuration files."""
    absent = " ".join(lock["customize_packages_absent"])
    if not absent:
        pytest.skip("not asked: customize_packages_absent is empty")
    known = host.run(f"dpkg-query -W -f '${{db:Status-Status}} ${{Package}}\n' {absent}")
    found = [line for line in known.stdout.splitlines() if not line.startswith("not-installed ")]
    assert found == []


@pytest.mark.no_boot
def test_files_are_there_as_they_are_in_the_checkout(host: Any, lock: dict[str, Any]) -> None:
    for wanted in lock["customize_files"]:
        found = host.file(wanted["path"])
        assert found.content == (FILES / wanted["source"]).read_bytes(), wanted["path"]
        assert found.user == wanted.get("owner", "root"), wanted["path"]
        assert found.mode == int(wanted.get("mode", "0644"), 8), wanted["path"]


@pytest.mark.no_boot
def test_files_by_address_are_there(host: Any, lock: dict[str, Any]) -> None:
    for wanted in lock["customize_downloads"]:
        if "package" in wanted:
            assert host.package(wanted["package"]).version == wanted["version"]
        if "path" in wanted:
            found = host.file(wanted["path"])
            assert found.sha256sum == wanted["sha256"], wanted["path"]
            owner, mode = (found.user, found.group), f"{found.mode:04o}"
            assert (owner, mode) == ((wanted["owner"], wanted["group"]), wanted["mode"])
        for name, digest in wanted.get("sample", {}).items():
            assert host.file(f"{wanted['unpack']}/{name}").sha256sum == digest, name


@pytest.mark.no_boot
def test_certificates_are_trusted(host: Any, lock: dict[str, Any]) -> None:
    bundle = host.file(BUNDLE).content_string
    for name in lock["customize_ca_certificates"]:
        assert (FILES / name).read_text(encoding="utf-8").strip() in bundle, name


@pytest.mark.no_boot
def test_users_have_their_groups_and_no_password(host: Any, lock: dict[str, Any]) -> None:
    assert [name for name in lock["customize_groups"] if not host.group(name).exists] == []
    for wanted in lock["customize_users"]:
        found = host.user(wanted["name"])
        assert found.exists and found.shell == wanted.get("shell", "/bin/bash"), wanted["name"]
        assert host.file(found.shell).exists, wanted["name"]
        assert found.uid == wanted.get("uid", found.uid), wanted["name"]
        assert set(wanted.get("groups", [])) <= set(found.groups), wanted["name"]
        assert found.password.startswith("!"), wanted["name"]


@pytest.mark.no_boot
def test_users_may_run_what_they_are_given(host: Any, lock: dict[str, Any]) -> None:
    for wanted in lock["customize_users"]:
        allowed = host.check_output(f"sudo -n -l -U {wanted['name']}")
        for command in wanted.get("sudo", []):
            assert f"(ALL : ALL) NOPASSWD: {command}" in allowed, wanted["name"]


def test_sshd_takes_their_keys(host: Any, lock: dict[str, Any]) -> None:
    for wanted in lock["customize_users"]:
        name, keys = wanted["name"], wanted.get("ssh_keys", [])
        found = host.file(f"/etc/ssh/keys.d/{name}").content_string
        assert found.splitlines() == (keys or [""]), name
        if keys:
            read = host.check_output(f"ssh-keygen -l -f /etc/ssh/keys.d/{name}")
            assert len(read.splitlines()) == len(keys), name
        asked = f"mkdir -p /run/sshd; /usr/sbin/sshd -T -C user={name},host=x,addr=127.0.0.1"
        assert "/etc/ssh/keys.d/%u" in host.check_output(asked), name


@pytest.mark.no_boot
def test_apt_and_logins_have_the_proxy(host: Any, lock: dict[str, Any]) -> None:
    proxy = lock["customize_proxy"]
    if not proxy:
        pytest.skip("not asked: customize_proxy is empty")
    asked = host.check_output("apt-config dump Acquire")
    for scheme in ("http", "https"):
        assert f'Acquire::{scheme}::Proxy "{proxy}";' in asked
    told = host.file("/etc/environment").content_string.splitlines()
    assert {f"{name}={proxy}" for name in PROXIED} <= set(told)
    _goes_past(told, lock)


@pytest.mark.usefixtures("needs_boot")
def test_services_have_the_proxy(host: Any, lock: dict[str, Any]) -> None:
    """A unit that is started for this says what it has: a service may write over what /proc shows
    of its environment, as sshd does."""
    proxy = lock["customize_proxy"]
    if not proxy:
        pytest.skip("not asked: customize_proxy is empty")
    told = host.check_output("systemd-run --quiet --pipe --wait --collect env").splitlines()
    assert {f"{name}={proxy}" for name in PROXIED} <= set(told)
    _goes_past(told, lock)


def _goes_past(environment: list[str], lock: dict[str, Any]) -> None:
    """The metadata service is asked directly, and what the definition names."""
    wanted = {"169.254.169.254", "127.0.0.1", *lock["customize_no_proxy"]}
    for name in ("no_proxy", "NO_PROXY"):
        line = next(one for one in environment if one.startswith(f"{name}="))
        assert wanted <= set(line.partition("=")[2].split(",")), name


@pytest.mark.usefixtures("needs_boot")
def test_apt_asks_the_mirrors(host: Any, lock: dict[str, Any]) -> None:
    """As cloud-init wrote it at this boot."""
    if not lock["customize_apt_mirror"]:
        pytest.skip("not asked: customize_apt_mirror is empty")
    said = host.check_output("cat /etc/apt/sources.list /etc/apt/sources.list.d/*.sources || true")
    lines = [line.split() for line in said.splitlines() if not line.startswith("#")]
    found = {word.rstrip("/") for line in lines for word in line if "://" in word}
    wanted = {lock["customize_apt_mirror"], lock["customize_apt_security_mirror"]} - {""}
    assert {one.rstrip("/") for one in wanted} <= found
    if lock["customize_apt_security_mirror"]:
        assert len(found) == len(wanted)


@pytest.mark.no_boot
def test_pip_asks_the_index(host: Any, lock: dict[str, Any]) -> None:
    wanted = lock["customize_pip_index_url"]
    if not wanted:
        pytest.skip("not asked: customize_pip_index_url is empty")
    said = host.file("/etc/pip.conf").content_string
    assert f"index-url = {wanted}" in said.splitlines()


@pytest.mark.no_boot
def test_time_zone_is_set(host: Any, lock: dict[str, Any]) -> None:
    wanted = lock["customize_timezone"]
    if wanted:
        assert host.file("/etc/localtime").linked_to == f"/usr/share/zoneinfo/{wanted}"


@pytest.mark.no_boot
def test_locale_is_set_and_works(host: Any, lock: dict[str, Any]) -> None:
    wanted = lock["customize_locale"]
    for path in ("/etc/default/locale", "/etc/locale.conf"):
        assert f"LANG={wanted}" in host.file(path).content_string.splitlines(), path
    assert host.check_output(f"LC_ALL={wanted} locale charmap 2>&1") == "UTF-8"


def test_units_are_on_or_off(host: Any, lock: dict[str, Any]) -> None:
    for name in lock["customize_units_enabled"]:
        assert host.service(name).is_enabled, name
    for name in lock["customize_units_disabled"]:
        # One that os_updates masked is off, too.
        state = host.run(f"systemctl is-enabled {name}").stdout.strip()
        assert state in ("disabled", "masked"), name
