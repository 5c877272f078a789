"""What a definition brings without a role: a vendor's repositories and files, locked and fetched
from loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.core.records import sha256_file
from goldenami.image.sbom import components
from goldenami.packages.store import Store
from goldenami.watch.watch_records import WatchRecord
from support.builds import sample_inputs
from support.debian import debrepo, vendors
from support.debian.lock_commands import IMAGE, edit, golden, lock_path, locked, refused
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
    edit(root, "  kernel:\n", "  kernel:\n  customize:\n    customize_packages: [company-tool]\n")
    return root


def test_packages_of_a_repository_by_suites_and_of_one_behind_a_login(
    company: Path,
    vendor: VendorServer,
    tmp_path: Path,
) -> None:
    lock = locked(company)
    assert {
        name: (lock.packages[name].origin, lock.packages[name].version)
        for name in ("company-agent", "agent-data", "company-tool")
    } == {
        "company-agent": ("agent", "7.1-1"),
        "agent-data": ("agent", "7.1-1"),
        "company-tool": ("tool", "2.0-1"),
    }
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
    company: Path,
    vendor: VendorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
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
        2,
        True,
    ), done.stderr


def test_a_login_that_is_missing_or_wrong(
    company: Path, vendor: VendorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    assert golden(company, "check", IMAGE).returncode == 0
    assert refused(company) == (
        2,
        "20: extra_repos.2.login: the login of `tool` is missing: "
        "TOOL_LOGIN does not hold `user:password`",
    )
    monkeypatch.setenv(VARIABLE, "ann:other")
    assert refused(company) == (
        2,
        f"20: extra_repos.2.login: {vendor.uri}/tool/key.gpg answered 401",
    )
    assert not lock_path(company).exists()


def test_an_index_that_the_login_may_not_read(company: Path, vendor: VendorServer) -> None:
    """Its key is a file of the repository, so that apt is the first to ask."""
    (company / "tool.asc").write_text(vendor.key.public, encoding="utf-8")
    edit(company, f"{vendor.uri}/tool/key.gpg", "tool.asc")
    vendor.mirror.logins["/tool/"] = "ann:other"
    code, told = refused(company)
    said = f"20: extra_repos.2.login: apt could not read the indexes: Failed to fetch {vendor.uri}"
    assert (code, told.startswith(said), "401" in told) == (2, True, True), told


@pytest.fixture
def rotated(company: Path, vendor: VendorServer) -> Iterator[debrepo.Key]:
    """The vendor's new key, which signs its repository after a lock cached the old one."""
    locked(company)
    new = debrepo.Key()
    vendor.agent.key = new
    vendor.agent.publish(date=debrepo.DATE + 1)
    (vendor.folder / "agent.asc").write_text(new.public, encoding="utf-8")
    yield new
    new.close()


def test_a_new_key_is_told_as_with_an_empty_cache(
    company: Path, vendor: VendorServer, rotated: debrepo.Key, tmp_path: Path
) -> None:
    old = vendor.key.fingerprint
    said = (
        f"15: extra_repos.1.fingerprint: the key of the archive `agent` is {rotated.fingerprint}, "
        f"not {old} ({vendor.uri}/agent.asc)"
    )
    assert refused(company) == (2, said)
    shutil.rmtree(tmp_path / "cache/apt")
    assert refused(company) == (2, said)
    (vendor.folder / "agent.asc").write_text(vendor.key.public, encoding="utf-8")
    code, told = refused(company)
    assert code == 2 and told.startswith("15: extra_repos.1.fingerprint: apt could not read"), told
    assert f"{rotated.fingerprint}" in told and f"The archive `agent` states {old}" in told


def test_both_keys_are_stated_while_the_vendor_changes(
    company: Path, vendor: VendorServer, rotated: debrepo.Key
) -> None:
    old = vendor.key.fingerprint
    edit(company, f"fingerprint: {old}", f"fingerprint: [{old}, {rotated.fingerprint}]")
    assert locked(company).extra_repos[0].fingerprint == (old, rotated.fingerprint)
    vendor.agent.key = vendor.key
    vendor.agent.publish(date=debrepo.DATE + 2)
    (vendor.folder / "agent.asc").write_text(vendor.key.public, encoding="utf-8")
    locked(company)


def test_a_repository_that_lacks_the_package(company: Path) -> None:
    edit(company, "[company-tool]", "[company-tool, compony-agent]")
    code, told = refused(company)
    assert (code, told) == (
        3,
        "25: roles.customize.customize_packages.2: no archive has the "
        "package `compony-agent`: looked in debian, debian-security, "
        "agent, tool",
    )


