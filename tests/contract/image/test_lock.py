"""`golden lock` as a user runs it, against a signed synthetic mirror on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami import cli
from goldenami.packages import apt
from support.builds.checkout import ROOT
from support.debian import debrepo
from support.debian.debrepo import Fault
from support.debian.lock_commands import IMAGE, edit, golden, lock_path
from support.files import write

pytestmark = pytest.mark.usefixtures("debian")
MISSPELT = (ROOT / f"packer/images/{IMAGE}.yml").read_bytes().replace(b"image:", b"imge:", 1)


def files(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.rglob("*")}


def test_a_definition_becomes_exact_files(
    locked: Path,
    debian: debrepo.Mirror,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    text = lock_path(locked).read_text(encoding="utf-8")
    data = json.loads(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert text == json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert "127.0.0.1" not in text
    assert str(tmp_path_factory.getbasetemp()) not in text
    assert data["kernel"]["release"] == "6.1.0-50-cloud-amd64"
    assert data["variables"]["kernel_release"] == data["kernel"]["release"]
    # Of the security archive, over the main one's.
    sed, bash = (data["packages"][name] for name in ("sed", "bash"))
    assert (sed["version"], sed["origin"], bash["origin"]) == (
        "12.4+deb13u6",
        "debian-security",
        "debian",
    )
    base = set(data["base_packages"])
    assert {"bash", "apt", "nano", "openssh-server"} <= base <= set(data["packages"])
    assert "linux-image-6.1.0-49-cloud-amd64" not in data["packages"]
    assert "hello" not in data["packages"]
    assert data["source_date_epoch"] == debrepo.DATE
    for package in data["packages"].values():
        stored = tmp_path / "cache/store" / package["sha256"][:2] / package["sha256"]
        assert hashlib.sha256(stored.read_bytes()).hexdigest() == package["sha256"]
        assert stored.stat().st_size == package["size"]
    done = subprocess.run(
        ["sha256sum", "-c", f"{IMAGE}.lock.json.sha256"], cwd=locked / "packer/locks", check=False
    )
    assert done.returncode == 0
    checked = golden(locked, "check", IMAGE)
    assert checked.stdout == f"{IMAGE}: build {digest[:12]}\n"


def test_two_locks_are_equal_bytes(
    locked: Path, distribution: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also from another mirror, with another cache, in another checkout."""
    other = tmp_path / "other"
    shutil.copytree(locked, other, ignore=shutil.ignore_patterns("locks", "build"))
    mirror = debrepo.Mirror(distribution)
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", f"{mirror.uri}/debian")
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "other-cache"))
    done = golden(other, "lock", IMAGE)
    mirror.close()
    assert done.returncode == 0, done.stderr
    assert lock_path(other).read_bytes() == lock_path(locked).read_bytes()


def test_an_archive_that_is_only_signed_again_changes_no_build(
    locked: Path,
    distribution: Path,
    key: debrepo.Key,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where there is a lock it stays as it is; without one, only the record of what the archives
    said is new."""
    before = lock_path(locked).read_bytes()
    shutil.copytree(distribution, tmp_path / "later")
    debrepo.sign_again(tmp_path / "later", key, debrepo.DATE + 86400)
    mirror = debrepo.Mirror(tmp_path / "later")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", f"{mirror.uri}/debian")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", f"{mirror.uri}/security")
    assert golden(locked, "lock", IMAGE).returncode == 0
    assert lock_path(locked).read_bytes() == before
    lock_path(locked).unlink()
    assert golden(locked, "lock", IMAGE).returncode == 0
    mirror.close()
    old, new = json.loads(before), json.loads(lock_path(locked).read_text(encoding="utf-8"))
    assert new["base"].pop("suites") != old["base"].pop("suites")
    assert new == old


def test_a_lock_is_never_made_from_less_than_the_last_one(
    locked: Path,
    distribution: Path,
    key: debrepo.Key,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An older mirror, validly signed, on a machine that has not seen the newer one."""
    before = lock_path(locked).read_bytes()
    shutil.copytree(distribution, tmp_path / "earlier")
    debrepo.sign_again(tmp_path / "earlier/security", key, debrepo.DATE - 86400)
    mirror = debrepo.Mirror(tmp_path / "earlier")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", f"{mirror.uri}/security")
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "new-cache"))
    done = golden(locked, "lock", IMAGE)
    mirror.close()
    assert done.returncode == 4, done.stderr
    assert (
        "suite trixie-security goes backwards: its Release file is of 2025-06-14T15:06:40Z, "
        "the lock of "
    ) in done.stderr
    assert lock_path(locked).read_bytes() == before


