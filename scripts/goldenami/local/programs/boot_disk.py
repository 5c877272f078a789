"""Boot the sealed disk twice and check it, in namespaces of its own: `python -m
goldenami.local.programs.boot_disk PLAN`.

Three things happen at once, all from the same untouched disk: a boot under BIOS, on which
tests/image run; one under UEFI, which shows that identity is made anew; and the tests that need no
boot, in the disk's root tree, because emulation makes a compiler ten times slower.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goldenami.core import records, shell
from goldenami.core.errors import HostNotReady, NotVerified
from goldenami.core.wait import wait_until
from goldenami.local.checks import hardening_scan, image_tests, unused_space
from goldenami.local.disk import disk
from goldenami.local.machine import container, ssh
from goldenami.local.sandbox import events, program
from goldenami.local.tree import rootfs, sealed
from goldenami.local.vm import cpu, second_boot, vm
from goldenami.local.vm.second_boot import Booted
from goldenami.model import program_files
from goldenami.model.builds import disk_blocks
from goldenami.model.builds.build_records import Accel, Boot, Check, CoverageRecord
from goldenami.model.builds.hardening_records import HardeningScan
from goldenami.model.builds.plans import VerifyPlan, VerifyResult
from goldenami.model.roles import role_files
from goldenami.model.supported import instruction_sets

INSTANCES = {vm.Firmware.BIOS: "i-0b105000000000001", vm.Firmware.UEFI: "i-00ef1000000000002"}
"""Instance ids: each boot is another instance, as two launches of one AMI are."""
POLL_S = 0.2
_BELOW = "disk"
"""Folder of `scratch` where the partition itself is mounted, read-only."""


def verify(plan: VerifyPlan) -> VerifyResult:
    """Boot the disk twice, check it, and return what was seen."""
    work = plan.work
    key = ssh.new_key(work / "launch_key", "golden-verify")
    with events.step("probe"):
        kvm_works = vm.kvm_works(plan.disk, work / "probe")
    accelerator = Accel.KVM if kvm_works else Accel.TCG
    events.emit("say", text=f"accelerator: {accelerator.value}")
    emulated = _emulated(plan, accelerator)
    with contextlib.ExitStack() as stack:
        # Also for a boot that fails: its console says why.
        stack.callback(_keep, work)
        tree = stack.enter_context(_tree_of(plan.disk, work / "root"))
        without_boot = stack.enter_context(
            _image_tests(plan).running(image_tests.without_boot(tree), name="-disk")
        )
        second = stack.enter_context(
            second_boot.beside(_config(plan, vm.Firmware.UEFI, accelerator, key, emulated))
        )
        disk_checks = stack.enter_context(ThreadPoolExecutor(1)).submit(_disk_checks, plan, tree)
        with events.step("boot bios"):
            events.emit("say", text="boot uefi, beside it")
            machine = stack.enter_context(
                vm.running(_config(plan, vm.Firmware.BIOS, accelerator, key, emulated))
            )
        with events.step("checks"):
            identity = second_boot.identity(machine)
            checks = [
                *_run_tests(plan, machine, without_boot, second),
                *disk_checks.result(),
                *oldest_cpu(plan, machine, emulated),
            ]
        hardening = _hardening(plan, machine, tree)
        first = _powered_off(
            plan, machine, _config(plan, vm.Firmware.BIOS, accelerator, key, emulated), identity
        )
        booted = {vm.Firmware.BIOS: first, vm.Firmware.UEFI: second.outcome()}
    checks += [
        check for firmware, boot in booted.items() for check in _after_boot(firmware.value, boot)
    ]
    checks += _boot_checks(plan, work, [boot.identity for boot in booted.values()])
    boots = [
        Boot(firmware=firmware.value, seconds_to_ssh=round(boot.seconds_to_ssh, 1))
        for firmware, boot in booted.items()
    ]
    return VerifyResult(accel=accelerator, boots=boots, checks=checks, hardening=hardening)


@contextlib.contextmanager
def _tree_of(image: Path, scratch: Path) -> Iterator[Path]:
    """Mount the root of the disk `image` with a /proc and a /dev of its own, and yield it. Raises
    HostNotReady without a loop device, NotVerified for a disk that has no such root."""
    below = scratch / _BELOW
    below.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        try:
            shell.output(
                [
                    "mount",
                    "-t",
                    "ext4",
                    "-o",
                    # noload: not even the journal may be replayed (ext4(5)), so that the disk stays
                    # as it is.
                    f"loop,ro,noload,offset={disk.ROOT_OFFSET}",
                    str(image),
                    str(below),
                ]
            )
        except shell.CommandFailed as error:
            if "loop device" in error.output:
                raise HostNotReady(
                    "`verify` needs a loop device, and there is none",
                    hint="`modprobe loop`",
                    tail=error.tail,
                ) from None
            raise NotVerified(
                f"the root of {image} cannot be mounted: {error.message}", tail=error.tail
            ) from None
        stack.callback(_unmount, below)
        tree = stack.enter_context(container.overlay([below], scratch))
        shell.output(["mount", "-t", "proc", "proc", str(tree / "proc")])
        stack.callback(_unmount, tree / "proc")
        stack.callback(_unmount, rootfs.devices(tree))
        yield tree


def _unmount(target: Path) -> None:
    shell.output(["umount", "--lazy", str(target)], check=False)


def _emulated(plan: VerifyPlan, accelerator: Accel) -> cpu.Emulated | None:
    """Return the CPU of both boots under emulation, which has what all declared families have; None
    under KVM, where hiding a feature does not stop its instructions."""
    if accelerator is Accel.KVM:
        return None
    emulated = cpu.emulated(plan.features, instruction_sets.KNOWN_X86)
    if emulated.missing:
        events.emit(
            "say",
            text=f"the emulator has no {', '.join(emulated.missing)}: the image runs on less "
            "than declared",
        )
    return emulated


def _config(
    plan: VerifyPlan,
    firmware: vm.Firmware,
    accelerator: Accel,
    key: Path,
    emulated: cpu.Emulated | None,
) -> vm.VmConfig:
    return vm.VmConfig(
        disk=plan.disk,
        scratch=plan.work / firmware.value,
        private_key=key,
        user=plan.user,
        firmware=firmware,
        accelerator=accelerator,
        size_bytes=plan.disk.stat().st_size + plan.growth_bytes,
        instance_id=INSTANCES[firmware],
        ssh_limit_s=plan.boot_limit_s,
        cpu=emulated.argument if emulated else "max",
    )


def _keep(work: Path) -> None:
    """Move the logs of both boots into `work`, where the run keeps them."""
    for firmware in vm.Firmware:
        scratch = work / firmware.value
        if (scratch / "serial.log").exists():
            (scratch / "serial.log").rename(work / f"serial-{firmware.value}.log")
        if (scratch / "imds.log").exists():
            with (work / "imds.log").open("a", encoding="utf-8") as sink:
                sink.write((scratch / "imds.log").read_text(encoding="utf-8"))


def _disk_checks(plan: VerifyPlan, tree: Path) -> list[Check]:
    """Check what the written disk holds, in its root `tree` and beside it, while a machine
    boots."""
    began = time.monotonic()
    beside = unused_space.find(plan.disk)
    searched = time.monotonic()
    checks = [
        Check.of_boot(
            "disk_is_its_tree",
            "Beside its files the disk is zeros, and no secret is in what boots it",
            not beside,
            "; ".join(beside[: sealed.SHOWN]),
            round(searched - began, 2),
        )
    ]
    variables = json.loads(plan.variables.read_text(encoding="utf-8"))
    leftovers = sealed.findings(
        plan.work / "root" / _BELOW,
        program_files.role(plan.root, "seal") / "files/seal.py",
        role_files.of_image(plan.root, variables),
    )
    checks.append(
        Check.of_boot(
            "disk_is_sealed",
            "No file of the written disk is secret, or one machine's own",
            not leftovers,
            "; ".join(leftovers[: sealed.SHOWN]),
            round(time.monotonic() - searched, 2),
        )
    )
    return checks + code(
        plan,
        lambda command: shell.output(
            # At the lowest priority, so that the boots beside it keep their time.
            ["nice", "-n", "19", "chroot", str(tree), "sh", "-c", command]
        ),
    )


def _image_tests(plan: VerifyPlan) -> image_tests.ImageTests:
    return image_tests.ImageTests(plan.root, plan.roles, plan.variables, plan.work, plan.log)


def _run_tests(
    plan: VerifyPlan,
    machine: vm.Machine,
    without_boot: image_tests.Run,
    second: second_boot.Second,
) -> list[Check]:
    """Run the tests on the machine, and wait for those elsewhere; a failure of the second boot ends
    all of them."""
    suite = _image_tests(plan)
    argv = image_tests.over_ssh(machine.ssh_config, everything=False)
    with suite.running(argv) as tests:
        runs = [tests, without_boot]

        def all_ended() -> bool | None:
            return (
                second.has_ended and all(run.process.poll() is not None for run in runs)
            ) or None

        wait_until(all_ended, math.inf, POLL_S)
        checks = [check for run in runs for check in run.checks()]
    return image_tests.complete(checks, suite.asked)


def _hardening(plan: VerifyPlan, machine: vm.Machine, tree: Path) -> HardeningScan | None:
    """Return what a public guide says of an image with the role, or None without it. All tests in
    the disk's tree have ended by then."""
    if "hardening" not in plan.roles:
        return None
    with events.step("hardening"):
        parameters = machine.ssh(
            image_tests.as_root(hardening_scan.READ_PARAMETERS), timeout_s=plan.boot_limit_s
        )
        return hardening_scan.scan(tree, parameters, plan.work)


