"""An image of all that a company may write into a definition, from sources on loopback: locked,
baked without a network, booted, and baked again to the same bytes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from goldenami.core import records
from goldenami.model.builds.build_records import Outcome, VerifyRecord
from goldenami.model.locked import lockfile
from goldenami.model.locked.lockfile import Origin
from goldenami.model.roles import recipes
from support.builds import bakes, checkout, galaxy_roles
from support.debian import debrepo, demo_wheel, dkms_sources, docker_ce, pyindex, tls
from support.debian.pyindex import PyIndex
from support.debian.registry import Registry
from support.debian.vendors import LOGIN, VARIABLE, VendorServer

pytestmark = pytest.mark.long

IMAGE = "debian-13-vendors"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl ann"
MODULE = dkms_sources.tarball(dkms_sources.files("golden_card"))
DEFINITION = f"""image: {IMAGE}
description: Debian 13 with what vendors have
base:
  distribution: debian
  release: trixie
kernel: cloud
disk_size_gib: 4
hardware: [c7i]
frameworks: [demo]
python_packages: [company-model]
{galaxy_roles.LISTEN}containers: [docker.io/library/tool:7]
SOURCESroles:
  os_updates:
  kernel:
  container_runtime:
    container_runtime_packages: [docker-ce, docker-ce-cli, containerd.io]
  customize:
    customize_packages: [company-tool]
    customize_files: [{{source: agent.conf, path: /etc/company/agent.conf, mode: "0440"}}]
    customize_ca_certificates: [company.pem]
    customize_groups: [operations]
    customize_users: [{{name: ann, groups: [adm], ssh_keys: [{KEY}]}}]
    customize_timezone: Europe/Berlin
    customize_locale: de_DE.UTF-8
    customize_units_enabled: [fstrim.timer]
    customize_units_disabled: [e2scrub_all.timer]
    customize_proxy: http://proxy.company.example:3128
    customize_no_proxy: [.company.example]
    customize_apt_mirror: https://mirror.company.example/debian
    customize_apt_security_mirror: https://mirror.company.example/debian-security
    customize_pip_index_url: https://pypi.company.example/simple
  fabric:
    after: customize
{galaxy_roles.DEFINITION}  frameworks:
    frameworks_shared_environment: ml
  motd:
    packages: [tree]
    motd_text: Welcome
  limits:
  network_tuning:
  provenance:
  seal:
"""
COLLECTION = "collections/ansible_collections/company/base/roles"
OWN = {
    f"{COLLECTION}/fabric/tasks/main.yml": "- name: Run the vendor's installer\n"
    "  ansible.builtin.command: /opt/fabric-installer/install.sh\n",
    f"{COLLECTION}/fabric/vars/main.yml": "__fabric_files: [/opt/fabric/lib/fabric.so]\n",
    "tests/image/fabric/test_fabric.py": "def test_installer_has_run(host):\n"
    "    assert host.file('/opt/fabric/lib/fabric.so').content_string == 'not really\\n'\n"
    "    assert host.check_output('/opt/probe/bin/probe') == '2.1'\n",
    f"tests/image/{IMAGE}/test_company.py": "def test_it_is_the_company_s_image(host, lock):\n"
    "    assert lock['golden_image'] == 'debian-13-vendors'\n"
    "    assert host.run('systemctl is-active nginx fluentd').succeeded\n",
    "roles/customize/files/agent.conf": "colour = blue\n",
    f"{recipes.FOLDER}/demo/recipe.yml": "version: '1.0'\ndistribution: demo\nmodule: demo\n"
    "generic: x86-64-v3\nbuild:\n  requires: [setuptools==80.9.0]\n"
    "  environment: {CFLAGS: '{options}'}\n  memory_mib: 100\n",
    f"{recipes.FOLDER}/demo/smoke.py": "import demo\nassert demo.answer() == 42\nprint('42')\n",
    f"{recipes.FOLDER}/demo/bench.py": "print('{}')\n",
}
"""A role of a collection, its check, a check of the image, a file, and a recipe."""
GALAXY = {
    "roles/motd/meta/main.yml": (
        "galaxy_info: {author: vendor, description: x, license: MIT, min_ansible_version: '2.9',\n"
        "  platforms: [{name: Debian, versions: [all]}]}\ndependencies: []\n"
    ),
    "roles/motd/defaults/main.yml": "motd_text: Hello\n",
    "roles/motd/tasks/main.yml": "- name: install\n"
    "  apt: {name: tree, state: present, update_cache: yes, cache_valid_time: 3600}\n"
    "- name: write\n"
    "  template: {src: motd.j2, dest: /etc/motd.company, mode: '0644'}\n  notify: restart\n",
    "roles/motd/handlers/main.yml": "- name: restart\n  service: {name: ssh, state: restarted}\n",
    "roles/motd/templates/motd.j2": "{{ motd_text }}\n",
}
"""A role that knows nothing of goldenami, as one of Galaxy is written."""


@pytest.fixture(scope="module")
def index() -> Iterator[PyIndex]:
    """A private package index: a wheel, and the source of a framework."""
    with pyindex.serve() as made:
        made.login = LOGIN
        made.wheel("company-model", "1.0")
        made.sdist(
            "demo",
            "1.0",
            {
                "setup.py": demo_wheel.SETUP.replace("EXTRA", "[]"),
                "demo.cpp": demo_wheel.CODE.replace("ANSWER", "42"),
            },
        )
        yield made


@pytest.fixture(scope="module")
def vendor(key: debrepo.Key, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VendorServer]:
    made = VendorServer(tmp_path_factory.mktemp("vendor"), key)
    made.take(docker_ce.build(tmp_path_factory.mktemp("docker")))
    (made.files / "card.tar.xz").write_bytes(MODULE)
    yield made
    made.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    made = Registry(tmp_path_factory.mktemp("hub") / "registry")
    made.push("library/tool:7", {"etc/tool.conf": "colour = blue\n"})
    yield made
    made.close()


@pytest.fixture(scope="module")
def root(
    vendor: VendorServer,
    index: PyIndex,
    registry: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Path]:
    """A checkout with the image's build, which was booted and passed every check."""
    more = f"""python_index: {{url: '{index.url}', packages: [company-*, demo], login: {VARIABLE}}}
kernel_modules:
  - {{name: card, source: {{url: '{vendor.uri}/files/card.tar.xz', sha256: '{
        dkms_sources.sha256(MODULE)
    }'}}}}
"""
    definition = DEFINITION.replace("SOURCES", vendor.repos() + vendor.downloads() + more)

    def closed() -> None:  # from here on the store has all of it
        vendor.close()
        index.files.clear()
        registry.stop()

    folder = tmp_path_factory.mktemp("company")
    authority = tls.certificate(folder)[0].read_text(encoding="utf-8")
    files = {
        f"packer/images/{IMAGE}.yml": definition,
        "roles/customize/files/company.pem": authority,
        **OWN,
        **GALAXY,
        **galaxy_roles.FILES,
    }
    env = {VARIABLE: LOGIN, "GOLDEN_MIRROR_DOCKER_IO": registry.mirror}
    with bakes.baked(folder / "root", files, locked=closed, **env) as root:
        yield root


