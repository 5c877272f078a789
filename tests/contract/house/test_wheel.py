"""The wheel alone: a repository that `golden init` made of it locks, bakes and verifies an
immutable image, with no clone of goldenami in sight."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome, Verdict, VerifyRecord
from goldenami.model.locked.lockfile import Lock
from support import trees
from support.builds import runtime_environment
from support.builds.definitions import edit
from support.builds.tools import ROOT
from support.debian import tls
from support.debian.debrepo import Archive, Key, Package
from support.files import write
from support.loopback import Loopback, QuietHandler

pytestmark = pytest.mark.slow
IMAGE = "debian-13-base"
FACTS = """
- name: Say what the machine is
  ansible.builtin.copy:
    content: "{{ ansible_facts.distribution }} {{ ansible_facts.architecture }}\\n"
    dest: /etc/agent-facts
    mode: "0644"
"""
CHECK = """def test_the_agent_knows_the_machine(host):
    assert host.file("/etc/agent-facts").content_string == "Debian x86_64\\n"
"""
WEB = f"""image: web
extends: {IMAGE}
extra_repos:
  - name: probe
    uri: URL/apt
    suites: [x]
    components: [main]
    key: URL/key.asc
    fingerprint: [OLD]
roles: {{customize: {{customize_packages: [probe=1.0-1], customize_packages_absent: [nano]}}}}
"""
DB = "image: db\nextends: web\nroles: {customize: {customize_packages: [jq]}}\n"
CHANGES: dict[str, tuple[str, str, str, set[str]]] = {
    "a package": ("packer/images/db.yml", "[jq]", "[jq, tree]", {"db"}),
    "an inherited package": ("packer/images/web.yml", "[probe", "[sl, probe", {"db", "web"}),
    "a file": ("roles/customize/files/company.conf", "blue", "red", {IMAGE, "db", "web"}),
    "a role": ("roles/agent/tasks/main.yml", "what the", "which", {IMAGE, "db", "web"}),
    "a check": (f"tests/image/{IMAGE}/test_base.py", "Debian", "Ubuntu", {IMAGE}),
    "a comment": ("packer/images/web.yml", "suites: [x]", "suites: [x]  # the newest", set()),
}
"""Changes of a file, and the images whose locks they make stale."""


@dataclass(frozen=True)
class Vendor:
    """A server of an archive with two versions of a package, and the keys that it has signed
    with."""

    served: Path
    url: str
    authority: Path
    old: Key
    new: Key

    def sign(self, key: Key) -> None:
        packages = [Package("probe", version) for version in ("1.0-1", "2.0-1")]
        Archive(self.served / "apt", key, label="Probe", suites=("x",)).add(packages).publish()
        write(self.served, {"key.asc": key.public})

    def trusted(self, path: Path) -> Path:
        """A file of this machine's authorities and the vendor's."""
        others = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt")
        path.write_bytes(others.read_bytes() + self.authority.read_bytes())
        return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel and the runtime requirements alone."""
    if importlib.util.find_spec("hatchling") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no hatchling")
    made = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run(
        [
            *pip,
            "wheel",
            "--no-index",
            "--no-deps",
            "--no-build-isolation",
            "--wheel-dir",
            made,
            ROOT,
        ],
        check=True,
    )
    python = runtime_environment.make(made / "venv")
    subprocess.run(
        [*pip, "--python", python, "install", "--no-index", "--no-deps", *made.glob("*.whl")],
        check=True,
    )
    return python.parent


