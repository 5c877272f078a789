"""Kernel modules of somebody's own: locked, refused with the compiler's words, and holding the
kernel back, with archives and a compiler of the test's own.

test_modules.py compiles the same source with the real one.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from goldenami.image.lock.compilation import kernel_modules
from goldenami.image.lock.compilation.kernel_modules import ModuleBuild, ModuleOutcome
from goldenami.model.locked import lockfile
from goldenami.packages.store import Store
from goldenami.watch.watch_records import WatchRecord
from support.debian import debrepo, dkms_sources
from support.debian.debrepo import Archive, Package
from support.debian.lock_commands import IMAGE, edit, golden, lock_path, locked, refused
from support.debian.watch_checkout import KERNEL

pytestmark = pytest.mark.usefixtures("debian")
OLD, NEW, NEXT = (f"6.1.0-{abi}-cloud-amd64" for abi in (49, 50, 51))
SOURCE = "usr/src/golden-agent-1.2"
TOOLS = [Package(name) for name in ("dkms", "make", "gcc", "cmake")]
DRIVER = (
    "nvidia-kernel-dkms",
    "firmware-nvidia-gsp",
    "libcuda1",
    "libnvidia-cfg1",
    "libnvidia-ml1",
    "libnvidia-ptxjitcompiler1",
    "nvidia-modprobe",
    "nvidia-persistenced",
    "nvidia-smi",
    "nvidia-kernel-support",
)
REASON = "agent.c:7: error: too few arguments"
TARBALL = dkms_sources.tarball(dkms_sources.files("golden_card"))


def agent(version: str = "1.2-3", module: str = "golden_agent") -> Package:
    """The module's DKMS package; it needs one that nothing else does."""
    files = {f"{SOURCE}/{name}": text for name, text in dkms_sources.files(module).items()}
    return Package("agent-dkms", version, depends="dkms, gawk", files=files)


