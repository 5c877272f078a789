"""Fixtures of the unit and contract tests: a signed synthetic distribution, its mirror, a copy of
the checkout."""

from __future__ import annotations

import gc
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldenami.watch.sources import driver_releases
from support.builds.tools import need
from support.debian import debrepo
from support.debian.resolver import Resolver

ROOT = Path(__file__).resolve().parents[1]
IMAGE = "debian-13-ml-cpu"
NOBODY = "http://127.0.0.1:9/releases.json"
"""An address at which nothing answers: no test asks NVIDIA's own list."""
os.environ[driver_releases.VARIABLE] = NOBODY

LEFT_OUT = ("frameworks", "hardening", "instance_store", "tools")
"""Lines of its definition that the image of `lockable` does without."""

LONGEST = (
    "test_healthy_day.py",
    "test_wheels.py",
    "test_bake.py",
    "test_layers.py",
    "test_bake_boot.py",
    "test_offline_container.py",
    "test_modules.py",
    "test_wheel.py",
    "test_linters.py",
    "test_notebooks.py",
    "test_health.py",
    "test_lock.py",
    "test_watch.py",
    "test_watch_driver.py",
    "test_packer.py",
    "test_publish.py",
    "test_policies.py",
    "test_silent_regions.py",
)
"""Files that take minutes, of the slow tests and then of the others: two workers end together if
these begin first. A day of work is two boots, half as long as all the rest."""
SLOWEST = 10

# What was started in the background of a script ignores interrupts, and so would every process that
# a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing of what is imported and collected becomes garbage, and looking for it is a third of the
# time.
gc.disable()


def pytest_collection_finish() -> None:
    """From now on there may be garbage, but not among the modules and tests."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests by file, the longest first; within a file nothing changes."""
    items.sort(
        key=lambda item: (
            LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)
        )
    )


class _FailureAtOnce:
    """Shows each failure when it happens, not a quarter of an hour later."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if report.failed and terminal:  # a worker of xdist has none
            errors = [line for line in report.longreprtext.splitlines() if line.startswith("E ")]
            terminal.write_line("\n".join(["", f"FAILED {report.nodeid}", *errors[:3]]))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_FailureAtOnce(config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the files that took longest, where tests of more than a minute ran."""
    seconds: dict[str, float] = {}
    # "": set-up and tear-down of what passed.
    for outcome in ("passed", "failed", "error", "skipped", ""):
        for report in terminalreporter.stats.get(outcome, []):
            if isinstance(report, pytest.TestReport):
                name = report.nodeid.partition("::")[0]
                seconds[name] = seconds.get(name, 0.0) + report.duration
    if sum(seconds.values()) < 60:
        return
    terminalreporter.section(f"the {SLOWEST} slowest files")
    for name in sorted(seconds, key=lambda name: -seconds[name])[:SLOWEST]:
        terminalreporter.write_line(f"{seconds[name]:7.1f} s  {name}")


@pytest.fixture(scope="session")
def key() -> Iterator[debrepo.Key]:
    need("gpg", "gpgconf", "dpkg-deb", "apt-get")
    made = debrepo.Key()
    yield made
    made.close()


@pytest.fixture(scope="session")
def names() -> list[str]:
    """Everything that the CPU image's roles name on Debian 13."""
    from goldenami.image.lock.resolution import BASE_PACKAGES
    from goldenami.model.roles import role_packages
    from goldenami.model.supported.platforms import PLATFORMS

    given = {
        "kernel_package": f"linux-image-{debrepo.KERNELS[1]}-cloud-amd64",
        "kernel_release": f"{debrepo.KERNELS[1]}-cloud-amd64",
    }
    return [
        *BASE_PACKAGES,
        *(
            name
            for role in ("os_updates", "kernel", "limits", "network_tuning", "provenance", "seal")
            for name in role_packages.packages(ROOT, role, PLATFORMS["trixie"], given)
        ),
    ]


@pytest.fixture(scope="session")
def distribution(
    key: debrepo.Key, names: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A Debian 13 that has it."""
    return debrepo.debian(tmp_path_factory.mktemp("archives"), key, names)


@pytest.fixture
def mirror(distribution: Path) -> Iterator[debrepo.Mirror]:
    """The synthetic distribution on loopback; its faults are the test's own."""
    made = debrepo.Mirror(distribution)
    yield made
    made.close()


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's own apt sources, mirrors and cache, out of sight."""
    config = tmp_path / "no-apt.conf"
    config.write_text(
        'Dir "/nonexistent";\nDir::Etc::sourcelist '
        '"/dev/null";\nDir::Etc::sourceparts "/dev/null";\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.setenv("GOLDEN_CACHE", str(tmp_path / "cache"))
    for name in list(os.environ):
        if name.startswith(("GOLDEN_MIRROR_", "GOLDEN_KEYRING_")) or name.lower() in (
            "http_proxy",
            "https_proxy",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv(driver_releases.VARIABLE, NOBODY)


@pytest.fixture
def debian(
    mirror: debrepo.Mirror, key: debrepo.Key, offline: None, monkeypatch: pytest.MonkeyPatch
) -> debrepo.Mirror:
    """The environment in which `golden lock` resolves Debian 13 from the synthetic mirror."""
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN", f"{mirror.uri}/debian")
    monkeypatch.setenv("GOLDEN_MIRROR_DEBIAN_SECURITY", f"{mirror.uri}/security/")
    monkeypatch.setenv("GOLDEN_KEYRING_DEBIAN_ARCHIVE_KEYRING", str(key.keyring))
    return mirror


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[debrepo.Mirror]:
    """Thirty files of a few KB, and one of 3 MB."""
    monkeypatch.setattr("goldenami.packages.download.BACKOFF", 0.02)
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number:02}").write_bytes(bytes([number]) * (1000 + number))
    (folder / "large").write_bytes(os.urandom(3 << 20))
    mirror = debrepo.Mirror(folder)
    yield mirror
    mirror.close()


@pytest.fixture(scope="session")
def lockable() -> Callable[[Path], Path]:
    """Makes checkouts in which a test may lock the CPU image."""
    return _lockable


def _lockable(target: Path) -> Path:
    """A copy of what `lock` reads, without committed locks; its CPU image has neither frameworks
    nor optional roles.

    Their packages and wheels are another source's, which the synthetic distribution does not have.
    """
    for name in ("packer", "roles", "ansible"):
        shutil.copytree(ROOT / name, target / name)
    shutil.copy(ROOT / "ansible.cfg", target)
    shutil.rmtree(target / "packer/locks", ignore_errors=True)
    path = target / f"packer/images/{IMAGE}.yml"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text(
        "".join(line for line in lines if not line.strip().startswith(LEFT_OUT)), encoding="utf-8"
    )
    return target


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One such checkout."""
    return _lockable(tmp_path / "checkout")


@pytest.fixture
def resolver(
    key: debrepo.Key, offline: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Resolver]:
    """Makes apt roots over archives of a test's own packages."""
    monkeypatch.setenv("GOLDEN_KEYRING_TEST", str(key.keyring))
    made = Resolver(key, tmp_path)
    yield made
    for served in made.mirrors:
        served.close()