@pytest.fixture(scope="module")
def company(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A repository with a role, a file and a check of its own for an immutable image, and its lock.
    `make` makes an environment there."""
    folder = tmp_path_factory.mktemp("company") / "images"
    _said(folder.parent, environment / "golden", "init", folder.name)
    assert f"{IMAGE}: no lock" in _said(folder, "make", "check")
    _said(folder, "make", "role", "ROLE=agent")
    write(folder, {"roles/customize/files/company.conf": "colour = blue\n"})
    edit(
        folder,
        "  limits:\n",
        """\
    customize_files: [{source: company.conf, path: /etc/company/company.conf}]
  agent:
    agent_packages: [tree]
    agent_interval_s: 5
  limits:
""",
        IMAGE,
    )
    edit(folder, "roles:\n", "immutable: true\nroles:\n", IMAGE)
    tasks = folder / "roles/agent/tasks/main.yml"
    tasks.write_text(tasks.read_text(encoding="utf-8") + FACTS, encoding="utf-8")
    write(folder, {f"tests/image/{IMAGE}/test_base.py": CHECK})
    _said(folder, "make", "lock")
    yield folder
    shutil.rmtree(folder)


def _said(folder: Path, *words: str | Path) -> str:
    """What a command says on both streams."""
    code, text = _ran(folder, *words)
    assert code == 0, text
    return text


def _ran(folder: Path, *words: str | Path) -> tuple[int, str]:
    """A command's exit code, and what it says on both streams."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        words,
        cwd=folder,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


def test_all_that_runs_is_the_wheel_s(environment: Path) -> None:
    said = subprocess.run(
        [
            environment / "python",
            "-c",
            "from goldenami.model import program_files as files\nprint(files.INSTALLED)",
        ],
        cwd=environment,
        env={},
        check=True,
        text=True,
        capture_output=True,
    )
    data = Path(said.stdout.strip())
    assert data.is_relative_to(environment.parent) and data.name == "data"
    assert os.access(data / "scripts/setup", os.X_OK)
    kept = [
        *trees.scanned(300, ROOT, "roles/**/*.*"),
        *trees.scanned(4, ROOT, "packer/*.hcl"),
        *trees.scanned(35, ROOT, "tests/image/**/*.py"),
        *trees.scanned(2, ROOT, "ansible/*.yml"),
        *trees.scanned(3, ROOT, "requirements/*.txt"),
    ]
    assert [path for path in kept if not (data / path.relative_to(ROOT)).exists()] == []


def test_it_bakes_and_verifies(company: Path) -> None:
    _said(company, "make", "bake")
    record = records.read(company / "build" / IMAGE / "latest/verify.json", VerifyRecord)
    assert record.verdict is Verdict.VERIFIED
    correct = {check.id for check in record.checks if check.outcome is Outcome.CORRECT}
    assert {
        "agent/the_interval_is_the_definition_s",
        "agent/its_packages_are_installed",
        f"{IMAGE}/the_agent_knows_the_machine",
    } <= correct
    assert {check.partition("/")[0] for check in correct} >= {
        "customize",
        "immutable",
        "limits",
        "seal",
    }
    assert f"{IMAGE}: build" in _said(company, "make", "check")


def test_packer_runs_by_itself(company: Path) -> None:
    """After the bake: it has compiled nothing, so all files are in the store."""
    _said(company, company / ".venv/bin/golden", "bake", IMAGE, "--fetch-only")
    programs = f"PATH={company}/.venv/bin:{os.environ['PATH']}"
    argv = ["packer", "validate", "-var-file=../packer.pkrvars.json", "packer"]
    _said(company / f"build/{IMAGE}/packer", "env", programs, "CHECKPOINT_DISABLE=1", *argv)
    settings = (company / f"build/{IMAGE}/packer/ansible.cfg").read_text(encoding="utf-8")
    paths = re.search("^roles_path = (.*)$", settings, re.MULTILINE)
    assert paths is not None
    roles = [path for path in paths[1].split(":") if (Path(path) / "agent/tasks/main.yml").exists()]
    assert roles == [str(company / "roles")]


@pytest.fixture
def vendor(tmp_path: Path, key: Key) -> Iterator[Vendor]:
    old, served = Key(), tmp_path / "served"

    class Files(QuietHandler, SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(served))

    authority, context = tls.certificate(tmp_path)
    with Loopback(Files, context) as server:
        made = Vendor(served, server.url, authority, old, key)
        made.sign(old)
        yield made
    old.close()


def test_a_base_and_two_differences(
    company: Path, vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vendor behind the company's own authority, who changes the key of the archive; and which
    locks get stale."""
    golden = company / ".venv/bin/golden"
    web = WEB.replace("URL", vendor.url).replace("OLD", vendor.old.fingerprint)
    write(company, {"packer/images/web.yml": web, "packer/images/db.yml": DB})
    code, text = _ran(company, golden, "lock", "web")
    assert code != 0 and "this machine does not trust the server's certificate" in text, text
    monkeypatch.setenv("SSL_CERT_FILE", str(vendor.trusted(tmp_path / "authorities.pem")))
    _said(company, golden, "lock", "web")
    lock = records.read(company / "packer/locks/web.lock.json", Lock)
    assert lock.packages["probe"].version == "1.0-1" and "nano" not in lock.packages
    vendor.sign(vendor.new)
    code, text = _ran(company, golden, "lock", "db")
    assert code != 0 and {vendor.old.fingerprint, vendor.new.fingerprint} <= {
        *re.findall(r"[0-9A-F]{40}", text.replace(" ", ""))
    }, text
    edit(company, "fingerprint: [", f"fingerprint: [{vendor.new.fingerprint}, ", "web")
    _said(company, golden, "lock", "db")
    base = (company / f"packer/locks/{IMAGE}.lock.json").read_bytes()
    assert "web" in _said(company, golden, "lock", "--stale")
    assert (company / f"packer/locks/{IMAGE}.lock.json").read_bytes() == base
    assert _stale(company) == set()
    for name, (file, before, after, images) in CHANGES.items():
        path = company / file
        text = path.read_text(encoding="utf-8")
        assert before in text, name
        path.write_text(text.replace(before, after, 1), encoding="utf-8")
        assert _stale(company) == images, name
        path.write_text(text, encoding="utf-8")
    write(company, {"roles/customize/files/other.conf": "nobody names it\n"})
    assert _stale(company) == set()


def _stale(company: Path) -> set[str]:
    """The images whose locks `check` calls stale."""
    _, text = _ran(company, company / ".venv/bin/golden", "check")
    return set(re.findall(r"the lock of (\S+) is stale", text))
