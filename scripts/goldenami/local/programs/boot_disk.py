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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from goldenami.core.wait import wait_until
from goldenami.local.checks import hardening_scan, image_tests
from goldenami.local.machine import ssh
from goldenami.local.programs import boot_checks, disk_at_rest
from goldenami.local.sandbox import events, program
from goldenami.local.vm import cpu, second_boot, vm
from goldenami.local.vm.second_boot import Booted
from goldenami.model.builds.build_records import Accel, Boot, Check
from goldenami.model.builds.hardening_records import HardeningScan
from goldenami.model.builds.plans import VerifyPlan, VerifyResult
from goldenami.model.supported import instruction_sets

INSTANCES = {vm.Firmware.BIOS: "i-0b105000000000001", vm.Firmware.UEFI: "i-00ef1000000000002"}
"""Instance ids: each boot is another instance, as two launches of one AMI are."""
POLL_S = 0.2


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
        tree = stack.enter_context(disk_at_rest.root_tree(plan.disk, work / disk_at_rest.ROOT))
        without_boot = stack.enter_context(
            _image_tests(plan).running(image_tests.without_boot(tree), name="-disk")
        )
        second = stack.enter_context(
            second_boot.beside(_config(plan, vm.Firmware.UEFI, accelerator, key, emulated))
        )
        disk_checks = stack.enter_context(ThreadPoolExecutor(1)).submit(
            disk_at_rest.check, plan, tree
        )
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
                *boot_checks.oldest_cpu(plan, machine, emulated),
            ]
        hardening = _hardening(plan, machine, tree)
        first = _powered_off(
            plan, machine, _config(plan, vm.Firmware.BIOS, accelerator, key, emulated), identity
        )
        booted = {vm.Firmware.BIOS: first, vm.Firmware.UEFI: second.outcome()}
    for firmware, boot in booted.items():
        checks += boot_checks.of_boot(firmware.value, boot)
    checks += boot_checks.of_both(plan, [boot.identity for boot in booted.values()])
    boots = [
        Boot(firmware=firmware.value, seconds_to_ssh=round(boot.seconds_to_ssh, 1))
        for firmware, boot in booted.items()
    ]
    return VerifyResult(accel=accelerator, boots=boots, checks=checks, hardening=hardening)


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
            ended = second.has_ended and all(run.process.poll() is not None for run in runs)
            return ended or None

        wait_until(all_ended, math.inf, POLL_S)
        checks = [*tests.checks(), *without_boot.checks()]
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


if __name__ == "__main__":
    sys.exit(program.serve(VerifyPlan, verify))