class Vendor:
    """The security archive with the tools and the module, and a server of the tarball."""

    def __init__(self, key: debrepo.Key, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._key, self._folder, self._patch = key, folder, patch
        self._mirrors = list[debrepo.Mirror]()
        self.address = ""

    def publish(self, *packages: Package) -> None:
        """Serve these, in the place of what was there."""
        folder = self._folder / f"security{len(self._mirrors)}"
        Archive(folder, self._key, label="Debian-Security", suites=("trixie-security",)).add(
            [*TOOLS, Package("gawk"), *packages]
        ).publish(date=debrepo.DATE + len(self._mirrors))
        (folder / "card.tar.xz").write_bytes(TARBALL)
        self._mirrors.append(debrepo.Mirror(folder))
        self.address = f"{self._mirrors[-1].uri}/card.tar.xz"
        self._patch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", self._mirrors[-1].uri)

    def close(self) -> None:
        for mirror in self._mirrors:
            mirror.close()


@pytest.fixture
def vendor(key: debrepo.Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vendor]:
    made = Vendor(key, tmp_path, monkeypatch)
    made.publish(agent())
    yield made
    made.close()


@pytest.fixture
def fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Puts a compiler in place that knows which modules fit; gives what it was asked for."""

    def know(takes: Callable[[str, str], bool] = lambda *_: True) -> list[str]:
        asked = list[str]()

        def compiles(build: ModuleBuild, store: Store, *_: object) -> ModuleOutcome:
            asked.append(build.what())
            names = {deb.name for deb in build.toolchain}
            assert f"linux-headers-{build.kernel_release}" in names
            assert ("gawk" in names, "cmake" in names) == (
                build.name == "agent",
                build.name == "card",
            ), "its own dependencies and no other's"
            if not takes(build.name, build.kernel_release):
                return outcome(build, None, 0, [])
            made = built(tmp_path / "made", build)
            lines = [] if build.name == "nvidia" else text_of(store.path(build.source.sha256))
            modules = [line.split()[-1].removesuffix(".o") for line in lines]
            return outcome(build, store.add(made), made.stat().st_size, modules)

        monkeypatch.setattr(kernel_modules, "_compile", compiles)
        return asked

    return know


def text_of(source: Path) -> list[str]:
    """The Makefile of a source, whatever form it has."""
    unpack = ["tar", "--extract", "--to-stdout", "--wildcards", "*Makefile"]
    data = source.read_bytes()
    if data.startswith(b"!<arch>"):
        data = subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(source)], check=True, capture_output=True
        ).stdout
    else:
        unpack.append("--xz")
    return (
        subprocess.run([*unpack, "--file=-"], input=data, check=True, capture_output=True)
        .stdout.decode()
        .splitlines()
    )


def outcome(build: ModuleBuild, sha256: str | None, size: int, names: list[str]) -> ModuleOutcome:
    return ModuleOutcome(
        key=build.key,
        deb_sha256=sha256,
        deb_size=size,
        installed_size=1,
        compiler="gcc 14",
        first_error="" if sha256 else REASON,
        seconds=1.0,
        modules=names,
    )


def built(folder: Path, build: ModuleBuild) -> Path:
    made = Package(build.package, f"{build.version}-1", depends=", ".join(build.depends))
    return debrepo.build(made, folder / f"{build.package}.deb")


def define(root: Path, vendor: Vendor, text: str = "", *, sha256: str = "") -> None:
    card = (
        f"  - {{name: card, build_packages: [cmake], source: {{url: '{vendor.address}', "
        f"sha256: '{sha256 or dkms_sources.sha256(TARBALL)}'}}}}\n"
    )
    edit(
        root,
        "roles:\n",
        f"kernel_modules:\n{text or '  - {name: agent, package: agent-dkms}'}\n{card}roles:\n",
    )


def lock_of(root: Path) -> lockfile.Lock:
    return lockfile.read(lock_path(root))[0]


def test_a_package_and_a_tarball_become_packages_of_the_kernel_s_step(
    root: Path,
    vendor: Vendor,
    fits: Callable[..., list[str]],
) -> None:
    asked = fits()
    define(root, vendor)
    lock, names = locked(root), [f"golden-{name}-modules-{NEW}" for name in ("agent", "card")]
    assert asked == [f"module agent 1.2 on kernel {NEW}", f"module card 1.2 on kernel {NEW}"]
    assert [each.package for each in lock.compiled_modules().values()] == names
    assert {lock.packages[name].origin for name in names} == {"built"}
    step = next(step for step in lock.steps if step.roles == ["kernel"])
    assert {*names, f"linux-image-{NEW}"} <= {*step.packages}
    assert lock.variables["kernel_modules"] == [
        {"package": names[0], "names": ["golden_agent"], "signer": ""},
        {"package": names[1], "names": ["golden_card"], "signer": ""},
    ]
    made = lock.kernel_modules["agent"]
    assert made.provides == ["agent-dkms (= 1.2-3)"]
    assert not {"agent-dkms", "gcc", "dkms"} & lock.packages.keys(), "no image needs a compiler"
    card = lock.kernel_modules["card"].build["card.tar.xz"]
    assert (f"{card.origin}/{card.path}", card.version) == (vendor.address, "1.2")
    assert {made.build["agent-dkms"].sha256, card.sha256} <= lock.objects().keys()
    before = lock_path(root).read_bytes()
    assert golden(root, "check", IMAGE).returncode == 0
    lock_path(root).unlink()
    locked(root)
    assert (lock_path(root).read_bytes(), len(asked)) == (before, 2), "from what is known"
    said = golden(root, "lock", IMAGE, "--explain").stdout
    assert f"module agent: 1.2 (compiled on {NEW} with gcc 14)\n" in said


def test_the_newest_kernel_on_which_every_module_compiles(
    root: Path,
    vendor: Vendor,
    fits: Callable[..., list[str]],
) -> None:
    fits(lambda name, release: name == "agent" or release == OLD)
    define(root, vendor)
    done = golden(root, "lock", IMAGE)
    assert done.returncode == 0, done.stderr
    reason = f"module card 1.2 on kernel {NEW}: {REASON}"
    assert f"passed over kernel {NEW}: {reason}" in done.stderr
    lock = lock_of(root)
    assert (lock.kernel.release, lock.variables["kernel_release"]) == (OLD, OLD)
    assert (lock.choices[0].why, [entry.reason for entry in lock.choices[0].passed_over]) == (
        "the newest on which its modules compile",
        [reason],
    )
    fits(lambda name, _: name == "agent")
    edit(root, "build_packages: [cmake]", "build_packages: [cmake, less]")  # another build
    before = lock_path(root).read_bytes()
    done = golden(root, "lock", IMAGE)
    said = ".yml:9: kernel_modules: no kernel of this release takes agent, card"
    assert (done.returncode, said in done.stderr) == (3, True), done.stderr
    assert all(
        f"kernel {name}: module card 1.2 on kernel {name}: {REASON}" in done.stderr
        for name in (OLD, NEW)
    ), done.stderr
    assert "logs/lock.log" in done.stderr
    assert lock_path(root).read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"text": "  - {name: agent, package: agnet-dkms}"},
            "10: kernel_modules.1.package: the archives have no package `agnet-dkms`",
        ),
        (
            {"text": "  - {name: agent, package: dkms}"},
            "10: kernel_modules.1.package: dkms has no dkms.conf",
        ),
        (
            {"sha256": "1" * 64},
            f"11: kernel_modules.2.source.sha256: {{address}}: {len(TARBALL)} bytes with SHA-256 "
            f"{dkms_sources.sha256(TARBALL)[:12]}, expected",
        ),
    ],
)
def test_what_is_no_module_is_refused_with_its_line(
    root: Path,
    vendor: Vendor,
    fits: Callable[..., list[str]],
    changes: dict[str, Any],
    said: str,
) -> None:
    fits()
    define(root, vendor, **changes)
    code, told = refused(root)
    assert (code, told.startswith(said.format(address=vendor.address))) == (2, True), told


def test_two_modules_of_one_name(
    root: Path,
    vendor: Vendor,
    fits: Callable[..., list[str]],
) -> None:
    fits()
    vendor.publish(agent(module="golden_card"))
    define(root, vendor)
    said = "11: kernel_modules.2.name: makes golden_card.ko, as `agent` does"
    assert refused(root) == (2, said)


def test_a_driver_and_modules_share_the_newest_kernel_that_takes_both(
    root: Path,
    vendor: Vendor,
    fits: Callable[..., list[str]],
) -> None:
    source = {"Source": "nvidia-graphics-drivers"}
    dkms = {
        "usr/src/nvidia-current-550.163.01/dkms.conf": (
            'PACKAGE_NAME="nvidia-current"\nPACKAGE_VERSION="550.163.01"\n'
        )
    }
    vendor.publish(
        agent(),
        *(
            Package(name, "550.163.01-1", fields=source, files=dkms if name == DRIVER[0] else {})
            for name in DRIVER
        ),
    )
    fits(lambda name, release: name != "card" or release == OLD)
    define(root, vendor)
    edit(root, "hardware: [c7i, m7i, c7a, m7a]", "hardware: [g4dn]")
    edit(
        root,
        "  kernel:\n",
        "  kernel:\n  nvidia_driver:\n    nvidia_driver_source: debian\n"
        '    nvidia_driver_branch: "550"\n    nvidia_driver_flavour: proprietary\n',
    )
    lock = locked(root)
    assert (lock.kernel.release, lock.driver and lock.driver.version) == (OLD, "550.163.01")
    assert [*lock.compiled_modules()] == ["nvidia", "agent", "card"]
    assert {made.package for made in lock.compiled_modules().values()} <= lock.packages.keys()
    [passed] = lock.choices[0].passed_over
    assert (passed.what, passed.reason) == (
        f"driver 550.163.01 (proprietary) on kernel {NEW}",
        f"module card 1.2 on kernel {NEW}: {REASON}",
    )


def rows(root: Path) -> dict[str, tuple[str, str]]:
    text = (root / "build/watch/watch.json").read_text(encoding="utf-8")
    return {
        row.component: (row.verdict.value, row.reason)
        for row in WatchRecord.model_validate(json.loads(text)).rows
    }


def test_watch_holds_a_kernel_back_and_takes_a_newer_source(
    root: Path,
    vendor: Vendor,
    fits: Callable[..., list[str]],
) -> None:
    fits(lambda _, release: release != NEXT)
    define(root, vendor)
    locked(root)
    vendor.publish(agent("1.2-4"), *KERNEL)
    done = golden(root, "watch", IMAGE)
    assert done.returncode == 10, done.stdout + done.stderr
    assert (rows(root)["kernel"][0], rows(root)["packages"][0]) == ("update", "update")
    done = golden(root, "watch", IMAGE, "--update")
    assert done.returncode == 0, done.stdout + done.stderr
    verdict, reason = rows(root)["kernel"]
    assert (verdict, f"module agent 1.2 on kernel {NEXT}: {REASON}" in reason) == (
        "blocked",
        True,
    ), reason
    lock = lock_of(root)
    assert (lock.kernel.release, lock.choices[0].why) == (NEW, "the policy keeps it")
    assert lock.kernel_modules["agent"].build["agent-dkms"].version == "1.2-4"
