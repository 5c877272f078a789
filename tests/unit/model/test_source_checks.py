"""What `check` says of repositories and files that a definition names, before anything is asked
for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from goldenami.core.errors import BadInput
from goldenami.local.tree import residue
from goldenami.model.locked import vendor_archives
from goldenami.model.roles import role_files
from support.builds.checkout import ROOT
from support.builds.definitions import IMAGE, edited, load, refused
from support.files import write
from support.security.secret_lines import PLANTED

REPO = {
    "name": "agent",
    "uri": "https://vendor.example/apt",
    "suites": "[stable]",
    "components": "[main]",
    "key": "https://vendor.example/key",
    "fingerprint": "A" * 40,
}
FILE = {"url": "https://vendor.example/agent.deb", "sha256": "a" * 64, "install": "deb"}


def said(section: str, *entries: dict[str, str]) -> str:
    """A list of mappings, each on one line."""
    rows = [", ".join(f"{name}: {value}" for name, value in entry.items()) for entry in entries]
    return f"{section}:\n" + "".join(f"  - {{{row}}}\n" for row in rows)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory, lockable: Callable[[Path], Path]) -> Path:
    """One checkout for all cases, which each leaves as it was."""
    return lockable(tmp_path_factory.mktemp("company") / "checkout")


ROLES, CUSTOMIZED = "roles:\n", "roles:\n  customize:\n"


def told(root: Path, section: str, roles: str = CUSTOMIZED) -> str:
    """The first complaint about a definition with `section` and, among its roles, `roles`."""
    with edited(root, ROLES, f"{section}{roles}"):
        return refused(root)


def test_a_repository_as_people_write_it(company: Path) -> None:
    spaced = " ".join(["aaaa"] * 10)
    repo = {**REPO, "fingerprint": spaced, "uri": "https://v.example/apt/"}
    with edited(company, ROLES, said("extra_repos", repo) + said("downloads", FILE) + CUSTOMIZED):
        found = load(company)
    assert found.extra_repos[0].fingerprint == ("A" * 40,)
    assert found.extra_repos[0].uri == "https://v.example/apt"
    assert [one.name for one in vendor_archives.declared_archives(company, found)] == ["agent"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"name": "debian-tools"}, "name: `debian-tools` would be taken for goldenami's own"),
        ({"uri": "https://ann:pw@vendor.example/apt"}, "uri: holds a login: name an environment"),
        ({"key": "../agent.asc"}, "key: `../agent.asc` leads out of this repository"),
        ({"key": "agent.asc"}, "key: `agent.asc` is no address, and no file of this repository"),
        ({"suites": "[]"}, "`suites` and `components` need each other"),
    ],
)
def test_repositories_that_are_refused(
    company: Path,
    changed: dict[str, str],
    complaint: str,
) -> None:
    line = told(company, said("extra_repos", REPO | changed))
    assert line.startswith(f"{IMAGE}.yml:10: extra_repos.1"), line
    assert complaint in line


def test_one_name_for_two_repositories(company: Path) -> None:
    assert told(company, said("extra_repos", REPO, REPO)) == (
        f"{IMAGE}.yml:11: extra_repos.2.name: `agent` is given twice"
    )


def test_a_name_that_a_role_s_archive_has(company: Path) -> None:
    with edited(
        company, ROLES, said("extra_repos", {**REPO, "name": "nvidia-container"}) + CUSTOMIZED
    ):
        found = load(company)
    engine = {"container_runtime": {"container_runtime_gpu_source": "nvidia"}}
    found = found.model_copy(update={"roles": {**found.roles, **engine}})
    with pytest.raises(BadInput, match="`nvidia-container` of extra_repos has the name of a role"):
        vendor_archives.declared_archives(company, found)


TO = {name: value for name, value in FILE.items() if name != "install"}


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        (TO, "1: wants one of `install: deb`, `path` and `unpack`"),
        ({**FILE, "path": "/opt/a/b"}, "1: wants one of `install: deb`, `path` and `unpack`"),
        (
            {**FILE, "key": "https://v.example/key"},
            "1: `signature`, `key` and `fingerprint` need each",
        ),
        (
            {**FILE, "signature": "https://v.example/s", "key": "../k", "fingerprint": "A" * 40},
            "1.key: `../k` leads out of this repository",
        ),
        ({**TO, "path": "/etc"}, "1.path: `/etc` names no place"),
        ({**TO, "path": "/root/x"}, "1.path: `/root/x` lies in a home"),
        ({**TO, "unpack": "/opt/a/../../etc/b"}, "1.unpack: `/opt/a/../../etc/b` is no plain path"),
        ({**TO, "unpack": "/opt/agent/**"}, "1.unpack: `/opt/agent/**` is no plain path"),
        ({**FILE, "url": "https://ann:pw@v.example/x.deb"}, "1.url: holds a login: name"),
        ({**FILE, "mode": "'0600'"}, "1: `mode` is for `path`"),
        ({**TO, "path": "/opt/a/b", "strip": "1"}, "1: `strip` is for `unpack`"),
    ],
)
def test_files_that_are_refused(company: Path, wanted: dict[str, str], complaint: str) -> None:
    line = told(company, said("downloads", wanted))
    assert line.startswith(f"{IMAGE}.yml:10: downloads.{complaint}"), line


def test_files_go_by_the_role_that_brings_them(company: Path) -> None:
    section = said("downloads", FILE)
    assert told(company, section, ROLES) == (
        f"{IMAGE}.yml:9: downloads: need the role `customize`, which brings them"
    )
    assert "roles.customize.customize_downloads: is made by `lock`" in told(
        company, section, f"{CUSTOMIZED}    customize_downloads: []\n"
    )


def test_a_secret_in_what_a_tarball_brought(tmp_path: Path) -> None:
    """Whoever locked the file did not read all of it."""
    told = {"unpack": "/opt/probe", "brings": "/opt/probe/**", "file": "x", "sample": {}}
    brought = role_files.brought(ROOT, "customize", {"customize_downloads": [told]})
    write(
        tmp_path,
        {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "opt/probe/good.conf": "colour = blue\n"},
    )
    assert residue.find(tmp_path, brought) == []
    assert residue.find(tmp_path, []) == ["nobody's file: /opt/probe/good.conf"]
    write(tmp_path, {"opt/probe/etc/bad.conf": PLANTED["drop-in, env"]})
    (line,) = residue.find(tmp_path, brought)
    assert line.endswith(": /opt/probe/etc/bad.conf")


ENGINE, NAME = "roles:\n  container_runtime:\n", "docker.io/library/redis:7"


def test_images_of_containers_as_people_write_them(company: Path) -> None:
    digest = "a" * 64
    rows = (NAME, f"quay.example:5000/a/b@sha256:{digest}", f"{{image: {NAME}@sha256:{digest}}}")
    section = "containers:\n" + "".join(f"  - {row}\n" for row in rows[:2])
    with edited(company, ROLES, section + ENGINE):
        found = load(company)
    assert [(one.name, one.asked) for one in found.containers] == [
        (NAME, NAME),
        ("quay.example:5000/a/b:latest", rows[1]),
    ]
    assert "containers" in found.role_names
    with edited(company, ROLES, f"containers:\n  - {rows[2]}\n{ENGINE}"):
        (one,) = load(company).containers
    assert (one.name, one.asked) == (NAME, f"docker.io/library/redis@sha256:{digest}")


@pytest.mark.parametrize(
    ("names", "roles", "complaint"),
    [
        (["redis:7"], ENGINE, "containers.1: `redis:7` is no whole name of an image"),
        (
            [f"{NAME}@sha256:beef"],
            ENGINE,
            "containers.1: `docker.io/library/redis:7@sha256:beef` is",
        ),
        ([NAME, NAME], ENGINE, "containers.2: `docker.io/library/redis:7` is given twice"),
        ([NAME], CUSTOMIZED, "containers: need the role `container_runtime`, which has an engine"),
        ([], f"{ENGINE}  containers:\n", "roles.containers: is no role to list"),
    ],
)
def test_images_of_containers_that_are_refused(
    company: Path, names: list[str], roles: str, complaint: str
) -> None:
    section = "containers:\n" + "".join(f'  - "{name}"\n' for name in names)
    assert complaint in told(company, section if names else "", roles)
