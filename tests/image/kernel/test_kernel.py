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
def modules(gather: Any, lock: dict[str, Any]) -> list[dict[str, str]]:
    """What modinfo says of each out-of-tree module for the image's kernel, and who signed it by the
    lock."""
    release, found = lock["kernel_release"], list[dict[str, str]]()
    signers = {name: one["signer"] for one in lock["kernel_modules"] for name in one["names"]}
    if not signers:
        pytest.skip("not asked: the definition names no modules")
    fields = ("filename", "vermagic", "signer")
    said = gather({f"{name} {field}": f"modinfo -k {release} -F {field} {name}"
                   for name in signers for field in fields})
    for name, signer in signers.items():
        facts = {field: said[f"{name} {field}"].text for field in fields}
        found.append({"name": name, "wanted": signer, **facts})
    return found


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


@pytest.mark.no_boot
def test_out_of_tree_modules_are_those_of_the_lock(
    modules: list[dict[str, str]], lock: dict[str, Any]
) -> None:
    """Found before the kernel's own of the same name, for this kernel, signed by the lock's signer
    or nobody."""
    release = lock["kernel_release"]
    wrong = [one for one in modules
             if f"/{release}/updates/dkms/{one['name']}.ko" not in one["filename"]
             or one["vermagic"].split(" ")[0] != release or one["signer"] != one["wanted"]]
    assert not wrong, wrong


def test_the_kernel_takes_out_of_tree_modules(
    modules: list[dict[str, str]], gather: Any, needs_boot: None
) -> None:
    """Without its hardware a module may say so; one that does not fit is `Invalid module
    format`."""
    names = [one["name"] for one in modules]
    said = gather({name: f"modprobe {name} && modprobe -r -q {name}" for name in names})
    refused = {name: answer.text for name, answer in said.items()
               if answer.text and "No such device" not in answer.text}
    assert not refused, refused
