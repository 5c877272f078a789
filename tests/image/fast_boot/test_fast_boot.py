"""Less before SSH: what cloud-init does beside it, what comes first, and which drivers the
initramfs has."""

from __future__ import annotations

from typing import Any

import pytest

GROWTH = ["growpart", "resizefs"]
MOST = 60
"""Modules of the initramfs: those that are named, and what they depend on."""
FIRST = {"ssh.service", "systemd-logind.service", "dbus.service", "user.slice"}
"""What a login waits for on any release, beside cloud-init."""
LISTS = """
import json, os, yaml
names = ["/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d/65_golden_fast_boot.cfg"]
read = [yaml.safe_load(open(name)) for name in names if os.path.exists(name)]
stages = ("cloud_init_modules", "cloud_config_modules")
print(json.dumps([[each[stage] for stage in stages] for each in read]))
"""


def test_cloud_init_has_all_its_modules_and_grows_the_root_later(
    run_program: Any, lock: dict[str, Any]
) -> None:
    (init, config), *moved = run_program(LISTS)
    if lock["fast_boot_late_growth_enabled"]:
        assert set(GROWTH) < set(init)
        assert moved == [[[name for name in init if name not in GROWTH], [*GROWTH, *config]]], (
            "in their own order"
        )
    else:
        assert moved == []


@pytest.mark.no_boot
def test_what_a_login_waits_for_has_more_of_the_processors(host: Any, lock: dict[str, Any]) -> None:
    lines = host.check_output(
        "grep ^StartupCPUWeight= /etc/systemd/system/*.d/60-golden-fast-boot.conf"
    ).splitlines()
    assert {line.rpartition(".d/")[0].rpartition("/")[2] for line in lines} >= FIRST
    assert {line.rpartition("=")[2] for line in lines} == {str(lock["fast_boot_cpu_weight"])}


def test_systemd_took_these_weights(host: Any, lock: dict[str, Any], needs_boot: None) -> None:
    found = {unit: host.service(unit).systemd_properties["StartupCPUWeight"] for unit in FIRST}
    assert found == dict.fromkeys(FIRST, str(lock["fast_boot_cpu_weight"]))


@pytest.mark.no_boot
def test_initramfs_has_the_named_drivers_and_few_others(
    host: Any, settings: Any, lock: dict[str, Any]
) -> None:
    if not lock["fast_boot_few_drivers_enabled"]:
        pytest.skip("the image leaves it off")
    release = lock["kernel_release"]
    listed = host.run(f"lsinitramfs /boot/initrd.img-{release}")
    if listed.failed:
        pytest.skip(
            "no initramfs yet: the seal creates it, and the role kernel's checks hold "
            "that it is there"
        )
    wanted = lock["fast_boot_drivers"]
    assert settings("/etc/default/golden-drivers") == [f'DRIVERS="{" ".join(wanted)}"']
    assert settings("/etc/initramfs-tools/conf.d/golden-fast-boot") == ["MODULES=list"]
    modules, inside = f"/lib/modules/{release}/modules.builtin", listed.stdout.splitlines()
    known = [*inside, *host.file(modules).content_string.splitlines()]
    names = {path.rpartition("/")[2].partition(".ko")[0] for path in known if ".ko" in path}
    assert not {name.replace("-", "_") for name in wanted} - {n.replace("-", "_") for n in names}
    loaded = [path for path in inside if path.endswith((".ko", ".ko.xz", ".ko.zst"))]
    assert len(loaded) < MOST, "MODULES=most brings 180"
