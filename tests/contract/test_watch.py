"""`golden watch` as a user runs it, against signed synthetic archives on loopback whose faults are the tests' own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import pytest
from goldenami.local import workspace
from goldenami.model import lockfile
from goldenami.packages.pypi import PyFile
from support.debian import debrepo, pyindex
from support.debian.debrepo import Fault, Package
from support.debian.watching import IMAGE, KERNEL, LESS, SED, World


def test_nothing_is_newer(world: World) -> None:
    code, said = world.watch()
    assert code == 0, said
    assert said.splitlines()[0].split() == ["image", "component", "locked", "available", "policy", "verdict"]
    assert f"{IMAGE}  kernel     6.1.140-1" in said
    assert "nothing newer that matters" in said
    assert world.verdicts() == {"kernel": "current", "packages": "current"}
    assert {source.name: source.changed for source in world.record.sources} == {
        f"{archive} {suite}": "2025-06-15T15:06:40Z" for archive, suite in (
            ("debian", "bookworm"), ("debian", "bookworm-updates"), ("debian-security", "bookworm-security"))}


def test_a_security_update_is_something_and_becomes_a_lock(world: World) -> None:
    world.archive("security", [SED, LESS, *KERNEL]).publish(date=debrepo.DATE + 1)
    before, text = world.lock(), lockfile.path_of(world.root, IMAGE).read_bytes()
    code, said = world.watch()
    assert code == 10, said
    assert world.verdicts() == {"kernel": "update", "packages": "update"}
    assert "1 newer, 1 by security" in said
    assert lockfile.path_of(world.root, IMAGE).read_bytes() == text  # looking changes nothing
    code, said = world.watch("--update")
    assert code == 0, said
    after = world.lock()
    assert (after.kernel.release, after.packages["less"].version) == ("6.1.0-51-cloud-amd64", LESS.version)
    assert {name for name in after.packages.keys() & before.packages.keys()
            if after.packages[name] != before.packages[name]} == {"less"}
    summary, change = world.summary, world.record.changes[0]
    assert summary.startswith(f"# new lock of {IMAGE}\n")
    assert "* Kernel: 6.1.0-50-cloud-amd64 to **6.1.0-51-cloud-amd64**" in summary
    assert "Refuse a file name that is a command" in summary
    assert "* Advisories named in changelogs: CVE-2026-12345, DSA-5999-1\n" in summary
    assert "CVE-2020-11111" not in summary  # of the entry that was locked before
    assert [(moved.source, moved.before, moved.after) for moved in change.moved] == [
        ("less", "1.0-1", LESS.version), ("linux-signed-amd64", "6.1.140-1", "6.1.150-1")]
    assert change.build_after == lockfile.read(lockfile.path_of(world.root, IMAGE))[1][:12]
    assert world.watch()[0] == 0


def _newer_nano(names: list[str]) -> list[Package]:
    """The main archive with a nano that is newer, and no longer the locked one."""
    known = [replace(one, version="7.3-1") if one.name == "nano" else one for one in debrepo.base_packages()]
    more = sorted(set(names) - {package.name for package in known})
    return [*known, *(Package(name, depends="libc6") for name in more)]


def test_what_a_policy_leaves_stays_even_where_upstream_dropped_it(world: World, names: list[str]) -> None:
    """A point release is shown and left; the security update beside it is taken; the dropped file is the store's."""
    world.archive("debian", _newer_nano(names)).publish(date=debrepo.DATE + 1)
    code, said = world.watch()
    assert code == 0, said
    assert world.verdicts()["packages"] == "held"
    assert "no security update: it comes from debian bookworm (nano)" in said
    world.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    code, said = world.watch("--update")
    assert code == 0, said
    after = world.lock().packages
    assert (after["less"].version, after["nano"].version) == (LESS.version, "7.2-1")
    assert (after["nano"].origin, after["nano"].path) == ("debian", "pool/main/n/nano/nano_7.2-1_amd64.deb")
    world.define("watch: {packages: {policy: newest}}")
    assert world.watch()[0] == 10
    assert world.watch("--update")[0] == 0
    assert world.lock().packages["nano"].version == "7.3-1"


def test_a_minimum_age_counts_from_the_file_in_the_archive(world: World) -> None:
    world.define("watch: {packages: {policy: security, minimum_age_days: 7}}")
    made = world.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    code, said = world.watch()
    assert code == 0, said
    assert world.verdicts()["packages"] == "too young"
    assert "0 days old, has to be 7 (less)" in said
    for path in made.folder.rglob("less_*"):
        os.utime(path, (1_750_000_000, 1_750_000_000))
    assert world.watch()[0] == 10


