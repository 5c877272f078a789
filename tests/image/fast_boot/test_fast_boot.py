"""SSH first: what waits for it, what cloud-init does after it, and which drivers the initramfs has."""

from __future__ import annotations

from typing import Any

import pytest

GROWTH = ["growpart", "resizefs"]
MOST = 60
"""Modules of the initramfs: those that are named, and what they depend on."""
LISTS = """
import json, yaml
both = [yaml.safe_load(open(f"/etc/cloud/{name}")) for name in ("cloud.cfg", "cloud.cfg.d/65_golden_fast_boot.cfg")]
print(json.dumps([[each[f"cloud_{stage}_modules"] for stage in ("init", "config")] for each in both]))
"""


@pytest.fixture(scope="module")
def facts(gather: Any, lock: dict[str, Any]) -> Any:
    units = "|".join(["ssh.service", *lock["fast_boot_late_units"]]).replace(".", "[.]")
    return gather({
        "late": "grep -lx After=ssh.service /etc/systemd/system/*.d/golden-fast-boot.conf",
        # By the manager's own words, in their order: cloud-init restarts SSH later on, which moves its time.
        "order": "systemctl is-system-running --wait >/dev/null; "
                 f"journalctl --boot --output=cat _PID=1 | grep -oE '^Start(ing|ed) ({units}) '",
        "circles": "journalctl --boot --output=cat | grep -F 'ordering cycle' || true",
        "modules": "cat /etc/default/golden-drivers; cat /etc/initramfs-tools/conf.d/golden-fast-boot",
        "initramfs": f"lsinitramfs /boot/initrd.img-{lock['kernel_release']}",
        "builtin": f"cat /lib/modules/{lock['kernel_release']}/modules.builtin",
    })


def test_units_wait_for_ssh(facts: Any, lock: dict[str, Any]) -> None:
    found = {line.split("/")[-2].removesuffix(".d") for line in facts["late"].lines}
    assert found == set(lock["fast_boot_late_units"])


def test_units_did_wait_and_nothing_was_left_out_for_it(facts: Any, needs_boot: None) -> None:
    order = [line.split() for line in facts["order"].lines]
    ssh = order.index(["Started", "ssh.service"])
    assert {name for _, name in order[:ssh]} <= {"ssh.service"}
    assert ["Starting", "cloud-config.service"] in order[ssh:]
    assert facts["circles"].text == ""


def test_cloud_init_has_all_its_modules_and_grows_the_root_after_ssh(run_program: Any, lock: dict[str, Any]) -> None:
    if not lock["fast_boot_late_growth_enabled"]:
        pytest.skip("the image leaves it off")
    (init, config), (early, late) = run_program(LISTS)
    assert early == [name for name in init if name not in GROWTH], "in their own order"
    assert set(GROWTH) < set(init) and late == [*GROWTH, *config]


@pytest.mark.no_boot
def test_initramfs_has_the_named_drivers_and_few_others(facts: Any, lock: dict[str, Any]) -> None:
    if not lock["fast_boot_few_drivers_enabled"]:
        pytest.skip("the image leaves it off")
    assert facts["modules"].lines[1:] == [
        f"DRIVERS=\"{' '.join(lock['fast_boot_drivers'])}\"", "# Role fast_boot: hooks/golden-drivers names them.",
        "MODULES=list"]
    names = {path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")
             for path in [*facts["initramfs"].lines, *facts["builtin"].lines] if ".ko" in path}
    assert not {name.replace("-", "_") for name in lock["fast_boot_drivers"]} - names
    inside = [line for line in facts["initramfs"].lines if line.endswith((".ko", ".ko.xz", ".ko.zst"))]
    assert len(inside) < MOST, "MODULES=most brings 180"