def test_a_key_in_the_repository(company: Path, vendor: VendorServer, key: debrepo.Key) -> None:
    (company / "keys").mkdir()
    (company / "keys/agent.asc").write_text(key.public, encoding="utf-8")
    edit(company, f"{vendor.uri}/agent.asc", "keys/agent.asc")
    locked(company)
    assert "/agent.asc" not in vendor.mirror.requests
    assert str(company) not in lock_path(company).read_text(encoding="utf-8")


@pytest.fixture
def with_files(company: Path, vendor: VendorServer) -> Path:
    """The same with files by their address besides."""
    edit(company, "roles:\n", f"{vendor.downloads()}roles:\n")
    return company


def test_files_by_their_address(with_files: Path, vendor: VendorServer, tmp_path: Path) -> None:
    lock = locked(with_files)
    sealed = lock.packages["company-sealed"]
    assert (sealed.origin, sealed.version, sealed.path) == (
        "downloads",
        "3.0-1",
        f"{vendor.uri}/files/sealed.deb",
    )
    assert "agent-data" in lock.packages, "what it depends on is of an archive"
    assert [(file.name, file.version, file.signed_by) for file in lock.downloads] == [
        ("sealed.deb", "3.0-1", None),
        ("probe-2.1.tar.gz", "2.1", vendor.key.fingerprint),
        ("installer.tar.xz", lock.downloads[2].sha256[:12], None),
        ("license.txt", lock.downloads[3].sha256[:12], None),
    ]
    told = lock.variables["customize_downloads"]
    assert told[0] == {"package": "company-sealed", "version": "3.0-1"}
    assert set(told[1]["sample"]) == {"bin/probe", "etc/probe.conf"}
    assert (told[2]["tool"], told[2]["brings"]) == ("xz-utils", "/opt/fabric-installer/**")
    assert told[3]["path"] == "/etc/company/license.txt"
    before = lock_path(with_files).read_bytes()
    vendor.mirror.requests.clear()
    locked(with_files)
    assert lock_path(with_files).read_bytes() == before
    assert [path for path in vendor.mirror.requests if path.startswith("/files/")] == [
        "/files/probe-2.1.tar.gz.asc"
    ], "fetched once"


def replace(vendor: VendorServer, name: str, content: bytes) -> None:
    (vendor.files / name).write_bytes(content)


def test_what_is_at_an_address_and_is_not_the_file(
    with_files: Path, vendor: VendorServer, key: debrepo.Key
) -> None:
    """Each is one line with that of the definition, and leaves no lock."""
    other = debrepo.Key()
    try:
        (vendor.files / "probe-2.1.tar.gz.asc").unlink()
        other.sign(vendor.files / "probe-2.1.tar.gz")
    finally:
        other.close()
    assert refused(with_files) == (
        2,
        f"29: downloads.2.fingerprint: the signature is none of this file by {key.fingerprint}",
    )
    replace(vendor, "sealed.deb", b"other bytes")
    shutil.rmtree(with_files.parent / "cache/store")
    code, told = refused(with_files)
    assert (code, told.partition(" with SHA-256 ")[0]) == (
        2,
        f"23: downloads.1.sha256: {vendor.uri}/files/sealed.deb: 11 bytes",
    )
    (vendor.files / "sealed.deb").unlink()
    code, told = refused(with_files)
    assert (code, told) == (2, f"22: downloads.1.url: {vendor.uri}/files/sealed.deb answered 404")
    vendor.mirror.logins["/files/sealed.deb"] = LOGIN
    code, told = refused(with_files)
    assert (code, told) == (2, f"22: downloads.1.login: {vendor.uri}/files/sealed.deb answered 401")
    assert not lock_path(with_files).exists()


@pytest.mark.parametrize(
    ("content", "where", "complaint"),
    [
        (b"<html>", "install: deb", "install: x is no Debian package"),
        (b"<html>", "unpack: /opt/x", "unpack: is no whole tarball of gzip, bzip2, xz or none: "),
        ({"x/y": "z"}, "unpack: /opt/x\n    strip: 2", "unpack: the tarball has no file below 2"),
        ({"../y": "z"}, "unpack: /opt/x", "unpack: the tarball leads out of its folder: "),
    ],
)
def test_what_a_file_has_to_be(
    root: Path,
    vendor: VendorServer,
    content: bytes | dict[str, str],
    where: str,
    complaint: str,
) -> None:
    path = vendor.files / "x"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        vendors.tarball(path.with_suffix(".gz"), content)
        path.with_suffix(".gz").rename(path)
    edit(
        root,
        "roles:\n",
        f"downloads:\n  - url: {vendor.uri}/files/x\n"
        f"    sha256: {sha256_file(path)}\n    {where}\nroles:\n  customize:\n",
    )
    code, told = refused(root)
    assert (code, told.startswith(f"12: downloads.1.{complaint}")) == (2, True), told