@pytest.mark.parametrize(("faults", "broken", "said"), [
    ({"/security/*/Packages*": Fault.TRUNCATED}, "debian-security", "Packages"),
    ({"/security/*/InRelease": Fault.TRUNCATED}, "debian-security", "InRelease"),
    ({"/debian/*/InRelease": Fault.LOST, "/debian/*/Release.gpg": Fault.LOST}, "debian", "is not signed"),
    ({"/security/*": Fault.CIRCLE}, "debian-security", "Redirection loop"),
    ({"/security/*": Fault.HANG}, "debian-security", "/security"),
    ({"/debian/*": Fault.LOST}, "debian", "does not have a Release file"),
])
def test_a_source_that_cannot_be_looked_at(world: World, faults: dict[str, Fault], broken: str, said: str) -> None:
    """The others still report; nothing is called current."""
    world.mirror.faults = faults
    code, printed = world.watch()
    assert code == 4, printed
    assert f"golden: error: could not look at every source: {broken}: apt could not read the indexes: " in printed
    errors = {source.name: source.error for source in world.record.sources}
    assert said in errors[broken]
    assert world.mirror.uri in errors[broken]
    assert set(world.verdicts().values()) == {"unreachable"}
    assert any(not error for error in errors.values())
    assert f"could not look at {broken}" in world.summary
    world.mirror.faults = {}


def test_a_newer_package_is_told_although_another_source_is_down(world: World) -> None:
    world.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    world.mirror.faults = {"/debian/dists/bookworm-updates/*": Fault.BROKEN}
    world.define("watch: {kernel: {policy: newest}}")
    code, said = world.watch()
    assert code == 4, said
    assert world.verdicts() == {"kernel": "unreachable", "packages": "update"}
    assert "newer for debian-12-ml-cpu; could not look at debian" in said


def test_a_two_gigabyte_release_file_is_not_read(world: World) -> None:
    """apt stops at Acquire::MaxReleaseFileSize; here 12 MB stand for all that is too much."""
    world.mirror.instead = {"/security/*Release": b"x" * 12_000_000}
    code, said = world.watch()
    assert code == 4, said
    assert "debian-security: apt could not read the indexes: " in said
    assert any(word in said for word in ("Writing more data than expected", "unexpected size"))


def test_the_signature_of_somebody_else(world: World) -> None:
    other = debrepo.Key()
    try:
        world.archive("security", [SED], key=other).publish(date=debrepo.DATE + 1)
        code, said = world.watch()
    finally:
        other.close()
    assert code == 4, said
    assert any(word in said for word in ("NO_PUBKEY", "Missing key", "not signed"))


def test_an_expired_release_file(world: World) -> None:
    world.archive("security", [SED]).publish(date=debrepo.DATE + 1, valid_for_s=60)
    code, said = world.watch()
    expired = f"Release file for {world.mirror.uri}/security/dists/bookworm-security/InRelease is expired"
    assert (code, expired in said) == (4, True), said


def test_a_mirror_that_goes_backwards(world: World) -> None:
    """An older Release file, validly signed; also after apt has seen the newer one."""
    assert world.watch()[0] == 0
    world.archive("security", [SED]).publish(date=debrepo.DATE - 86400)
    code, said = world.watch()
    old = "suite bookworm-security: goes backwards: its Release file is of 2025-06-14T15:06:40Z"
    assert (code, old in said) == (4, True), said


def test_a_package_that_goes_backwards(world: World) -> None:
    world.archive("security", [replace(SED, version="12.4+deb12u5.1")]).publish(date=debrepo.DATE + 1)
    code, said = world.watch()
    assert (code, "debian-security: goes backwards: sed 12.4+deb12u6 -> 12.4+deb12u5.1" in said) == (4, True), said


def test_two_sources_that_disagree(world: World) -> None:
    """The same version of a package in two archives, as two different files."""
    world.archive("security", [SED, Package("less", depends="libc6, bash")]).publish(date=debrepo.DATE + 1)
    code, said = world.watch()
    assert code == 4, said
    assert "debian-security: disagrees about less 1.0-1: SHA-256 " in said
    assert f", locked from debian {world.lock().packages['less'].sha256[:12]}" in said


def test_an_archive_that_is_empty_is_not_one_without_news(world: World) -> None:
    world.archive("security", []).publish(date=debrepo.DATE + 1)
    code, said = world.watch()
    assert (code, "debian-security: is empty: it has none of the 1 packages that the" in said) == (4, True), said


def test_a_mirror_that_is_not_known(world: World) -> None:
    world.patch.delenv("GOLDEN_MIRROR_DEBIAN_SECURITY")
    code, said = world.watch()
    assert (code, "debian-security: no mirror of the archive `debian-security` is known" in said) == (4, True), said


def test_a_hold_is_shown_and_its_review_falls_due(world: World) -> None:
    world.archive("security", [SED, *KERNEL]).publish(date=debrepo.DATE + 1)
    world.define("watch: {kernel: {policy: hold, review: 2026-01-31, reason: a vendor's module}}")
    code, said = world.watch()
    assert code == 0, said
    row = world.record.rows[0]
    assert (row.verdict.value, row.available) == ("held", "6.1.150-1")
    late = f"{IMAGE}: the hold on kernel was to be reviewed by 2026-01-31 (a vendor's module)"
    assert f"warning: {late}" in said
    code, said = world.watch("--strict")
    assert code == 2, said
    assert f"golden: error: 1 warnings, the first: {late}" in said