def test_bad_input_writes_nothing(root: Path, tmp_path: Path) -> None:
    """unit/model/test_definition.py has what all may be wrong."""
    (root / f"packer/images/{IMAGE}.yml").write_bytes(MISSPELT)
    before = files(root, tmp_path)
    for stage in ("lock", "check", "bake"):
        done = golden(root, stage, IMAGE)
        said = f"/{IMAGE}.yml:1: imge: unknown key; did you mean `image`?"
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
    assert files(root, tmp_path) == before


@pytest.fixture
def in_process(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(root)
    monkeypatch.setattr(apt, "FETCH_TIMEOUT_S", 30)
    monkeypatch.setattr(apt, "FETCH_RETRIES", 0)
    yield root
    assert not lock_path(root).exists()


@pytest.mark.parametrize(
    ("faults", "archive"),
    [
        ({"/security/*": Fault.HANG}, "security"),
        ({"/debian/*": Fault.LOST}, "debian"),
        ({"/debian/*/Packages*": Fault.CORRUPTED}, "debian"),
    ],
)
def test_a_mirror_without_a_usable_index(
    in_process: Path,
    debian: debrepo.Mirror,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    faults: dict[str, Fault],
    archive: str,
) -> None:
    debian.faults = faults
    if Fault.HANG in faults.values():
        monkeypatch.setattr(apt, "FETCH_TIMEOUT_S", 1)
    assert cli.main(["lock", IMAGE]) == 4
    errors = capsys.readouterr().err
    assert "golden: error: apt could not read the indexes: " in errors
    assert f"{debian.uri}/{archive}" in errors.partition("golden: error: ")[2].splitlines()[0]
    assert "GOLDEN_MIRROR_DEBIAN_SECURITY" in errors


def test_a_package_that_the_mirror_lost(root: Path, debian: debrepo.Mirror) -> None:
    debian.faults = {"*/less_*": Fault.LOST}
    done = golden(root, "lock", IMAGE)
    assert done.returncode == 4
    assert "golden: error: less 1.0-1 is no longer at " in done.stderr
    assert "/less_1.0-1_amd64.deb" in done.stderr
    assert not lock_path(root).exists()
    debian.faults = {}
    assert golden(root, "lock", IMAGE).returncode == 0
    done = golden(root, "lock", IMAGE, "--explain")
    assert done.stdout == "kernel: 6.1.0-50-cloud-amd64 (the newest)\n", done.stderr


def test_fetch_needs_the_network_only_for_what_is_missing(
    locked: Path, debian: debrepo.Mirror, tmp_path: Path
) -> None:
    debian.close()
    done = golden(locked, "bake", IMAGE, "--fetch-only")
    assert done.returncode == 0
    _packer_finds_it(locked, done.stderr)
    package = json.loads(lock_path(locked).read_text(encoding="utf-8"))["packages"]["less"]
    (tmp_path / "cache/store" / package["sha256"][:2] / package["sha256"]).unlink()
    done = golden(locked, "bake", IMAGE, "--fetch-only")
    assert done.returncode == 4
    assert "/less_1.0-1_amd64.deb: " in done.stderr


def _packer_finds_it(root: Path, said: str) -> None:
    path = root / f"build/{IMAGE}/packer.pkrvars.json"
    (line,) = re.findall("for Packer: (.*)", said)
    line = line.replace("packer build -only='*.ec2'", "packer validate")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", line], env=env, check=True)
    named = json.loads(path.read_text(encoding="utf-8"))
    assert named["lock"] == str(lock_path(root)) and named["instance_type"].endswith(".xlarge")
    assert any(Path(named["repo"]).glob("less_*.deb"))
    roles = json.loads(Path(named["vars"]).read_text(encoding="utf-8"))
    assert (roles["golden_image"], roles["golden_roles"][-1]) == (IMAGE, "seal")


def test_a_lock_that_is_stale_or_was_edited_by_hand_is_refused(locked: Path) -> None:
    """And one that cannot be made anew stays as it is."""
    for readme in (locked / "roles/README.md", locked / "roles/limits/README.md"):
        readme.write_text("another text\n", encoding="utf-8")
    assert golden(locked, "check", IMAGE).returncode == 0
    with (locked / "roles/limits/tasks/main.yml").open("a", encoding="utf-8") as file:
        file.write("# a change\n")
    for stage in ("bake", "check"):
        done = golden(locked, stage, IMAGE)
        said = f"the lock of {IMAGE} is stale: changed since it was made: roles/limits\n"
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
        assert f"run `make lock IMAGE={IMAGE}`" in done.stderr
    before = lock_path(locked).read_bytes()
    edit(locked, "  os_updates:\n", "  os_updates:\n    os_updates_extra_packages: [helo]\n")
    assert golden(locked, "lock", IMAGE).returncode == 3
    assert lock_path(locked).read_bytes() == before
    edited = before.replace(b'"disk_size_gib": 4', b'"disk_size_gib": 5')
    lock_path(locked).write_bytes(edited)
    for stage in ("bake", "check", "verify"):
        done = golden(locked, stage, IMAGE)
        said = f"does not match {IMAGE}.lock.json.sha256: it was edited by hand"
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_all_stale_locks_are_made_anew_and_no_other(locked: Path) -> None:
    """One that fails stops none; its old lock stays."""
    text = "image: {0}\nextends: {1}\nroles: {{os_updates: {{os_updates_extra_packages: [{2}]}}}}\n"
    for name, parent in (("aa", "bb"), ("bb", IMAGE)):
        write(locked, {f"packer/images/{name}.yml": text.format(name, parent, "hello")})
    for name in ("aa", "bb"):
        assert golden(locked, "lock", name).returncode == 0
    folder = locked / "packer/locks"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert golden(locked, "lock", "--stale").returncode == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before, "all are fresh"
    write(locked, {"packer/images/bb.yml": text.format("bb", IMAGE, "nano")})
    edit(locked, "  limits:\n", "  limits: {limits_nofile: 4096}\n")
    write(locked, {"packer/images/aa.yml": text.format("aa", "bb", "helo")})
    lock_path(locked).write_text("half a lock", encoding="utf-8")
    done = golden(locked, "lock", "--stale")
    assert done.returncode == 3, done.stderr
    assert "no new lock of aa: " in done.stderr and "helo" in done.stderr
    changed = [name for name in sorted(before) if (folder / name).read_bytes() != before[name]]
    assert changed == sorted(
        f"{name}.lock.json{end}" for name in ("bb", IMAGE) for end in ("", ".sha256")
    )
    assert golden(locked, "check", "bb").returncode == 0
    write(locked, {"packer/images/aa.yml": text.format("aa", "bb", "hello")})
    assert golden(locked, "lock", "--stale").returncode == 0
    assert golden(locked, "check").returncode == 0
    assert golden(locked, "lock").returncode == 2


def test_what_an_own_role_installs_is_locked(locked: Path) -> None:
    """A role of Galaxy's form says nothing of packages; the definition does."""
    write(locked / "roles/agent", {"tasks/main.yml": "- apt: name=hello\n"})
    edit(locked, "  limits:\n", "  agent: {packages: [hello], before: kernel}\n  limits:\n")
    done = golden(locked, "lock", IMAGE)
    assert done.returncode == 0, done.stderr
    data = json.loads(lock_path(locked).read_text(encoding="utf-8"))
    step, after = data["steps"][-3:-1]
    assert (step["roles"], step["packages"]) == (["agent"], ["hello"])
    assert after["roles"] == ["kernel"] and data["inputs"]["roles/agent"]


def test_what_a_definition_states_of_packages_is_locked(locked: Path) -> None:
    """The older version of two, and a package of the base system that no tree ever has."""
    stated = "  customize:\n    customize_packages: [sed=12.4+deb13u5]\n"
    left_out = "    customize_packages_absent: [nano]\n"
    edit(locked, "  limits:\n", f"{stated}{left_out}  limits:\n")
    done = golden(locked, "lock", IMAGE)
    assert done.returncode == 0, done.stderr
    assert "left out: nano (the definition says so; nothing else goes with it)" in done.stderr
    data = json.loads(lock_path(locked).read_text(encoding="utf-8"))
    assert data["packages"]["sed"]["version"] == "12.4+deb13u5"
    assert "nano" not in {*data["packages"], *data["base_packages"]}
    assert "left out: nano (" in golden(locked, "lock", IMAGE, "--explain").stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "packages: [hello, sed=12.4]",
            "packages.2: no archive has the package `sed` 12.4: there is 12.4+deb13u6 "
            "(debian-security trixie-security), 12.4+deb13u5 (debian trixie)",
        ),
        ("packages: [helo]", "packages.1: no archive has the package `helo`: looked in debian"),
        ("packages_absent: [bash]", "packages_absent.1: `bash` is needed by every image"),
        ("packages_absent: [libc6]", "packages_absent.1: `libc6` is needed by apt, base-files"),
        ("packages_absent: [hello]", "packages_absent.1: `hello` would not be in the image anyway"),
    ],
)
def test_what_no_archive_or_no_image_can_give_is_refused(
    locked: Path, line: str, said: str
) -> None:
    edit(locked, "  limits:\n", f"  customize:\n    customize_{line}\n  limits:\n")
    before = lock_path(locked).read_bytes()
    done = golden(locked, "lock", IMAGE)
    assert f"roles.customize.customize_{said}" in done.stderr
    assert done.returncode != 0
    assert lock_path(locked).read_bytes() == before
