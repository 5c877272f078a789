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
print(json.dumps([[each[f"cloud_{stage}_modules"] for stage in ("init", "config")] for each in read]))
"""


@pytest.fixture(scope="module")
def facts(gather: Any, lock: dict[str, Any]) -> Any:
    return gather({
        "weights": "grep ^StartupCPUWeight= /etc/systemd/system/*.d/60-golden-fast-boot.conf",
        "modules": "cat /etc/default/golden-drivers; cat /etc/initramfs-tools/conf.d/golden-fast-boot",
        "initramfs": f"lsinitramfs /boot/initrd.img-{lock['kernel_release']}",
        "builtin": f"cat /lib/modules/{lock['kernel_release']}/modules.builtin",
    })


def test_cloud_init_has_all_its_modules_and_grows_the_root_later(
    run_program: Any, lock: dict[str, Any]
) -> None:
    (init, config), *moved = run_program(LISTS)
    if lock["fast_boot_late_growth_enabled"]:
        assert set(GROWTH) < set(init)
        assert moved == [[[name for name in init if name not in GROWTH],
                          [*GROWTH, *config]]], "in their own order"
    else:
        assert moved == []


@pytest.mark.no_boot
def test_what_a_login_waits_for_has_more_of_the_processors(
    facts: Any, lock: dict[str, Any]
) -> None:
    assert {
        line.rpartition(".d/")[0].rpartition("/")[2] for line in facts["weights"].lines
    } >= FIRST
    assert {line.rpartition("=")[2] for line in facts["weights"].lines} == {
        str(lock["fast_boot_cpu_weight"])
    }


def test_systemd_took_these_weights(gather: Any, lock: dict[str, Any], needs_boot: None) -> None:
    said = gather(
        {"units": f"systemctl show --property StartupCPUWeight --value {' '.join(FIRST)}"}
    )
    assert said["units"].text.split() == [str(lock["fast_boot_cpu_weight"])] * len(FIRST)


@pytest.mark.no_boot
def test_initramfs_has_the_named_drivers_and_few_others(facts: Any, lock: dict[str, Any]) -> None:
    if not lock["fast_boot_few_drivers_enabled"]:
        pytest.skip("the image leaves it off")
    if facts["initramfs"].status:
        pytest.skip("no initramfs yet: the seal creates it, and the role kernel's checks hold "
                    "that it is there")
    assert facts["modules"].lines[1:] == [
        f"DRIVERS=\"{' '.join(lock['fast_boot_drivers'])}\"",
        "# Role fast_boot: hooks/golden-drivers names them.",
        "MODULES=list"]
    names = {path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
             for path in [*facts["initramfs"].lines, *facts["builtin"].lines] if ".ko" in path}
    assert not {name.replace("-", "_") for name in lock["fast_boot_drivers"]} - names
    inside = [line for line in facts["initramfs"].lines
              if line.endswith((".ko", ".ko.xz", ".ko.zst"))]
    assert len(inside) < MOST, "MODULES=most brings 180"