def oldest_cpu(plan: VerifyPlan, machine: vm.Machine, emulated: cpu.Emulated | None) -> list[Check]:
    """Check which CPU the whole image ran on; no check if it was not emulated."""
    if emulated is None:
        return []
    flags = machine.ssh("grep -m1 ^flags /proc/cpuinfo").split()
    beyond = sorted(cpu.shown(flags, instruction_sets.KNOWN_X86) - set(plan.features))
    return [
        Check.of_boot(
            "oldest_cpu",
            "The whole image ran on what all declared CPUs have, and no more",
            not beyond,
            f"the machine also had {', '.join(beyond)}",
        )
    ]


def code(plan: VerifyPlan, ask: Callable[[str], str]) -> list[Check]:
    """Check that the disk has the files that the coverage check read at the bake; `ask` runs a
    command there as root."""
    return image_tests.code(records.read(plan.coverage, CoverageRecord), ask)


def _powered_off(
    plan: VerifyPlan, machine: vm.Machine, config: vm.VmConfig, identity: list[str]
) -> Booted:
    """Power the first boot off, and return what it was and how it left its disk."""
    with events.step("power off bios"):
        clean = vm.power_off(machine)
    variables = json.loads(plan.variables.read_text(encoding="utf-8"))
    with events.step("drift"):
        # If packages may change, the tests have changed one.
        drift = None if variables.get("seal_package_changes_enabled") else second_boot.drift(config)
    return Booted(
        seconds_to_ssh=machine.seconds_to_ssh, identity=identity, powered_off=clean, drift=drift
    )