def test_every_source_is_in_the_booted_image(root: Path) -> None:
    lock = lockfile.read(lockfile.path_of(root, IMAGE))[0]
    assert {lock.packages[name].origin for name in docker_ce.NAMES} == {"agent"}
    assert "docker.io" not in lock.packages
    record = records.read(root / f"build/{IMAGE}/latest/verify.json", VerifyRecord)
    checks = {check.id: check.outcome for check in record.checks}
    for name in (
        "customize/packages_are_installed",
        "customize/files_by_address_are_there",
        "customize/files_are_there_as_they_are_in_the_checkout",
        "customize/certificates_are_trusted",
        "customize/users_have_their_groups_and_no_password",
        "customize/sshd_takes_their_keys",
        "customize/time_zone_is_set",
        "customize/locale_is_set_and_works",
        "customize/units_are_on_or_off",
        "customize/apt_and_logins_have_the_proxy",
        "customize/services_have_the_proxy",
        "customize/apt_asks_the_mirrors",
        "customize/pip_asks_the_index",
        "seal/nothing_listens_that_is_not_declared",
        "seal/all_that_the_definition_declares_listens",
        f"{IMAGE}/it_is_the_company_s_image",
        "containers/engine_has_them_without_a_pull",
        "container_runtime/docker_is_configured",
        "fabric/installer_has_run",
        "frameworks/environments_hold_exactly_the_lock_s_wheels",
        "frameworks/python_packages_are_imported_by_a_user_without_rights",
    ):
        assert checks.get(name) is Outcome.CORRECT, f"{name}, of {sorted(checks)}"
    assert {"tree", lock.kernel_modules["card"].package} <= lock.packages.keys()
    assert [one.origin for one in lock.frameworks] == [Origin.SOURCE]


def test_the_bill_of_materials_has_their_addresses(root: Path, vendor: VendorServer) -> None:
    text = (root / f"build/{IMAGE}/latest/sbom.cdx.json").read_text(encoding="utf-8")
    found = {part["name"]: part for part in json.loads(text)["components"]}
    for name, file in (
        ("company-sealed", "sealed.deb"),
        ("probe-2.1.tar.gz",) * 2,
        ("installer.tar.xz",) * 2,
        ("license.txt",) * 2,
    ):
        urls = [reference["url"] for reference in found[name]["externalReferences"]]
        assert urls == [f"{vendor.uri}/files/{file}"], name
    assert found["company-tool"]["purl"].startswith("pkg:deb/tool/company-tool@2.0-1")
    module = lockfile.read(lockfile.path_of(root, IMAGE))[0].kernel_modules["card"].package
    assert {"company-model", "demo", module} <= found.keys()


def test_nothing_holds_the_login(root: Path) -> None:
    for folder in ("build", "packer"):
        for path in (path for path in (root / folder).rglob("*") if path.is_file()):
            if path.name != "disk.raw":
                assert LOGIN.partition(":")[2].encode() not in path.read_bytes(), path


def test_again_the_same_bytes(root: Path) -> None:
    status, said = bakes.finish(checkout.golden(root, "reproduce", IMAGE))
    assert status == 0, said