def test_a_held_kernel_stays_while_packages_move(world: World) -> None:
    world.archive("security", [SED, LESS, *KERNEL]).publish(date=debrepo.DATE + 1)
    world.define("watch: {kernel: {policy: hold, review: 2099-01-31}}")
    code, said = world.watch("--update")
    assert code == 0, said
    assert world.lock().kernel.release == "6.1.0-50-cloud-amd64"
    assert world.lock().packages["less"].version == LESS.version


def test_a_lock_that_cannot_be_made_is_blocked_and_the_old_one_stays(world: World) -> None:
    picky = replace(LESS, depends="libc6 (>= 99)")
    world.archive("security", [SED, picky]).publish(date=debrepo.DATE + 1)
    before = lockfile.path_of(world.root, IMAGE).read_bytes()
    code, said = world.watch("--update")
    assert code == 0, said
    assert world.verdicts()["packages"] == "blocked"
    assert "apt finds no solution: " in said
    assert "blocked: packages 1 newer, 1 by security of debian-12-ml-cpu" in said
    assert lockfile.path_of(world.root, IMAGE).read_bytes() == before


def with_framework(world: World, name: str, project: str, version: str) -> None:
    """A framework in the lock, as a wheel of the index."""
    wheel = PyFile(project=project, version=version, filename="x.whl", sha256="0" * 64, size=1)
    framework = lockfile.Framework(name=name, version=version, environment=name, origin=lockfile.Origin.WHEEL, why="",
                                   gain=None, measured_on=None, wheel=wheel, requires=[], made=None, allow=[])
    lockfile.write(lockfile.path_of(world.root, IMAGE), world.lock().model_copy(update={"frameworks": [framework]}))


def test_frameworks_of_a_lock_are_watched_by_default(world: World) -> None:
    """In their series, under the project's name on the index; a person moves them, in the recipe."""
    with_framework(world, "llama_cpp", "llama-cpp-python", "0.3.1")
    with pyindex.serve() as index:
        world.patch.setenv("GOLDEN_MIRROR_PYPI", index.url)
        index.wheel("llama-cpp-python", "0.4.0")
        assert world.watch()[0] == 0
        row = world.record.rows[-1]
        assert (row.component, row.available, row.verdict.value, row.policy) == ("llama_cpp", "0.4.0", "held", "branch")
        index.wheel("llama-cpp-python", "0.3.2")
        assert world.watch()[0] == 10
        row = world.record.rows[-1]
        assert (row.available, row.verdict.value) == ("0.3.2", "update")
        assert row.reason == "a person moves it: the version in the recipe of llama_cpp"
        world.define("watch: {frameworks: {llama_cpp: {policy: newest}}}")
        world.watch()
        assert world.record.rows[-1].available == "0.4.0"
    code, said = world.watch()
    assert (code, "Python index: llama-cpp-python: " in said) == (4, True), said


def test_images_without_a_lock_are_named(world: World) -> None:
    code, said = world.watch(name="")
    assert code == 0, said
    assert "warning: debian-12-ml-gpu: no lock, so nothing to compare with: make lock IMAGE=debian-12-ml-gpu" in said
    code, said = world.watch(name="debian-12-ml-gpu")
    assert code == 2
    assert "debian-12-ml-gpu.lock.json: no lock" in said
    assert "did you mean `debian-12-ml-cpu`" in world.watch(name="debian-12-ml-cp")[1]


def test_another_run_holds_the_image(world: World) -> None:
    world.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    with workspace.image_lock(world.root, IMAGE):
        assert world.watch()[0] == 10  # looking needs no lock on the image
        assert world.watch("--update")[0] == 7


def test_a_webhook_is_told_what_there_is_to_tell(world: World, webhook: Callable[[], list[str]]) -> None:
    assert world.watch()[0] == 0
    assert webhook() == []  # silence while nothing happens
    world.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    assert world.watch()[0] == 10
    assert webhook()[0].startswith("*newer for debian-12-ml-cpu*\n# newer for debian-12-ml-cpu\n")
    world.mirror.faults = {"/security/*": Fault.LOST}
    assert world.watch()[0] == 4
    assert "could not look at debian-security" in webhook()[1]


def test_a_webhook_that_refuses_is_an_error_without_its_address(
    world: World, webhook: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.archive("security", [SED, LESS]).publish(date=debrepo.DATE + 1)
    monkeypatch.setenv("GOLDEN_WEBHOOK", os.environ["GOLDEN_WEBHOOK"].replace("secret", "wrong"))
    code, said = world.watch()
    assert code == 4
    assert "the webhook of GOLDEN_WEBHOOK answered 403" in said
    assert "services" not in said
    assert world.record.rows  # what was found is on disk all the same
