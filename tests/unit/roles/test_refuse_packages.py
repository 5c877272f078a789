"""What apt says on an instance before it downloads: its own `apt-get` asks the image's program; no
dpkg is ever run.

And the image's checks of it: each says so where the sentence is missing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.gpu import gpu_checks

ROOT = Path(__file__).resolve().parents[3]
FILES = ROOT / "roles/seal/files"
CHECKS = gpu_checks.module(ROOT / "tests/image/seal/test_packages.py")
INSTALLED = "/usr/local/libexec/golden-refuse-"

pytestmark = pytest.mark.skipif(not shutil.which("apt-get"), reason="apt is needed")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """The image's apt.conf for programs in a folder of the test's; whatever goes wrong, dpkg is
    `false`."""
    for name in ("apt", "packages"):
        text = (FILES / f"golden-refuse-{name}").read_text(encoding="utf-8")
        (tmp_path / name).write_text(text.replace(INSTALLED, f"{tmp_path}/"), encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    text = (
        (FILES / "etc/apt/apt.conf.d/61golden")
        .read_text(encoding="utf-8")
        .replace(INSTALLED, f"{tmp_path}/")
    )
    for name in ("lists/partial", "archives/partial", "deb/DEBIAN"):
        (tmp_path / name).mkdir(parents=True)
    control = CHECKS.CONTROL.replace(r"\n", "\n")
    (tmp_path / "deb/DEBIAN/control").write_text(control, encoding="utf-8")
    subprocess.run(
        ["dpkg-deb", "--build", "deb", "try.deb"], cwd=tmp_path, check=True, capture_output=True
    )
    (tmp_path / "apt.conf").write_text(
        f'{text}Dir::State::Lists "{tmp_path}/lists";\nDir::Cache::archives '
        f'"{tmp_path}/archives";\n'
        'Dir::Bin::dpkg "/bin/false";\nDebug::NoLocking "1";\nDPkg::Post-Invoke "";\n#clear '
        "DPkg::Post-Invoke;\n",
        encoding="utf-8",
    )
    return tmp_path / "apt.conf"


def apt(conf: Path, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        ["apt-get", "--yes", *words],
        env={"APT_CONFIG": str(conf), "PATH": "/usr/sbin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("install", "golden-no-such-package"),
        ("install", "{}/try.deb"),
        ("purge", "base-files"),
        ("upgrade", "{}/try.deb"),
    ],
)
def test_what_would_change_packages_is_refused_first(conf: Path, words: tuple[str, ...]) -> None:
    status, said = apt(
        conf, "--allow-remove-essential", *(word.format(conf.parent) for word in words)
    )
    assert status == 100
    assert said.splitlines().count(CHECKS.REFUSED) == 1, said
    assert "/bin/false" not in said, "dpkg was asked"


@pytest.mark.parametrize(
    "words",
    [
        ("install", "dpkg"),
        ("--simulate", "install", "{}/try.deb"),
        ("check",),
        ("--print-uris", "install", "{}/try.deb"),
        ("--download-only", "install", "{}/try.deb"),
    ],
)
def test_what_only_asks_or_changes_nothing_is_not(conf: Path, words: tuple[str, ...]) -> None:
    status, said = apt(conf, *(word.format(conf.parent) for word in words))
    assert (status, CHECKS.REFUSED in said) == (0, False), said


def test_without_the_hook_the_sentence_never_comes(conf: Path) -> None:
    """What the two tests above see is the hook's work."""
    text = conf.read_text(encoding="utf-8")
    conf.write_text(
        "".join(line for line in text.splitlines(True) if "AptCli" not in line), encoding="utf-8"
    )
    assert CHECKS.REFUSED not in apt(conf, "install", "golden-no-such-package")[1]
