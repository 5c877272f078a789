"""One fixed kernel, its command line, and an initramfs that reaches the root disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/kernel"


def words(lock: dict[str, Any]) -> list[str]:
    """The command line beyond the root: the role's own words, then the definition's."""
    facts = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    return [*facts["__kernel_own_cmdline"], *lock["kernel_cmdline"]]


@pytest.fixture(scope="module")
def before_the_root(host: Any, lock: dict[str, Any]) -> str:
    """What the initramfs has, and what is built into the kernel."""
    release = lock["kernel_release"]
    built_in = host.file(f"/lib/modules/{release}/modules.builtin").content_string
    return str(host.check_output(f"lsinitramfs /boot/initrd.img-{release}") + built_in)


@pytest.fixture(scope="module")
def modules(host: Any, lock: dict[str, Any]) -> list[dict[str, str]]:
    """What modinfo says of each out-of-tree module for the image's kernel, and who signed it by the
    lock."""
    release, found = lock["kernel_release"], list[dict[str, str]]()
    signers = {name: one["signer"] for one in lock["kernel_modules"] for name in one["names"]}
    if not signers:
        pytest.skip("not asked: the definition names no modules")
    for name, signer in signers.items():
        facts = {
            field: host.run(f"modinfo -k {release} -F {field} {name}").stdout.strip()
            for field in ("filename", "vermagic", "signer")
        }
        found.append({"name": name, "wanted": signer, **facts})
    return found


@pytest.mark.no_boot
def test_kernel_is_the_locked_one_alone_and_held(host: Any, lock: dict[str, Any]) -> None:
    form = r"${db:Status-Want} ${db:Status-Status} ${Package}\n"
    lines = host.check_output("dpkg-query -W -f %s 'linux-image-*'", form).splitlines()
    installed = [line.split() for line in lines if line.split()[1] == "installed"]
    assert installed == [["hold", "installed", lock["kernel_package"]]]


@pytest.mark.no_boot
def test_boot_holds_that_kernel_and_its_initramfs(host: Any, lock: dict[str, Any]) -> None:
    release = lock["kernel_release"]
    found = host.check_output("ls /boot/vmlinuz-* /boot/initrd.img-*").split()
    assert found == [f"/boot/initrd.img-{release}", f"/boot/vmlinuz-{release}"]
    assert host.file(f"/boot/initrd.img-{release}").size > 1 << 20


@pytest.mark.no_boot
@pytest.mark.parametrize("driver", ["/nvme.ko", "/virtio_blk.ko", "/virtio_net.ko", "/ena.ko"])
def test_root_disk_and_network_are_reached_before_there_is_a_root(
    before_the_root: str, driver: str
) -> None:
    """In the initramfs, or built into the kernel."""
    assert driver in before_the_root


@pytest.mark.no_boot
def test_initramfs_is_zstd(host: Any, lock: dict[str, Any]) -> None:
    image = f"/boot/initrd.img-{lock['kernel_release']}"
    found = host.check_output(f"LC_ALL=C grep -acP '\\x28\\xb5\\x2f\\xfd' {image}")
    assert int(found) > 0


@pytest.mark.no_boot
def test_command_line_for_the_loader_is_the_lock_s(host: Any, lock: dict[str, Any]) -> None:
    found = host.file("/etc/default/golden-cmdline").content_string
    assert found.splitlines() == [" ".join(words(lock))]


@pytest.mark.no_boot
def test_efa_has_its_driver_and_its_library_where_it_is_asked_for(
    host: Any, lock: dict[str, Any]
) -> None:
    if not lock["kernel_efa_enabled"]:
        pytest.skip("not asked: the definition wants no EFA")
    assert "/efa.ko" in host.check_output(f"modinfo -k {lock['kernel_release']} -F filename efa")
    assert "/libefa-" in host.check_output("ls /usr/lib/*/libibverbs/libefa-*.so")


def test_kernel_booted_with_that_command_line(
    host: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    found = host.file("/proc/cmdline").content_string
    assert not set(words(lock)) - set(found.split()), found


def test_running_kernel_is_the_locked_one(
    host: Any, lock: dict[str, Any], needs_boot: None
) -> None:
    assert host.sysctl("kernel.osrelease") == lock["kernel_release"]


def test_no_unit_was_left_out_of_the_boot(host: Any, needs_boot: None) -> None:
    """Where units wait for each other in a circle, systemd starts all but one, and none of them
    fails."""
    said = host.run("journalctl --boot --no-pager --output=cat | grep -i 'ordering cycle'")
    assert said.stdout == ""


@pytest.mark.no_boot
def test_out_of_tree_modules_are_those_of_the_lock(
    modules: list[dict[str, str]], lock: dict[str, Any]
) -> None:
    """Found before the kernel's own of the same name, for this kernel, signed by the lock's signer
    or nobody."""
    release = lock["kernel_release"]
    wrong = [
        one
        for one in modules
        if f"/{release}/updates/dkms/{one['name']}.ko" not in one["filename"]
        or one["vermagic"].split(" ")[0] != release
        or one["signer"] != one["wanted"]
    ]
    assert not wrong, wrong


def test_the_kernel_takes_out_of_tree_modules(
    modules: list[dict[str, str]], host: Any, needs_boot: None
) -> None:
    """Without its hardware a module may say so; one that does not fit is `Invalid module format`.
    What nothing had loaded is unloaded where it goes."""
    refused = {}
    for name in [one["name"] for one in modules]:
        if host.file(f"/sys/module/{name.replace('-', '_')}").is_directory:
            continue
        said = host.run(f"modprobe {name}")
        host.run(f"modprobe -r {name}")
        if said.rc and "No such device" not in said.stderr:
            refused[name] = said.stderr
    assert not refused, refused