def watched(root: Path) -> tuple[int, dict[str, str], dict[str, str], str]:
    done = golden(root, "watch", IMAGE)
    record = records.read(root / "build/watch/watch.json", WatchRecord)
    return (
        done.returncode,
        {row.component: row.verdict.value for row in record.rows},
        {source.name: source.error for source in record.sources},
        done.stdout,
    )


def test_watch_looks_at_all_of_them(with_files: Path, vendor: VendorServer, tmp_path: Path) -> None:
    locked(with_files)
    code, verdicts, errors, said = watched(with_files)
    assert (code, verdicts["packages"], verdicts["downloads"]) == (0, "current", "current"), said
    assert "a newer version is at another address, which only its vendor knows" in said
    files = f"{vendor.uri}/files"
    assert {"agent trixie", "tool", f"{files}/probe-2.1.tar.gz"} <= errors.keys()
    vendor.agent.add([debrepo.Package("company-agent", "7.2-1", depends="libc6, agent-data")])
    vendor.agent.publish(date=debrepo.DATE + 1)
    before = (vendor.files / "license.txt").read_text(encoding="utf-8")
    (vendor.files / "license.txt").write_text(before.upper(), encoding="utf-8")
    (vendor.files / "sealed.deb").unlink()
    code, verdicts, errors, said = watched(with_files)
    assert (code, verdicts["packages"], verdicts["downloads"]) == (4, "held", "unreachable"), said
    assert errors[f"{files}/license.txt"].startswith("has other bytes: 12 bytes with SHA-256 ")
    assert errors[f"{files}/sealed.deb"].startswith("the file is gone: ")
    assert "company-agent" in said
    assert_no_secret(tmp_path)


def test_a_file_behind_a_login(
    root: Path, vendor: VendorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.mirror.logins = {"/files/": LOGIN}
    digest = sha256_file(vendor.files / "license.txt")
    edit(
        root,
        "roles:\n",
        f"downloads:\n  - url: {vendor.uri}/files/license.txt\n    sha256: "
        f"{digest}\n    path: /etc/company/license.txt\n    login: {VARIABLE}\n"
        "roles:\n  customize:\n",
    )
    monkeypatch.delenv(VARIABLE)
    assert refused(root) == (
        2,
        "13: downloads.1.login: the login of `license.txt` is missing: "
        "TOOL_LOGIN does not hold `user:password`",
    )
    monkeypatch.setenv(VARIABLE, LOGIN)
    lock = locked(root)
    assert (lock.downloads[0].sha256, lock.downloads[0].login) == (digest, VARIABLE)
    assert_no_secret(tmp_path)


def test_what_a_bake_is_given_and_what_the_bill_says(
    with_files: Path, vendor: VendorServer, tmp_path: Path
) -> None:
    """Without a bake: test_vendor_image.py has one."""
    lock, store = locked(with_files), Store(tmp_path / "cache")
    given = sample_inputs.of_lock(lock, store).repository()
    names = [file.file for file in lock.downloads[1:]]
    assert sorted(path.name for path in (given / "downloads").iterdir()) == sorted(names)
    assert [row["file"] for row in lock.variables["customize_downloads"][1:]] == names
    (number,) = [number for number, step in enumerate(lock.steps) if "customize" in step.roles]
    index = (given / f"step-{number}/Packages").read_text(encoding="utf-8")
    assert "Package: company-sealed\n" in index
    parts = {part.name: part for part in components.of_lock(lock, store).parts}
    sealed, probe = parts["company-sealed"], parts["probe-2.1.tar.gz"]
    assert (sealed.url, sealed.version) == (f"{vendor.uri}/files/sealed.deb", "3.0-1")
    assert probe.properties == (("signed-by", vendor.key.fingerprint),)
    assert probe.purl.startswith("pkg:generic/probe-2.1.tar.gz@2.1?checksum=sha256:")
    assert parts["company-tool"].purl.startswith("pkg:deb/tool/company-tool@2.0-1")
    assert {file.sha256 for file in lock.downloads} <= lock.objects().keys(), "or gc takes them"
