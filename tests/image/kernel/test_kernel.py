"""One fixed kernel, its command line, and an initramfs that reaches the root disk."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(scope="module")
def facts(gather: Any, lock: dict[str, Any]) -> Any:
    release = lock["kernel_release"]
    return gather({
        "kernels": "dpkg-query -W -f '${db:Status-Want} ${db:Status-Status} ${Package}\\n' 'linux-image-*'",
        "boot": f"ls /boot/vmlinuz-* /boot/initrd.img-*; file=/boot/initrd.img-{release}; stat -c %s $file",
        "initramfs": f"lsinitramfs /boot/initrd.img-{release}; cat /lib/modules/{release}/modules.builtin",
        "compression": f"LC_ALL=C grep -acP '\\x28\\xb5\\x2f\\xfd' /boot/initrd.img-{release}",
        "cmdline": "cat /etc/default/golden-cmdline",
        "efa": f"modinfo -k {release} -F filename efa; ls /usr/lib/*/libibverbs/libefa-*.so",
    })


@pytest.fixture(scope="module")
def booted_kernel(gather: Any) -> Any:
    return gather({"cmdline": "cat /proc/cmdline", "release": "uname -r"}, root=False)


@pytest.fixture(scope="module")
def boot_log(gather: Any) -> Any:
    return gather(
        {"circles": "journalctl --boot --no-pager --output=cat | grep -i 'ordering cycle'"}
    )


@pytest.mark.no_boot
def test_kernel_is_the_locked_one_alone_and_held(facts: Any, lock: dict[str, Any]) -> None:
    installed = [line.split() for line in facts["kernels"].lines if line.split()[1] == "installed"]
    assert installed == [["hold", "installed", lock["kernel_package"]]]


@pytest.mark.no_boot
def test_boot_holds_that_kernel_and_its_initramfs(facts: Any, lock: dict[str, Any]) -> None:
    release = lock["kernel_release"]
    assert facts["boot"].lines[:2] == [f"/boot/initrd.img-{release}", f"/boot/vmlinuz-{release}"]
    assert int(facts["boot"].lines[2]) > 1 << 20


@pytest.mark.no_boot
@pytest.mark.parametrize("driver", ["/nvme.ko", "/virtio_blk.ko", "/virtio_net.ko", "/ena.ko"])
def test_root_disk_and_network_are_reached_before_there_is_a_root(facts: Any, driver: str) -> None:
    """In the initramfs, or built into the kernel."""
    assert driver in facts["initramfs"].text


@pytest.mark.no_boot
def test_initramfs_is_zstd(facts: Any) -> None:
    assert int(facts["compression"].text) > 0


@pytest.mark.no_boot
def test_command_line_for_the_loader_is_the_lock_s(facts: Any, lock: dict[str, Any]) -> None:
    assert facts["cmdline"].lines == [" ".join(lock["kernel_cmdline"])]


@pytest.mark.no_boot
def test_efa_has_its_driver_and_its_library_where_it_is_asked_for(
    facts: Any, lock: dict[str, Any]
) -> None:
    if not lock["kernel_efa_enabled"]:
        pytest.skip("not asked: the definition wants no EFA")
    module, library = facts["efa"].lines
    assert "/efa.ko" in module and "/libefa-" in library


def test_kernel_booted_with_that_command_line(
    booted_kernel: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    missing = set(lock["kernel_cmdline"]) - set(booted_kernel["cmdline"].text.split())
    assert not missing, booted_kernel["cmdline"].text


def test_running_kernel_is_the_locked_one(
    booted_kernel: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    assert booted_kernel["release"].text == lock["kernel_release"]


def test_no_unit_was_left_out_of_the_boot(boot_log: Any, needs_boot: None) -> None:
    """Where units wait for each other in a circle, systemd starts all but one, and none of them
    fails."""
    assert boot_log["circles"].lines == []