def _after_boot(firmware: str, boot: Booted) -> Iterator[Check]:
    yield Check.of_boot(
        f"power_off[{firmware}]",
        "The machine powers off by itself",
        boot.powered_off,
        f"it did not within {vm.POWER_OFF_LIMIT_S:.0f} s",
    )
    if boot.drift is not None:
        yield Check.of_boot(
            f"as_baked[{firmware}]",
            "A machine that has booted is no drift",
            not boot.drift,
            "; ".join(boot.drift[: sealed.SHOWN]),
        )


def _boot_checks(plan: VerifyPlan, work: Path, identities: list[list[str]]) -> list[Check]:
    # Machine ids and host keys are long; the cloud's name and the kernel's release are not.
    first, second = ({part for part in identity if len(part) >= 32} for identity in identities)
    shared = sorted(first & second)
    requests = [
        json.loads(line) for line in (work / "imds.log").read_text(encoding="utf-8").splitlines()
    ]
    answered = [
        request for request in requests if request["method"] == "GET" and request["status"] == 200
    ]
    with_token = [request for request in answered if request["token"] in {"valid"}]
    without_token = sorted({request["path"] for request in answered if request not in with_token})
    began = time.monotonic()
    untouched = disk_blocks.is_as_baked(plan.disk, plan.baked)
    hashing = round(time.monotonic() - began, 2)
    return [
        Check.of_boot(
            "new_identity",
            "Two launches share no machine-id and no SSH host key",
            not shared and len(first) >= 2,
            f"both have {', '.join(shared) or 'too few identities'}",
        ),
        Check.of_boot(
            "ec2_datasource",
            "cloud-init chose its Ec2 source on both boots",
            all("aws" in identity for identity in identities),
            f"cloud-id said {identities}",
        ),
        Check.of_boot(
            "imdsv2",
            "The metadata was read, and only with a session token",
            bool(answered) and not without_token,
            f"read without one: {', '.join(without_token) or 'nothing was read at all'}",
        ),
        Check.of_boot(
            "disk_untouched",
            "The disk is byte for byte what was baked",
            untouched,
            f"it is no longer the disk of SHA-256 {plan.baked.sha256} that the bake recorded",
            hashing,
        ),
    ]


if __name__ == "__main__":
    sys.exit(program.serve(VerifyPlan, verify))
