"""What a definition brings without a role: a vendor's repositories and files, locked and fetched
from loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.model.builds import lockfile
from goldenami.model.builds.lockfile import Lock
from support.debian import debrepo
from support.debian.lock_commands import IMAGE, edit, golden, lock_path
from support.debian.vendors import LOGIN, VARIABLE, VendorServer

pytestmark = pytest.mark.usefixtures("debian")
SECRETS = (LOGIN, LOGIN.partition(":")[2], "s3cr3t")


@pytest.fixture
def vendor(
    key: debrepo.Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[VendorServer]:
    made = VendorServer(tmp_path / "vendor", key)
    monkeypatch.setenv(VARIABLE, LOGIN)
    yield made
    made.close()


@pytest.fixture
def company(root: Path, vendor: VendorServer) -> Path:
    """A checkout whose image has a package of both repositories."""
    edit(root, "roles:\n", f"{vendor.repos()}roles:\n")
    edit(root, "  kernel:\n",
         "  kernel:\n  customize:\n    customize_packages: [company-tool]\n")
    return root


def locked(root: Path) -> Lock:
    done = golden(root, "lock", IMAGE)
    assert done.returncode == 0, done.stderr
    return lockfile.read(lock_path(root))[0]


def refused(root: Path, command: str = "lock") -> tuple[int, str]:
    """The exit code of a command, and the line that names the definition."""
    done = golden(root, command, IMAGE)
    assert "Traceback" not in done.stderr
    name = f"{IMAGE}.yml:"
    told = [line.partition(name)[2] for line in done.stderr.splitlines() if name in line]
    assert len(told) == 1, done.stderr
    return done.returncode, told[0]


def test_packages_of_a_repository_by_suites_and_of_one_behind_a_login(
    company: Path, vendor: VendorServer, tmp_path: Path,
) -> None:
    lock = locked(company)
    assert {name: (lock.packages[name].origin, lock.packages[name].version)
            for name in ("company-agent", "agent-data", "company-tool")} == {
        "company-agent": ("agent", "7.1-1"), "agent-data": ("agent", "7.1-1"),
        "company-tool": ("tool", "2.0-1")}
    suites = {suite.suite: suite for suite in lock.base.suites}
    assert {"trixie", "agent trixie", "tool"} <= suites.keys()
    assert suites["agent trixie"].sha256 != suites["trixie"].sha256
    step = next(step for step in lock.steps if "customize" in step.roles)
    assert set(step.packages) == {"company-agent", "agent-data", "company-tool"}
    assert golden(company, "check", IMAGE).returncode == 0
    assert_no_secret(tmp_path)


def assert_no_secret(folder: Path) -> None:
    """No file below `folder` holds the login: no lock, log, cache or configuration of apt."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in SECRETS), path


def test_another_machine_fetches_the_same_files_with_the_login(
    company: Path, vendor: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    locked(company)
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "other"))
    vendor.mirror.requests.clear()
    done = golden(company, "bake", IMAGE, "--fetch-only")
    assert done.returncode == 0, done.stderr
    assert any(path.startswith("/tool/company-tool") for path in vendor.mirror.requests)
    assert_no_secret(tmp_path)
    monkeypatch.delenv(VARIABLE)
    shutil.rmtree(tmp_path / "other/store")
    done = golden(company, "bake", IMAGE, "--fetch-only")
    assert (done.returncode, "the login of `tool` is missing: TOOL_LOGIN does" in done.stderr) == (
        2, True), done.stderr


def test_a_login_that_is_missing_or_wrong(
    company: Path, vendor: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    assert golden(company, "check", IMAGE).returncode == 0
    assert refused(company) == (2, "20: extra_repos.2.login: the login of `tool` is missing: "
                                   "TOOL_LOGIN does not hold `user:password`")
    monkeypatch.setenv(VARIABLE, "ann:other")
    done = golden(company, "lock", IMAGE)
    assert (done.returncode, "answered 401" in done.stderr) == (4, True), done.stderr
    assert not lock_path(company).exists()


def test_a_key_of_another_fingerprint(company: Path, key: debrepo.Key) -> None:
    edit(company, key.fingerprint, "A" * 40)
    code, told = refused(company)
    assert code == 2
    assert told.startswith("15: extra_repos.1.fingerprint: the key of the archive `agent` is "
                           f"{key.fingerprint}, not {'A' * 40} (http")


def test_a_repository_that_lacks_the_package(company: Path) -> None:
    edit(company, "[company-tool]", "[company-tool, compony-agent]")
    code, told = refused(company)
    assert (code, told) == (3, "25: roles.customize.customize_packages.2: no archive has the "
                               "package `compony-agent`: looked in debian, debian-security, "
                               "agent, tool")


def test_a_key_in_the_repository(company: Path, vendor: VendorServer, key: debrepo.Key) -> None:
    (company / "keys").mkdir()
    (company / "keys/agent.asc").write_text(key.public, encoding="utf-8")
    edit(company, f"{vendor.uri}/agent.asc", "keys/agent.asc")
    locked(company)
    assert "/agent.asc" not in vendor.mirror.requests
    assert str(company) not in lock_path(company).read_text(encoding="utf-8")
